#!/usr/bin/env bash
# Prints the folder of a small Debian in which packages are tried; makes it where it is missing, from the mirrors that
# this machine's apt has. It is never changed: who uses it lays a file system of its own over it.
#   chroot.sh bookworm|trixie     as root
set -euo pipefail
cd "$(dirname "$0")/../.."
release=$1
# What the packages depend on, so that they are installed without a network; what reads manual pages.
packages=debconf,systemd,libssl3,libdbus-1-3,mandoc
if [ "$release" = trixie ]; then
    # Its tools judge the packages and the completions.
    packages=${packages/libssl3/libssl3t64},lintian,zsh,fish
fi

kept=$(realpath -m "${CARGO_TARGET_DIR:-target}/packages")
folder=$kept/$release-$(sha256sum "$0" | cut -c1-12)
mkdir -p "$kept"
exec 9>"$kept/$release.lock"
flock 9
if [ ! -d "$folder" ]; then
    rm -rf "$kept/$release"-*
    mirrors=$(python3 tests/radio-lab/guest/mirrors.py)
    { read -r main && read -r security; } <<<"$mirrors" || true
    signed="[signed-by=$(ls /usr/share/keyrings/debian-archive-keyring.*pg | head -n 1)]"
    sources=("deb $signed $main $release main")
    [ -z "$security" ] || sources+=("deb $signed $security $release-security main")
    echo "making a Debian $release" >&2
    mmdebstrap --quiet --mode=root --variant=minbase --format=directory --skip=cleanup/apt \
        --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/waypost*' \
        --include="$packages" "$release" "$folder.new" "${sources[@]}" >&2
    mv "$folder.new" "$folder"
fi
echo "$folder"
