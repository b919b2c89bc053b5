#!/usr/bin/env bash
# Runs cargo so that it builds for arm64 (or for the architecture that is named), linked with the libraries of the oldest
# Debian that packages are for. What it builds is in target/TRIPLE/.
#   images/cross/cargo.sh [--arch arm64|amd64] build --release -p waypost-gateway
set -euo pipefail
here=$(realpath "$(dirname "$0")")
arch=arm64
if [ "${1:-}" = --arch ]; then
    arch=$2
    shift 2
fi
case $arch in
arm64) triple=aarch64-unknown-linux-gnu gnu=aarch64-linux-gnu ;;
amd64) triple=x86_64-unknown-linux-gnu gnu=x86_64-linux-gnu ;;
*)
    echo "there is no architecture $arch here; there are arm64 and amd64" >&2
    exit 2
    ;;
esac
"$here/host.sh" "$arch"
toolchain=$("$here/toolchain.sh" "$triple")
sysroot=$("$here/sysroot.sh" "$arch")

# Each of these is for the target alone: build scripts and macros are this machine's own.
name=${triple//-/_}
export CARGO_BUILD_TARGET=$triple
export "CARGO_TARGET_${name^^}_LINKER=$gnu-gcc"
export "CARGO_TARGET_${name^^}_RUSTFLAGS=-Clink-arg=--sysroot=$sysroot"
export "CC_$name=$gnu-gcc"
export "AR_$name=$gnu-ar"
export "CFLAGS_$name=--sysroot=$sysroot"
export "BINDGEN_EXTRA_CLANG_ARGS_$name=--target=$gnu --sysroot=$sysroot"
export "PKG_CONFIG_ALLOW_CROSS_$name=1"
export "PKG_CONFIG_SYSROOT_DIR_$name=$sysroot"
export "PKG_CONFIG_LIBDIR_$name=$sysroot/usr/lib/$gnu/pkgconfig:$sysroot/usr/share/pkgconfig"
PATH=$toolchain/bin:$PATH exec "$toolchain/bin/cargo" "$@"
