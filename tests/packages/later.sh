#!/usr/bin/env bash
# Makes a package of a higher version out of another: the same programs, and a line more in each file of the configuration.
#   later.sh PACKAGE FOLDER
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb --raw-extract "$1" "$work/package"
cd "$work/package"
sed -i 's/^Version: .*/&.1/' DEBIAN/control
if [ -e DEBIAN/conffiles ]; then
    while read -r file; do
        echo "# The maintainer's own change." >>".$file"
    done <DEBIAN/conffiles
fi
# Quickly: nobody keeps it.
dpkg-deb --root-owner-group -Zgzip -z1 --build . "$2" >/dev/null
