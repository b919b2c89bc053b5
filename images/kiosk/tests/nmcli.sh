#!/usr/bin/env bash
# Unpacks NetworkManager's nmcli below target/, without installing it: its daemon would take over this machine's networks.
# Prints the command.
set -euo pipefail
cd "$(dirname "$0")/../../.."
place=$(realpath -m "${CARGO_TARGET_DIR:-target}")/nmcli
command=$place/nmcli

if [ ! -x "$command" ]; then
    rm -rf "$place"
    mkdir -p "$place/packages"
    download() { (cd "$place/packages" && apt-get download --quiet network-manager libnm0 >&2); }
    # Lists that are out of date name files that are gone.
    download || { apt-get update -qq >&2 && download; }
    for package in "$place"/packages/*.deb; do
        dpkg-deb --extract "$package" "$place/root"
    done
    libraries=$(dirname "$(find "$place/root" -name 'libnm.so.0')")
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$libraries" "$place/root/usr/bin/nmcli" >"$command"
    chmod +x "$command"
fi
"$command" --version >&2 || {
    rm -f "$command"
    echo "nmcli lacks libraries here: install libglib2.0-0 and libreadline8" >&2
    exit 1
}
echo "$command"
