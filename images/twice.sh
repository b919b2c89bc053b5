#!/usr/bin/env bash
# Builds the image twice, everything anew each time (Debian's part, our programs), and compares what is on the cards bit for bit.
# One that was interrupted goes on with what the first time gave. In one folder: paths of sources are in the programs.
#   images/twice.sh [--profile dev]
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
out=$target/image
profile=release
[ "${1:-}" != --profile ] || profile=$2

state="$profile $(git -c safe.directory="$PWD" rev-parse HEAD) $(git -c safe.directory="$PWD" diff HEAD | sha256sum)"
for time in first second; do
    [ "$(cat "$out/$time/state" 2>/dev/null)" != "$state" ] || continue
    # Cargo's folder of the dev profile has another name.
    rm -rf "$target/aarch64-unknown-linux-gnu/${profile/#dev/debug}" "$out/$time"
    [ "$(uname -m)" = x86_64 ] || rm -rf "$target/${profile/#dev/debug}"
    images/build.sh --fresh --profile "$profile"
    mkdir "$out/$time"
    mv "$out/root.squashfs" "$out/boot.vfat" "$out/data.ext4" "$out/parts" "$out/$time/"
    echo "$state" >"$out/$time/state"
done
same=yes
for part in root.squashfs boot.vfat data.ext4; do
    cmp --silent "$out/first/$part" "$out/second/$part" || { echo "$part differs" >&2 && same=no; }
done
if [ $same = no ]; then
    # It says of each device that it is one.
    { diff --recursive --brief --no-dereference "$out/first/parts" "$out/second/parts" || true; } | grep -v 'special file' >&2 || true
    exit 1
fi
printf '{"built_twice": "the same", "profile": "%s", "commit": "%s", "root": "%s"}\n' "$profile" "$(git -c safe.directory="$PWD" rev-parse HEAD)" "$(sha256sum <"$out/first/root.squashfs" | cut -d' ' -f1)" |
    tee -a "$out/soak.jsonl"
rm -rf "$out/first" "$out/second"
