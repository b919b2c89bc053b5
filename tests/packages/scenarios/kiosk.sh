# The package of a kiosk's own set-up: what it made of waypost.toml, secrets with it, survives a removal and goes with a purge.
. /scenarios/lib.bash

# Without what it depends on, which the small Debians do not have: NetworkManager among others.
step "the package says what it contains"
dpkg --force-depends --install /trial/kiosk/waypost-kiosk_*.deb
is "the name of the program" "$(waypost-kiosk --version | cut -d' ' -f1)" waypost-kiosk
there /usr/share/doc/waypost-kiosk/{copyright,changelog.gz,changelog.Debian.gz,THIRD-PARTY.md}

# This root is one: an overlay whose changes are in memory, as a kiosk's is where its data partition is not there.
step "what would be gone with the power it does not keep, and the file has its secrets still"
mkdir -p /boot/firmware
printf '[[network]]\nwifi = "ClinicNet"\npassword = "wifi-secret"\n' >/boot/firmware/waypost.toml
waypost-kiosk --no-remount apply
gone /var/lib/waypost-kiosk
grep -q wifi-secret /boot/firmware/waypost.toml || fail "the secret is nowhere"
grep -q "data partition is not there" /boot/firmware/waypost-errors.txt || fail "it does not say why"
grep -q psk=wifi-secret /run/NetworkManager/system-connections/* || fail "the file is not used"
rm -r /boot/firmware

step "it takes up a file below another root, from where it is put into its place"
mkdir -p /tmp/root/boot/firmware
cat >/tmp/root/boot/firmware/waypost.toml <<'END'
name = "Clinic"
[[network]]
wifi = "ClinicNet"
password = "wifi-secret"
END
waypost-kiosk --root /tmp/root apply
cp -a /tmp/root/var/lib/waypost-kiosk /var/lib/
grep -q wifi-secret /var/lib/waypost-kiosk/secrets.toml || fail "the secret was not kept"
mkdir -p /var/lib/waypost-kiosk/home/{grace,peter}
touch /var/lib/neighbour /var/lib/waypost-kiosk/home/grace/notes

step "an upgrade leaves it"
before=$(find /var/lib/waypost-kiosk -type f -exec sha256sum {} + | sort)
dpkg --force-depends --install /trial/kiosk/later/waypost-kiosk_*.deb
is "the version" "$(dpkg-query -W -f '${Version}' waypost-kiosk)" "$(dpkg-deb -f /trial/kiosk/later/waypost-kiosk_*.deb Version)"
is "what it kept" "$(find /var/lib/waypost-kiosk -type f -exec sha256sum {} + | sort)" "$before"

step "a removal leaves it"
dpkg --remove waypost-kiosk
gone /usr/bin/waypost-kiosk
there /var/lib/waypost-kiosk/secrets.toml /var/lib/waypost-kiosk/current/settings.json

step "a purge deletes it, and nothing beside it nor what users have in their homes"
dpkg --purge waypost-kiosk
is "what is left" "$(cd /var/lib/waypost-kiosk && find . -mindepth 1 | sort | paste -sd' ')" "./home ./home/grace ./home/grace/notes"
rm -r /var/lib/waypost-kiosk
there /var/lib/neighbour

step "a purge where it is on another file system leaves the empty folder"
dpkg --force-depends --install /trial/kiosk/waypost-kiosk_*.deb
mkdir /var/lib/waypost-kiosk
mount -t tmpfs none /var/lib/waypost-kiosk
cp -a /tmp/root/var/lib/waypost-kiosk/. /var/lib/waypost-kiosk/
dpkg --purge waypost-kiosk
is "what is left" "$(ls -A /var/lib/waypost-kiosk)" ""
