#!/usr/bin/env bash
# Installs what building and testing need and the machine lacks: Debian packages by name. Says so when it can't.
set -euo pipefail

# Debian's own cargo is older than what the workspace asks for, up to bookworm; rustup's never is.
wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$(dirname "$0")/../../Cargo.toml")
found=$(rustc --version 2>/dev/null | cut -d' ' -f2) || found=
if ! command -v "${CARGO:-cargo}" >/dev/null || [ -z "$found" ]; then
    echo "A Rust toolchain is missing ($wanted or newer): install one with rustup (https://rustup.rs), then run this again." >&2
    exit 1
fi
if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
    echo "The Rust toolchain is $found, and $wanted or newer is needed: \`rustup update stable\`, or install rustup" \
        "(https://rustup.rs) where there is none, then run this again." >&2
    exit 1
fi

missing=()
need() { # command or file, package
    command -v "$1" >/dev/null || [ -e "$1" ] || missing+=("$2")
}
need cc gcc
# libFuzzer is compiled from source.
need c++ g++
need pkg-config pkg-config
pkg-config --exists openssl 2>/dev/null || missing+=(libssl-dev)
# BlueZ is spoken to over D-Bus.
pkg-config --exists dbus-1 2>/dev/null || missing+=(libdbus-1-dev)
# OpenSSL's bindings for OpenPGP are generated at build time, which needs libclang (not libclang-cpp).
[ -n "${LIBCLANG_PATH:-}" ] || compgen -G "/usr/lib/llvm-*/lib/libclang.so" >/dev/null || missing+=(libclang-dev)
need dbus-daemon dbus-daemon
need gpg gnupg
# The OpenPGP programs besides GnuPG that make and check confirmations in tests; gosop is independent of Sequoia.
need sq sq
need gosop gosop
need curl curl
need ip iproute2
need faketime faketime
need script bsdutils
# The destination's tests at scale start a database of their own; programs alone are enough, no cluster is used.
need pg_isready postgresql-client
compgen -G "/usr/lib/postgresql/*/bin/postgres" >/dev/null || missing+=(postgresql)
need /usr/bin/python3 python3
/usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
# The second implementation of the protocol, which checks the frozen vectors.
/usr/bin/python3 -c 'import cryptography' 2>/dev/null || missing+=(python3-cryptography)
[ ${#missing[@]} -eq 0 ] && exit 0

echo "Installing Debian packages: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "These packages are missing, and neither root nor sudo is there to install them: ${missing[*]}" >&2
        exit 1
    }
    as_root=(sudo)
fi
if ! command -v apt-get >/dev/null; then
    echo "This is no Debian-like system: install the equivalents of these packages, then run this again: ${missing[*]}" >&2
    exit 1
fi
"${as_root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
