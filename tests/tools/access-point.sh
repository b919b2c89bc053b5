#!/bin/sh
# On a kiosk, as root: gives it two virtual radios (mac80211_hwsim). The second is an access point of the network in the guide's
# file, which gives out addresses. Ends when the kiosk has joined it, and prints the kiosk's address there, and what NetworkManager
# thinks of an interface of Wi-Fi Direct.
set -eu
mkdir -p /run/NetworkManager/conf.d
printf '[keyfile]\nunmanaged-devices+=interface-name:wlan1\n' >/run/NetworkManager/conf.d/access-point.conf
systemctl reload NetworkManager
modprobe mac80211_hwsim radios=2
cat >/run/access-point.conf <<END
network={
	ssid="ClinicNet"
	mode=2
	frequency=2437
	key_mgmt=WPA-PSK
	proto=RSN
	pairwise=CCMP
	psk="the password"
}
END
wpa_supplicant -B -i wlan1 -c /run/access-point.conf >/run/access-point.log
mkdir -p /run/systemd/network
cat >/run/systemd/network/05-access-point.network <<END
[Match]
Name=wlan1
[Network]
Address=10.77.0.1/24
DHCPServer=yes
END
systemctl start systemd-networkd
for _ in $(seq 90); do
    address=$(ip -4 -oneline address show dev wlan0 | sed -n 's/.* inet \([^ ]*\).*/\1/p')
    [ -z "$address" ] || break
    sleep 1
done
iw dev wlan0 link
iw dev wlan0 interface add p2p-wlan0-0 type managed
sleep 2
nmcli --terse --fields DEVICE,STATE device
iw dev p2p-wlan0-0 del
echo "address: $address"
[ -n "$address" ]
