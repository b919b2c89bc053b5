#!/usr/bin/env bash
# Debian as the image has it, before anything of Waypost's is in it: packages.txt, set up with what is in base/, without an
# initramfs. A tar file.
#   images/base.sh NATIVE FILE      # NATIVE: what native.sh makes
set -euo pipefail
# Whatever is mounted goes with this.
[ -n "${WAYPOST_MOUNTS:-}" ] || WAYPOST_MOUNTS=own exec unshare --mount "$0" "$@"
native=$(realpath "$1")
out=$(realpath -m "$2")
cd "$(dirname "$0")"
release=$(<debian)

mirrors=$(python3 ../tests/radio-lab/guest/mirrors.py)
{ read -r main && read -r security; } <<<"$mirrors" || true
signed="[signed-by=$(ls /usr/share/keyrings/debian-archive-keyring.*pg | head -n 1)]"
sources=("deb $signed $main $release main non-free-firmware")
[ -n "$security" ] || echo "apt on this machine has no security updates of Debian's: the image gets none" >&2
[ -z "$security" ] || sources+=("deb $signed $security $release-security main non-free-firmware")

# Nothing is flushed: what is half made is made anew. root.sh makes the initramfs, when all is there that goes into it.
path=/native:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
INITRD=No PATH=$path mmdebstrap --quiet --variant=minbase --architectures=arm64 --format=tar \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' --aptopt="DPkg::Path \"$path\"" \
    --dpkgopt=base/etc/dpkg/dpkg.cfg.d/waypost --dpkgopt=force-confold --dpkgopt=force-unsafe-io \
    --include="$(grep -v '^#' packages.txt | paste -sd,)" \
    --extract-hook="./base-hook.sh extract '$native' \"\$1\"" --essential-hook="./base-hook.sh essential '$native' \"\$1\"" \
    --customize-hook="./base-hook.sh customize '$native' \"\$1\"" \
    "$release" "$out" "${sources[@]}"
