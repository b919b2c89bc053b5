#!/usr/bin/env bash
# Prints the folder of a Rust toolchain that has the standard library for a target: this machine's own where it has it
# (`rustup target add TARGET`), else a copy of it under target/, with the library built from its source.
#   toolchain.sh aarch64-unknown-linux-gnu
set -euo pipefail
cd "$(dirname "$0")/../.."
triple=$1
own=$(rustc --print sysroot)
version=$(rustc --version | cut -d' ' -f2)
crates=std,panic_unwind,panic_abort,proc_macro,test

if compgen -G "$own/lib/rustlib/$triple/lib/libstd-*.rlib" >/dev/null; then
    echo "$own"
    exit
fi
if [ "$own" = /usr ]; then
    echo "This Rust is the system's, and has no standard library for $triple: install Debian's package of it, or a" \
        "toolchain with rustup (https://rustup.rs)." >&2
    exit 1
fi
cross=$(realpath -m "${CARGO_TARGET_DIR:-target}/cross")
mkdir -p "$cross"
toolchain=$cross/rust-$version
exec 9>"$cross/toolchain.lock"
flock 9
if [ -e "$toolchain/lib/rustlib/$triple/lib/made" ]; then
    echo "$toolchain"
    exit
fi

# The toolchain again, without its documentation: links where that is possible.
if [ ! -d "$toolchain" ]; then
    rm -rf "$toolchain.new"
    mkdir "$toolchain.new"
    for part in bin lib libexec; do
        [ ! -d "$own/$part" ] || cp -al "$own/$part" "$toolchain.new/" 2>/dev/null || cp -a "$own/$part" "$toolchain.new/"
    done
    if [ ! -d "$own/lib/rustlib/src/rust/library" ]; then
        images/cross/rust-source.sh "$version" "$cross/rust-src-$version"
        mkdir -p "$toolchain.new/lib/rustlib/src"
        ln -sfn "$cross/rust-src-$version" "$toolchain.new/lib/rustlib/src/rust"
    fi
    mv "$toolchain.new" "$toolchain"
fi

# An empty library brings the whole of std with it.
echo "building Rust's standard library for $triple, about a minute" >&2
work=$(mktemp -d "$cross/std.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/src"
touch "$work/src/lib.rs"
cat >"$work/Cargo.toml" <<'END'
[package]
name = "nothing"
edition = "2024"
[workspace]
[profile.release]
panic = "unwind"
END
# Without bitcode, programs that are optimised across crates cannot be linked with it.
env -u CARGO_BUILD_TARGET -u CARGO_TARGET_DIR PATH="$toolchain/bin:$PATH" RUSTC="$toolchain/bin/rustc" RUSTC_BOOTSTRAP=1 \
    RUSTFLAGS="-Cembed-bitcode=yes" CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
    "$toolchain/bin/cargo" build --quiet --release --manifest-path "$work/Cargo.toml" -Zbuild-std="$crates" --target "$triple" >&2
rm "$work/target/$triple/release/deps"/libnothing-*
mkdir -p "$toolchain/lib/rustlib/$triple/lib"
cp "$work/target/$triple/release/deps"/*.rlib "$toolchain/lib/rustlib/$triple/lib/"
touch "$toolchain/lib/rustlib/$triple/lib/made"
echo "$toolchain"
