# Debian's own judge of packages finds nothing, but for what images/deb/*/lintian-overrides names with its reason.
# Only on trixie
. /scenarios/lib.bash

lintian --allow-root --fail-on error,warning --display-info --show-overrides --tag-display-limit 0 /trial/now/*.deb /trial/kiosk/*.deb |
    tee /tmp/found
# What is named and not found any more is no exception.
if grep mismatched-override /tmp/found; then
    fail "an override has nothing to override"
fi
