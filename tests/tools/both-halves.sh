#!/usr/bin/env bash
# Runs all tests of the workspace, which was built before, two programs at a time: they wait more than they compute. The second
# half prints when the first has ended.
set -uo pipefail
cd "$(dirname "$0")/../.."
run() {
    "${CARGO:-cargo}" --config "target.'cfg(unix)'.runner = [\"$PWD/tests/tools/run-test.sh\"]" \
        test --locked --workspace --no-fail-fast "$@"
}
kept=$(realpath -m "${CARGO_TARGET_DIR:-target}")/second-half.txt
run --test '[m-z]*' >"$kept" 2>&1 &
second=$!
status=0
# What a name in tests/ may begin with, and all that is not there.
run --lib --bins --examples --test '[!m-z]*' || status=$?
run --doc || status=$?
wait "$second" || status=$?
cat "$kept"
exit $status
