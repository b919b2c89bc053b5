#!/usr/bin/env bash
# Unpacks NetworkManager's nmcli below target/, without installing it: its daemon would take over this machine's networks.
# Prints the command. So that NetworkManager itself reads the key files:
#   WAYPOST_NMCLI=$(images/kiosk/tests/nmcli.sh) cargo test -p waypost-kiosk --test network_manager
set -euo pipefail
cd "$(dirname "$0")/../../.."
place=${CARGO_TARGET_DIR:-$PWD/target}/nmcli
command=$place/nmcli

if [ ! -x "$command" ]; then
    rm -rf "$place"
    mkdir -p "$place/packages"
    (cd "$place/packages" && apt-get download --quiet network-manager libnm0 >&2)
    for package in "$place"/packages/*.deb; do
        dpkg-deb --extract "$package" "$place/root"
    done
    libraries=$(dirname "$(find "$place/root" -name 'libnm.so.0')")
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$libraries" "$place/root/usr/bin/nmcli" >"$command"
    chmod +x "$command"
fi
"$command" --version >&2 || {
    rm -f "$command"
    echo "nmcli lacks libraries here: install libglib2.0-0, libgnutls30 and libreadline8" >&2
    exit 1
}
echo "$command"
