#!/bin/sh
# On a kiosk, as root: gives it two virtual radios (mac80211_hwsim). The second is an access point of the network in the guide's
# file, which gives out addresses. At first it refuses the kiosk's password, as one that is starting may, so that NetworkManager
# gives the network up. Ends when the kiosk has joined it, and prints the kiosk's address there, and what NetworkManager thinks of
# an interface of Wi-Fi Direct.
set -eu
mkdir -p /run/NetworkManager/conf.d
printf '[keyfile]\nunmanaged-devices+=interface-name:wlan1\n' >/run/NetworkManager/conf.d/access-point.conf
systemctl reload NetworkManager
modprobe mac80211_hwsim radios=2
serve() { # password
    cat >/run/access-point.conf <<END
network={
	ssid="ClinicNet"
	mode=2
	frequency=2437
	key_mgmt=WPA-PSK
	proto=RSN
	pairwise=CCMP
	psk="$1"
}
END
    wpa_supplicant -B -i wlan1 -c /run/access-point.conf -P /run/access-point.pid >/run/access-point.log
}
serve "another password"
mkdir -p /run/systemd/network
cat >/run/systemd/network/05-access-point.network <<END
[Match]
Name=wlan1
[Network]
Address=10.77.0.1/24
DHCPServer=yes
END
systemctl restart systemd-networkd
for _ in $(seq 90); do
    ! journalctl --unit NetworkManager --boot --quiet --output cat | grep -q 'wlan0.*need-auth -> failed.*no-secrets' || break
    sleep 1
done
journalctl --unit NetworkManager --boot --quiet --output cat | grep 'wlan0.*no-secrets'
kill "$(cat /run/access-point.pid)"
sleep 1
serve "the password"
for _ in $(seq 30); do
    # What its timer does in time.
    systemctl start waypost-wifi.service
    address=$(ip -4 -oneline address show dev wlan0 | sed -n 's/.* inet \([^ ]*\).*/\1/p')
    [ -z "$address" ] || break
    sleep 1
done
iw dev wlan0 link
iw dev wlan0 get power_save
iw dev wlan0 interface add p2p-wlan0-0 type managed
sleep 2
nmcli --terse --fields DEVICE,STATE device
iw dev p2p-wlan0-0 del
echo "address: $address"
[ -n "$address" ]
