#!/usr/bin/env bash
# Looks whether every file of systemd/ is in one of the packages, byte for byte: what is made there and forgotten in a
# package's list is missing on every kiosk.
#   complete.sh FOLDER-OF-PACKAGES
set -euo pipefail
packages=$(realpath "$1")
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for deb in "$packages"/*.deb; do
    dpkg-deb -x "$deb" "$work"
done
packaged=$(find "$work" -type f -print0 | xargs -0 sha256sum)
missing=0
while read -r sum file; do
    if ! grep -q "^$sum " <<<"$packaged"; then
        echo "$file is in no package; each crate's Cargo.toml has its package's list ([package.metadata.deb])"
        missing=1
    fi
done < <(git ls-files -z systemd | xargs -0 sha256sum)
exit $missing
