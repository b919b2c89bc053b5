#!/usr/bin/env bash
# Installs a command of cargo's into target/tools/bin where the machine has none; once, a minute or two.
#   tests/tools/cargo-tool.sh cargo-deny ^0.20
# In the dev profile: cargo-deny's own release profile takes minutes for a run of seconds.
set -euo pipefail
tools=$(realpath -m "${CARGO_TARGET_DIR:-target}")/tools
PATH=$tools/bin:$PATH "$1" --version >/dev/null 2>&1 ||
    CARGO_PROFILE_DEV_DEBUG=0 "$(dirname "$0")/step.sh" "$1" \
        "${CARGO:-cargo}" install --locked --quiet --debug --root "$tools" --version "$2" "$1" >&2
