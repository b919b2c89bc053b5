#!/usr/bin/env bash
# Runs a command as a named step, and says how long it took. Status 77 is a step that cannot be done on this machine.
set -u
name=$1
shift
echo "== $name"
start=$SECONDS
"$@"
status=$?
case $status in
0) how= ;;
77) how=", left out" ;;
*) how=", failed with status $status" ;;
esac
echo "== $name: $((SECONDS - start)) s$how"
exit $status
