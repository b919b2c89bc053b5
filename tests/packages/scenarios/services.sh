# What packages do to services that run: the gateway is started, started anew and stopped; the destination's as its admin says.
# Under systemd
. /scenarios/lib.bash

pid() { # unit; 0 where it does not run
    systemctl show --property MainPID --value "$1"
}

step "the gateway runs as soon as it is installed, and says that it has no destination"
install_packages /trial/now/*.deb
is "waypost.service" "$(systemctl is-active waypost)" active
owner_and_mode /var/lib/waypost "waypost:waypost 700"
waypost status | tee /tmp/status
journalctl --unit waypost --no-pager | grep 'there is none, so no documents are taken'
first=$(pid waypost)

step "a reload reads what the admin wrote"
sed -i '0,/^#name = /s/^#name = .*/name = "Market kiosk"/' /etc/waypost/gateway.toml
systemctl reload waypost
waypost --json status | grep -q 'Market kiosk' || fail "status does not have the new name"
is "the gateway's process" "$(pid waypost)" "$first"

step "the destination runs once it has a home and its admin says so"
is "waypost-destination.service" "$(systemctl is-active waypost-destination || true)" inactive
as waypost-destination waypost-destination --home /var/lib/waypost-destination/home init --name Clinic --url https://127.0.0.1:8443
systemctl enable --now waypost-destination
await 20 bash -c '(</dev/tcp/127.0.0.1/8443)'
is "waypost-destination.service" "$(systemctl is-active waypost-destination)" active
server=$(pid waypost-destination)
systemctl show --property NRestarts --value waypost-destination | grep -qx 0 || fail "it was started more than once"

step "an upgrade starts both anew, once"
install_packages /trial/later/*.deb
is "waypost.service" "$(systemctl is-active waypost)" active
is "waypost-destination.service" "$(systemctl is-active waypost-destination)" active
[ "$(pid waypost)" != "$first" ] || fail "the old gateway still runs"
[ "$(pid waypost-destination)" != "$server" ] || fail "the old destination still runs"
waypost --json status | grep -q 'Market kiosk' || fail "the admin's change is gone"

step "an upgrade starts nothing that its admin has stopped"
systemctl disable --now waypost-destination
install_packages /trial/now/waypost-destination_*.deb
is "waypost-destination.service" "$(systemctl is-active waypost-destination || true)" inactive
is "waypost-destination.service" "$(systemctl is-enabled waypost-destination || true)" disabled

step "a removal stops the gateway, and a new installation starts it"
running=$(pid waypost)
dpkg --remove waypost
is "waypost.service" "$(systemctl is-active waypost || true)" inactive
gone "/proc/$running"
there /var/lib/waypost/store/data.mdb
install_packages /trial/now/waypost_*.deb
is "waypost.service" "$(systemctl is-active waypost)" active

step "a purge that is told to deletes what the gateway kept"
echo "waypost waypost/purge boolean true" | debconf-set-selections
dpkg --purge waypost
gone /var/lib/waypost /run/waypost
