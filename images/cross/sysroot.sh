#!/usr/bin/env bash
# Prints a folder with Debian's libraries and headers for an architecture, which programs are linked with; makes it where it
# is missing, in some seconds, from the mirror that this machine's apt has.
#   sysroot.sh arm64|amd64
set -euo pipefail
cd "$(dirname "$0")/../.."
arch=$1
# The oldest Debian that packages are for: what is linked here runs there and on all later ones.
release=bookworm
packages=libc6-dev,libgcc-12-dev,linux-libc-dev,libdbus-1-dev,libssl-dev

folder=$(realpath -m "${CARGO_TARGET_DIR:-target}/cross/sysroot-$release-$arch")
mkdir -p "$(dirname "$folder")"
exec 9>"$folder.lock"
flock 9
if [ ! -d "$folder" ]; then
    mirrors=$(python3 tests/radio-lab/guest/mirrors.py)
    keyring=$(ls /usr/share/keyrings/debian-archive-keyring.*pg | head -n 1)
    rm -rf "$folder.new"
    echo "unpacking Debian's libraries for $arch" >&2
    # Nothing of it is run. /lib is made a link at first, since Debian 12 still has libraries in both places.
    mmdebstrap --quiet --variant=extract --architectures="$arch" --format=directory \
        --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --setup-hook='mkdir -p "$1/usr/lib" && ln -s usr/lib "$1/lib"' \
        --include="$packages" "$release" "$folder.new" "deb [signed-by=$keyring] ${mirrors%%$'\n'*} $release main" >&2
    # Links to / would lead into this machine's own libraries.
    find "$folder.new/usr/lib" -type l -lname '/*' | while read -r link; do
        ln -sfn --relative "$folder.new$(readlink "$link")" "$link"
    done
    mv "$folder.new" "$folder"
fi
echo "$folder"
