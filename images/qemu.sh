#!/usr/bin/env bash
# Prints a command that is QEMU for arm64: this machine's, where it is of version 9 or newer, else Debian 13's, which is unpacked into
# a folder in half a minute. Older ones take half as long again for a kiosk's start.
#   images/qemu.sh FOLDER
set -euo pipefail
folder=$(realpath -m "$1")
cd "$(dirname "$0")/.."
system=qemu-system-aarch64
version=$($system --version 2>/dev/null | sed -n 's/.*version \([0-9]*\).*/\1/p')
if [ "${version:-0}" -ge 9 ] || [ "$(uname -m)" != x86_64 ]; then
    echo $system
    exit
fi
if [ ! -d "$folder" ]; then
    mirrors=$(python3 tests/radio-lab/guest/mirrors.py)
    keys=$(ls /usr/share/keyrings/debian-archive-keyring.*pg | head -n 1)
    rm -rf "$folder.new"
    echo "unpacking Debian 13's QEMU" >&2
    mmdebstrap --quiet --variant=extract --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
        --include=qemu-system-arm trixie "$folder.new" "deb [signed-by=$keys] ${mirrors%%$'\n'*} trixie main" >&2
    # With the libraries that belong to it.
    libraries=$folder/usr/lib/x86_64-linux-gnu
    cat >"$folder.new/qemu" <<END
#!/bin/sh
QEMU_MODULE_DIR='$libraries/qemu' exec '$folder/usr/lib64/ld-linux-x86-64.so.2' --library-path '$libraries' \\
    '$folder/usr/bin/$system' -L '$folder/usr/share/qemu' "\$@"
END
    chmod 755 "$folder.new/qemu"
    mv "$folder.new" "$folder"
fi
"$folder/qemu" --version >/dev/null
echo "$folder/qemu"
