# The destination's package: its home is made by its admin, survives what packages do, and goes with a purge that is told to.
. /scenarios/lib.bash

home=/var/lib/waypost-destination/home
destination() {
    as waypost-destination waypost-destination --home $home "$@"
}

install_packages /trial/now/waypost-destination_*.deb
step "init as the service's user, then the service is enabled"
destination init --name Clinic --url https://127.0.0.1:8443
fingerprint=$(destination --json certificate | sed 's/.*"fingerprint":"\([^"]*\)".*/\1/')
systemctl enable waypost-destination.service
start waypost-destination waypost-destination --home $home run
await 20 grep -q '^ready' /tmp/log
stop

step "upgrade, removal, a purge that nobody answers for: the key stays, and so does the admin's choice"
install_packages /trial/later/waypost-destination_*.deb
is "waypost-destination.service" "$(systemctl is-enabled waypost-destination.service)" enabled
dpkg --remove waypost-destination
gone /usr/bin/waypost-destination
there $home/secret.pgp
dpkg --purge waypost-destination 2>&1 | tee /tmp/purge
grep -q 'stay in /var/lib/waypost-destination' /tmp/purge || fail "the purge did not say where they are"
install_packages /trial/later/waypost-destination_*.deb
is "the fingerprint" "$(destination --json certificate | sed 's/.*"fingerprint":"\([^"]*\)".*/\1/')" "$fingerprint"

step "a purge that is told to deletes it"
echo "waypost-destination waypost-destination/purge boolean true" | debconf-set-selections
dpkg --purge waypost-destination
gone /var/lib/waypost-destination
