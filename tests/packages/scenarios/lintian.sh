# Debian's own judge of packages finds nothing, but for what images/deb/*/lintian-overrides names with its reason.
# Only on trixie
. /scenarios/lib.bash

# Those of another architecture are there where `make deb` has made them.
find /trial/now /trial/kiosk /trial/others -maxdepth 1 -name '*.deb' | sort >/tmp/packages
cat /tmp/packages
[ "$(wc -l </tmp/packages)" -ge 4 ]
xargs lintian --allow-root --fail-on error,warning --display-info --show-overrides --tag-display-limit 0 </tmp/packages |
    tee /tmp/found
# What is named and not found any more is no exception.
if grep mismatched-override /tmp/found; then
    fail "an override has nothing to override"
fi
