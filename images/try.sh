#!/usr/bin/env bash
# Builds the image, with programs as in development, and tries it in an emulated machine (tests/tests/image). After
# `cargo build --workspace --all-targets`.
# Exit status: 0 all passed, 1 not so, 77 where this machine cannot build it; 1 also then with WAYPOST_IMAGES=required.
set -euo pipefail
cd "$(dirname "$0")/.."
status=0
images/host.sh || status=$?
[ $status -eq 0 ] || { [ "${WAYPOST_IMAGES:-}" != required ] && exit $status || exit 1; }
images/build.sh --profile dev --url https://images.example/waypost
tests/tools/step.sh "image, started" images/run-tests.sh image
