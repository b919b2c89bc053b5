#!/usr/bin/env bash
# Installs what the radio lab needs on this machine and does not find. Says so when it can't.
set -euo pipefail

missing=()
need() { # command or file, package
    command -v "$1" >/dev/null || [ -e "/usr/sbin/$1" ] || [ -e "/sbin/$1" ] || missing+=("$2")
}
need qemu-system-x86_64 qemu-system-x86
need mmdebstrap mmdebstrap
need cpio cpio
need depmod kmod
need mke2fs e2fsprogs
need xz xz-utils
need strip binutils
# An ordinary user's own user namespace, in which the guest is built.
[ "$(id -u)" -eq 0 ] || need newuidmap uidmap
[ ${#missing[@]} -eq 0 ] && exit 0

cannot() {
    echo "The radio lab needs these Debian packages, $1: ${missing[*]}" >&2
    exit 1
}
[ "$(uname -m)" = x86_64 ] || cannot "and an x86-64 machine besides"
command -v apt-get >/dev/null || cannot "and this is no Debian-like system"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || cannot "and neither root nor sudo without a password is there to install them"
    as_root=(sudo -n)
fi
echo "Installing Debian packages: ${missing[*]}"
install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}")
"${as_root[@]}" apt-get update -qq || true
"${as_root[@]}" "${install[@]}" >/dev/null && exit 0
# Parts of QEMU that came from backports want the others from there too.
backports=$(. /etc/os-release && echo "$VERSION_CODENAME-backports")
"${as_root[@]}" "${install[@]}" -t "$backports" >/dev/null || cannot "which apt cannot install"
