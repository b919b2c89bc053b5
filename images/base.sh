#!/usr/bin/env bash
# Debian as the image has it, before anything of Waypost's is in it: packages.txt, set up with what is in base/. A tar file.
#   images/base.sh FILE
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")"
release=trixie

mirrors=$(python3 ../tests/radio-lab/guest/mirrors.py)
{ read -r main && read -r security; } <<<"$mirrors" || true
signed="[signed-by=$(ls /usr/share/keyrings/debian-archive-keyring.*pg | head -n 1)]"
sources=("deb $signed $main $release main non-free-firmware")
[ -z "$security" ] || sources+=("deb $signed $security $release-security main non-free-firmware")

# Nothing is flushed: what is half made is made anew.
mmdebstrap --quiet --variant=minbase --architectures=arm64 --format=tar \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt=base/etc/dpkg/dpkg.cfg.d/waypost --dpkgopt=force-confold --dpkgopt=force-unsafe-io \
    --include="$(grep -v '^#' packages.txt | paste -sd,)" \
    --essential-hook="copy-in base/etc /" \
    "$release" "$out" "${sources[@]}"
