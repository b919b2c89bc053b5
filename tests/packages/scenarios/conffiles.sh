# A file of the configuration that nobody has edited becomes the new one; one that somebody has is documents-survive.sh.
. /scenarios/lib.bash

install_packages /trial/now/waypost_*.deb
step "an upgrade replaces what nobody has edited"
install_packages /trial/later/waypost_*.deb
grep -q "The maintainer's own change" /etc/waypost/gateway.toml || fail "the file is still the old one"
gone /etc/waypost/gateway.toml.dpkg-dist /etc/waypost/gateway.toml.dpkg-old
