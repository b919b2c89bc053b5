#!/usr/bin/env bash
# Installs Python packages for tests, with the versions of a list, into a folder of the build; prints the interpreter that has
# them. Does nothing where they are there.
#   tests/tools/python.sh [LIST [options of pip]]     without a list: tests/tools/python.txt
set -euo pipefail
cd "$(dirname "$0")/../.."
packages=${1:-tests/tools/python.txt}
name=$(basename "$packages" .txt)
folder=${CARGO_TARGET_DIR:-$PWD/target}/tools/$name
mkdir -p "$folder"
exec 9>"$folder.lock"
flock 9
if ! cmp -s "$packages" "$folder/installed.txt"; then
    python3 -m venv --clear "$folder" >&2 || {
        echo "python3-venv is missing; install it, then run this again" >&2
        exit 1
    }
    "$folder/bin/pip" install --quiet --disable-pip-version-check --requirement "$packages" "${@:2}" >&2
    cp "$packages" "$folder/installed.txt"
fi
echo "$folder/bin/python"
