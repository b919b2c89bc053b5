#!/usr/bin/env bash
# Lists the libraries that the programs contain, with their licences, as THIRD-PARTY.md.
#   tests/tools/third-party.sh          writes it
#   tests/tools/third-party.sh --check  says whether it is current
set -euo pipefail
cd "$(dirname "$0")/../.."

list() {
    echo "# Third-party notices"
    echo
    echo "The programs of Waypost contain these libraries, each under its own licence; the texts are in the packages of"
    echo "the crate registry. Made by \`tests/tools/third-party.sh\`."
    echo
    echo "| library | version | licence |"
    echo "|---|---|---|"
    "${CARGO:-cargo}" tree --locked --edges normal --prefix none --format '{p}|{l}' \
        --target x86_64-unknown-linux-gnu -p waypost-gateway -p waypost-phone -p waypost-destination |
        sed -e 's/ (\*)$//' -e 's/ (proc-macro)//' | grep -v '(/' |
        awk -F'|' 'NF >= 2 && $2 != "" { split($1, name, " v"); print "| " name[1] " | " name[2] " | " $2 " |" }' |
        LC_ALL=C sort -u
}

if [ "${1:-}" = --check ]; then
    diff -u THIRD-PARTY.md <(list) || {
        echo "THIRD-PARTY.md is not current; run tests/tools/third-party.sh" >&2
        exit 1
    }
else
    list >THIRD-PARTY.md
fi
