#!/bin/sh
# On a kiosk, as root: gives it two virtual radios (mac80211_hwsim). The second is an access point of the network in the guide's
# file, which gives out addresses. At first it refuses the kiosk's password, as one that is starting may, so that NetworkManager
# gives the network up. Prints the kiosk's address there once it has joined. Then the kiosk has a group of its own (Wi-Fi Direct) on
# the same radio, which can be on one channel at a time, and joins the network once more: prints where the group was before and is
# then, its address, and what NetworkManager thinks of all that.
set -eu
mkdir -p /run/NetworkManager/conf.d
printf '[keyfile]\nunmanaged-devices+=interface-name:wlan1\n' >/run/NetworkManager/conf.d/access-point.conf
systemctl reload NetworkManager
modprobe mac80211_hwsim radios=2
address_of() { # interface
    ip -4 -oneline address show | sed -n "s/^[0-9]*: $1 *inet \([^ ]*\).*/\1/p"
}
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
    address=$(address_of wlan0)
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

group() {
    for _ in $(seq 90); do
        frequency=$(waypost --json status | sed -n 's/.*"frequency":\([0-9]*\).*/\1/p')
        in_it=$(address_of 'p2p-[^ ]*')
        [ "$frequency" != "$1" ] || [ -z "$in_it" ] || break
        sleep 1
    done
    echo "group: $frequency MHz $in_it"
}
systemctl stop waypost-wifi.timer
nmcli device disconnect wlan0
mkdir -p /etc/waypost/gateway.d
printf 'wifi_direct.mode = "always"\n' >/etc/waypost/gateway.d/zz-access-point.toml
systemctl restart waypost.service
group 5180
# A group that has just begun has somebody on the way to it.
for _ in $(seq 90); do
    systemctl reset-failed waypost-wifi.service
    systemctl start waypost-wifi.service
    [ -z "$(address_of wlan0)" ] || break
    sleep 1
done
group 2437
nmcli --terse --fields DEVICE,STATE device
journalctl --unit waypost --boot --quiet --output cat | grep 'gives way'
rm /etc/waypost/gateway.d/zz-access-point.toml
systemctl restart waypost.service
systemctl start waypost-wifi.timer
