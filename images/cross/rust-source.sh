#!/usr/bin/env bash
# Fetches the source of Rust's standard library, of exactly this version, from Debian's package `rust-src`. Nothing is
# installed: apt runs with folders of its own, and this machine's mirror.
#   rust-source.sh VERSION FOLDER
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$1
folder=$2
[ ! -d "$folder" ] || exit 0

mirrors=$(python3 tests/radio-lab/guest/mirrors.py)
keyring=$(ls /usr/share/keyrings/debian-archive-keyring.*pg | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
touch "$work/status"
apt=(-qq -o Dir::State="$work/state" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache"
    -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Acquire::Languages=none
    -o APT::Sandbox::User="$(id -un)")

# Where Debian has new versions of it, the likeliest first.
for suite in trixie-backports trixie sid; do
    echo "deb [signed-by=$keyring] ${mirrors%%$'\n'*} $suite main" >"$work/sources.list"
    apt-get "${apt[@]}" update >&2 || continue
    found=$(apt-cache "${apt[@]}" madison rust-src | awk -F'[ |]+' -v "wanted=$version+" 'index($3, wanted) == 1 { print $3; exit }')
    [ -n "$found" ] || continue
    echo "fetching the source of Rust $version" >&2
    (cd "$work" && apt-get "${apt[@]}" download "rust-src=$found" >&2)
    dpkg-deb -x "$work"/rust-src_*.deb "$work/unpacked"
    mkdir -p "$(dirname "$folder")"
    rm -rf "$folder.new"
    mv "$work/unpacked/usr/src/rustc-$version" "$folder.new"
    mv "$folder.new" "$folder"
    exit
done
echo "Debian has no rust-src $version, which Rust's standard library would be built from: \`rustup target add" \
    "aarch64-unknown-linux-gnu\` where the toolchain's own server can be reached, or a Rust whose source Debian has." >&2
exit 1
