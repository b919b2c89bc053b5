# A document of a real phone in the gateway's store, and what packages do to it: upgrade, removal, a purge that nobody
# answers for, a new installation; and then a purge that is told to delete.
. /scenarios/lib.bash

listed() {
    as waypost waypost --json documents list >/tmp/listed
    grep -c '"id"' /tmp/listed || true
}

# The folder and the pid of the gateway's process are systemd's business, where it runs.
deposit() {
    waypost-destination --home /tmp/destination init --name Clinic --url https://127.0.0.1:8443 >/dev/null
    cp /tmp/destination/certificate.pgp /etc/waypost/clinic.pgp
    cat >/etc/waypost/gateway.d/test.toml <<'END'
lan.listen = ["127.0.0.1:4180"]
lan.advertise = false
ble.enabled = false
[[destination]]
name = "clinic"
url = "https://127.0.0.1:8443"
certificate = "../clinic.pgp"
END
    install -d -o waypost -g waypost -m 700 /var/lib/waypost
    install -d -o waypost -g waypost -m 750 /run/waypost
    start waypost waypost run
    await 20 as waypost waypost status
    waypost-destination --home /tmp/destination phone-code | tail -n 2 | head -n 1 |
        waypost-phone --home /tmp/phone destination add - --yes
    as waypost waypost --json pair | sed 's/.*"text":"\([^"]*\)".*/\1/' | waypost-phone --home /tmp/phone pair -
    echo 'household 17, 3 children' >/tmp/form.txt
    waypost-phone --home /tmp/phone add /tmp/form.txt
    waypost-phone --home /tmp/phone sync
    stop
}

install_packages /trial/now/*.deb
step "a phone hands a document over"
deposit
is "the number of documents" "$(listed)" 1
owner_and_mode /var/lib/waypost "waypost:waypost 700"

step "an upgrade keeps the document, and what the admin wrote into the configuration"
sed -i '0,/^#name = /s/^#name = .*/name = "Market kiosk"/' /etc/waypost/gateway.toml
grep -q '^name = "Market kiosk"' /etc/waypost/gateway.toml || fail "the key was not there to be changed"
install_packages /trial/later/*.deb
is "the version" "$(dpkg-query -W -f '${Version}' waypost)" "$(dpkg-deb -f /trial/later/waypost_*.deb Version)"
grep -q '^name = "Market kiosk"' /etc/waypost/gateway.toml || fail "the admin's change is gone"
there /etc/waypost/gateway.toml.dpkg-dist
is "the number of documents" "$(listed)" 1

step "a removal takes the programs, and leaves documents and configuration"
dpkg --remove waypost
gone /usr/bin/waypost /usr/lib/systemd/system/waypost.service /usr/share/man/man1/waypost.1.gz
there /etc/waypost/gateway.toml /var/lib/waypost/store/data.mdb
install_packages /trial/later/waypost_*.deb
is "the number of documents" "$(listed)" 1
is "waypost.service" "$(systemctl is-enabled waypost.service)" enabled

step "a purge that nobody answers for leaves the documents, and says where they are"
dpkg --purge waypost 2>&1 | tee /tmp/purge
gone /etc/waypost/gateway.toml /etc/systemd/system/multi-user.target.wants/waypost.service
grep -q 'stay in /var/lib/waypost' /tmp/purge || fail "the purge did not say where the documents are"
owner_and_mode /var/lib/waypost "waypost:waypost 700"
# What the admin put there is the admin's.
there /etc/waypost/clinic.pgp /etc/waypost/gateway.d/test.toml
install_packages /trial/later/waypost_*.deb
is "the number of documents" "$(listed)" 1

step "a purge that is told to deletes them"
echo "waypost waypost/purge boolean true" | debconf-set-selections
dpkg --purge waypost
gone /var/lib/waypost

step "the next installation is asked anew"
install_packages /trial/later/waypost_*.deb
install -d -o waypost -g waypost -m 700 /var/lib/waypost
touch /var/lib/waypost/identity.key
dpkg --purge waypost
there /var/lib/waypost/identity.key
