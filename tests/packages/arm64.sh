#!/usr/bin/env bash
# Looks at the packages for arm64 without an arm64 machine: what they are, what they ask for, and that their programs start,
# in the emulator for single programs, with the libraries of the oldest Debian that they are for.
#   arm64.sh FOLDER-OF-PACKAGES
set -euo pipefail
packages=$(realpath "$1")
cd "$(dirname "$0")/../.."
emulator=$(command -v qemu-aarch64-static || command -v qemu-aarch64) || {
    echo "there is no qemu-aarch64 (Debian's package qemu-user): the programs are looked at, not run"
    emulator=
}
# By its own path: with the cross compiler's libraries the emulator stands still at a program's first thread.
sysroot=$(images/cross/sysroot.sh arm64)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for program in waypost waypost-phone waypost-destination waypost-kiosk; do
    found=("$packages/$program"_*_arm64.deb)
    [ -e "${found[0]}" ] && [ ${#found[@]} -eq 1 ] || {
        echo "there is not one package of $program for arm64 in $packages, but ${#found[@]}: ${found[*]}"
        exit 1
    }
    [ "$(dpkg-deb -f "${found[0]}" Architecture)" = arm64 ]
    dpkg-deb -x "${found[0]}" "$work"
    readelf -h "$work/usr/bin/$program" | grep -q 'Machine: *AArch64'
    images/oldest.sh "$work/usr/bin/$program"
    if [ -n "$emulator" ]; then
        version=$("$emulator" -L "$sysroot" "$work/usr/bin/$program" --version)
        echo "$version"
        [[ "$version" = "$program "* ]]
    fi
done
# The pages were made by programs of another architecture.
[ "$(find "$work/usr/share/man/man1" -name 'waypost*.1.gz' | wc -l)" -gt 60 ]
