#!/usr/bin/env bash
# Installs what building for another architecture needs on this machine and does not find. Says so when it can't.
#   host.sh arm64|amd64
set -euo pipefail
arch=$1

missing=()
need() { # command, package
    command -v "$1" >/dev/null || missing+=("$2")
}
need mmdebstrap mmdebstrap
need pkg-config pkg-config
if [ "$arch" != "$(dpkg --print-architecture)" ]; then
    case $arch in
    arm64) need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu ;;
    amd64) need x86_64-linux-gnu-gcc gcc-x86-64-linux-gnu ;;
    esac
fi
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    sudo -n true 2>/dev/null || {
        echo "Building for $arch needs these Debian packages, and neither root nor sudo without a password is there to" \
            "install them: ${missing[*]}" >&2
        exit 1
    }
    as_root=(sudo -n)
fi
echo "Installing Debian packages: ${missing[*]}" >&2
"${as_root[@]}" apt-get update -qq >&2 || true
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
