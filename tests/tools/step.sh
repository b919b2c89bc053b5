#!/usr/bin/env bash
# Runs a command as a named step, and says how long it took.
set -u
name=$1
shift
echo "== $name"
start=$SECONDS
"$@"
status=$?
echo "== $name: $((SECONDS - start)) s$([ $status -eq 0 ] || echo ", failed with status $status")"
exit $status
