#!/usr/bin/env bash
# Runs the tests of one file of tests/tests that need the image, which was built before, one after the other.
#   images/run-tests.sh FILE
set -euo pipefail
cd "$(dirname "$0")/.."
WAYPOST_IMAGE=$(realpath "${CARGO_TARGET_DIR:-target}/image")
WAYPOST_QEMU=$(images/qemu.sh "$WAYPOST_IMAGE/qemu")
export WAYPOST_IMAGE WAYPOST_QEMU
# The whole workspace, as it was built: of one package alone cargo would build anew what it uses.
exec "${CARGO:-cargo}" --config "target.'cfg(unix)'.runner = [\"$PWD/tests/tools/run-test.sh\"]" \
    test --locked --workspace --test "$1" -- --ignored --nocapture --test-threads=1
