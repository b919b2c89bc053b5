#!/usr/bin/env bash
# Installs what the image needs on this machine and does not find, and lets the kernel run arm64's programs. Exit status 77, and
# why, where that can't be.
set -euo pipefail

missing=()
need() { # command or file, package
    command -v "$1" >/dev/null || [ -e "/usr/sbin/$1" ] || [ -e "/sbin/$1" ] || missing+=("$2")
}
need mmdebstrap mmdebstrap
need arch-test arch-test
need qemu-aarch64-static qemu-user-static
need tar2sqfs squashfs-tools-ng
need genimage genimage
need mkfs.vfat dosfstools
need mcopy mtools
need mke2fs e2fsprogs
need zstd zstd
need modinfo kmod
need fdtput device-tree-compiler
# Those are for trying it.
need qemu-system-aarch64 qemu-system-arm
need socat socat
need ssh openssh-client

cannot() {
    echo "The image needs $1" >&2
    exit 77
}
[ "$(id -u)" -eq 0 ] || cannot "root: it installs arm64's packages in a folder that is their root"
if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || cannot "these Debian packages, and this is no Debian-like system: ${missing[*]}"
    echo "Installing Debian packages: ${missing[*]}"
    apt-get update -qq || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null ||
        cannot "these Debian packages, which apt cannot install: ${missing[*]}"
fi

# Their maintainers' scripts run under emulation.
[ "$(uname -m)" != aarch64 ] || exit 0
formats=/proc/sys/fs/binfmt_misc
[ -e $formats/register ] || mount -t binfmt_misc binfmt_misc $formats || cannot "binfmt_misc, which this kernel does not give"
compgen -G "$formats/qemu-aarch64*" >/dev/null || cat /usr/lib/binfmt.d/qemu-aarch64*.conf >$formats/register
