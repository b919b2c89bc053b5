#!/usr/bin/env bash
# Lists the libraries that the programs contain, with their licences, as THIRD-PARTY.md, and the notices of the C code
# that some of them bring along.
#   tests/tools/third-party.sh          writes it
#   tests/tools/third-party.sh --check  says whether it is current
# Needs no network where the crates are there already: `cargo fetch` gets them.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages() { # a line for each: name|version|licence
    "${CARGO:-cargo}" tree --locked --edges normal --prefix none --format '{p}|{l}' \
        --target x86_64-unknown-linux-gnu -p waypost-gateway -p waypost-phone -p waypost-destination -p waypost-kiosk |
        sed -e 's/ (\*)$//' -e 's/ (proc-macro)//' | grep -v '(/' |
        awk -F'|' 'NF >= 2 && $2 != "" { split($1, name, " v"); print name[1] "|" name[2] "|" $2 }' |
        LC_ALL=C sort -u -t'|' -k1,1 -k2,2
}

source_of() { # name, version
    local folder
    for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$1-$2"; do
        [ -d "$folder" ] && echo "$folder" && return
    done
    echo "the source of $1 $2 is not here; run \`cargo fetch\`, then this again" >&2
    return 1
}

# C and assembler code that is compiled in, by crate. That of the crates in `not_linked` is theirs for tests or builds.
declare -A bundled=(
    [lmdb-master-sys]="LMDB (liblmdb)|OpenLDAP Public License 2.8, notice below"
    [libsqlite3-sys]="SQLite|public domain (<https://sqlite.org/copyright.html>)"
    [ring]="parts of BoringSSL, OpenSSL (by way of BoringSSL) and fiat-crypto|Apache-2.0 and ISC, notices below"
)
not_linked=" libdbus-sys nix openssl-sys "

has_c() {
    [ -n "$(find "$1" -type f \( -name '*.c' -o -name '*.cc' -o -name '*.cpp' -o -name '*.S' \) -print -quit)" ]
}

notice() { # heading, files
    echo
    echo "### $1"
    shift
    local file
    for file in "$@"; do
        echo
        echo '```text'
        sed -e 's/[[:space:]]*$//' "$file"
        echo '```'
    done
}

list() {
    local all name version licence lmdb ring
    all=$(packages)
    echo "# Third-party notices"
    echo
    echo "The programs of Waypost contain these libraries, each under its own licence; the texts are in the packages of"
    echo "the crate registry. Made by \`tests/tools/third-party.sh\`."
    echo
    echo "| library | version | licence |"
    echo "|---|---|---|"
    sed -e 's/|/ | /g' -e 's/^/| /' -e 's/$/ |/' <<<"$all"
    echo
    echo "## C and assembler code in them"
    echo
    echo "Some of these libraries bring code of others that is compiled into the programs. OpenSSL itself is not among it:"
    echo "the programs use the system's, and so with D-Bus."
    echo
    echo "| code | within | licence |"
    echo "|---|---|---|"
    while IFS='|' read -r name version licence; do
        local folder
        folder=$(source_of "$name" "$version")
        if [ -n "${bundled[$name]:-}" ]; then
            echo "| ${bundled[$name]%%|*} | $name $version | ${bundled[$name]#*|} |"
        elif [[ "$not_linked" != *" $name "* ]] && has_c "$folder"; then
            echo "$name $version has C code: say in tests/tools/third-party.sh what it is and under which licence" >&2
            return 1
        fi
        case $name in
        lmdb-master-sys) lmdb=$folder/lmdb/libraries/liblmdb ;;
        ring) ring=$folder ;;
        esac
    done <<<"$all"
    notice "LMDB: copyright, and the OpenLDAP Public License" "$lmdb/COPYRIGHT" "$lmdb/LICENSE"
    notice "ring: what is under which licence, and the ISC license" "$ring/LICENSE" "$ring/LICENSE-other-bits"
    echo
    echo "Its files under the ISC license name these holders of copyright besides:"
    echo
    echo '```text'
    grep -rlZ 'Permission to use, copy, modify' "$ring/crypto" "$ring/include" |
        xargs -0 grep -hoE 'Copyright [^*]*[^* /]' | tr -d '\r' | LC_ALL=C sort -u -t'|' -k1,1 -k2,2
    echo '```'
    notice "BoringSSL: the Apache License 2.0, and others of its support code" "$ring/LICENSE-BoringSSL"
    notice "fiat-crypto" "$ring/third_party/fiat/LICENSE"
}

made=$(list)
if [ "${1:-}" = --check ]; then
    diff -u THIRD-PARTY.md <(echo "$made") || {
        echo "THIRD-PARTY.md is not current; run tests/tools/third-party.sh" >&2
        exit 1
    }
else
    echo "$made" >THIRD-PARTY.md
fi
