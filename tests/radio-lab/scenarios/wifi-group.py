"""The kiosk's group comes up and stations like any other join it, three at once: they get an address, find the kiosk by mDNS, and
hand over documents. They get nothing else: no other port, no way out, no other station."""

from pathlib import Path

from lab import Lab, forms, photos, wait_until
from lab.bus import busctl
from lab.wifi import LISTEN

CONTROLLERS, RADIOS = 0, 4
KIOSK = "172.29.77.1"
# Somebody else's implementation of mDNS (python-zeroconf).
BROWSE = """
import json, sys, time
from zeroconf import ServiceBrowser, ServiceStateChange, Zeroconf
found = []
def changed(zeroconf, service_type, name, state_change):
    if state_change is ServiceStateChange.Added:
        found.append((service_type, name))
zeroconf = Zeroconf(interfaces=[sys.argv[1]])
browser = ServiceBrowser(zeroconf, "_waypost._tcp.local.", handlers=[changed])
until = time.monotonic() + 10
while not found and time.monotonic() < until:
    time.sleep(0.1)
info = zeroconf.get_service_info(*found[0], timeout=5000)
print(json.dumps([found[0][1], info.port, info.parsed_addresses(), {k.decode(): v.decode() for k, v in info.properties.items()}]))
"""


def run(lab: Lab):
    kiosk = lab.wifi_kiosk()
    group, invitation = kiosk.group(), kiosk.invitation()
    assert invitation["ssid"] == group["ssid"] and group["ssid"].startswith("DIRECT-"), (group, invitation)
    assert group["ssid"].endswith("-Lab kiosk") and len(invitation["passphrase"]) == 12, invitation
    lab.note(f"{group['ssid']} is up on {group['group']['frequency']} MHz")
    assert group["group"]["frequency"] > 5000, "5 GHz, where the country allows it"

    places = [lab.wifi.place(name, f"wlan{number}") for number, name in enumerate(("amina", "bakari", "chiku"), 1)]
    for place in places:
        place.join(invitation["ssid"], invitation["passphrase"], group["group"]["frequency"])
    wait_until("all three are in it", lambda: all(place.is_in() for place in places), 30)
    addresses = [place.address() for place in places]
    assert len(set(addresses)) == 3 and all(one.startswith("172.29.77.") for one in addresses), addresses
    assert not {"router", "dns"} & set(places[0].lease()), "it leads nowhere else"
    wait_until("the kiosk has counted them", lambda: kiosk.wifi()["stations"] == 3, 10)

    browsed = places[0].run("python3", "-c", BROWSE, addresses[0])
    assert '"n": "Lab kiosk"' in browsed and KIOSK in browsed and " 4180," in browsed, browsed

    contents = []
    for number, place in enumerate(places):
        phone = lab.phone(place.name, place=place)
        phone.pair(kiosk)
        contents += (own := forms(3, number) + photos(1, seed=number))
        phone.add(own)
        report = phone.sync("--wait", "60s")
        assert (report["transferred"], report["unconfirmed"], report["medium"]) == (4, 0, "lan"), report
    assert lab.destination().inbox() == dict(contents)
    assert 'medium=wifi-direct' in kiosk.log.read_text() or '"medium":"wifi-direct"' in kiosk.log.read_text()

    amina, bakari = places[:2]
    others = (22, 80, 8080)
    lab.start("listens", "python3", "-c", LISTEN, *others).wait_for("listens")
    beyond = beyond_the_kiosk(lab)
    amina.run("ip", "route", "add", "default", "via", KIOSK)
    assert amina.reaches(KIOSK, 4180)
    # The same by IPv6.
    local = f"{group['group']['address']}%{amina.radio}"
    assert amina.reaches(local, 4180)
    refused = [(KIOSK, port) for port in others] + [(beyond, 4180), (local, others[0])]
    reached = [each for each in refused if amina.reaches(*each)]
    assert not reached, reached
    # Another station, asked directly.
    bakari.listen(4180)
    assert bakari.reaches("127.0.0.1", 4180) and not amina.reaches(addresses[1], 4180)
    assert reaches_where_they_are_not_kept_apart(kiosk, places[:2], addresses[1])
    # All of that would be there without the rules that admins are given.
    lab.run("nft", "delete", "table", "inet", "waypost")
    unreached = [each for each in refused if not amina.reaches(*each)]
    assert not unreached, unreached

    kiosk.stop()
    assert lab.wifi.groups() == [], lab.wifi.groups()


def reaches_where_they_are_not_kept_apart(kiosk, places, address):
    """Whether the second can be reached by the first once another program has told wpa_supplicant to pass on what they send."""
    service, device = "fi.w1.wpa_supplicant1", "fi.w1.wpa_supplicant1.Interface.P2PDevice"
    interfaces = busctl("get-property", service, "/fi/w1/wpa_supplicant1", service, "Interfaces")
    names = {busctl("get-property", service, path, f"{service}.Interface", "Ifname"): path for path in interfaces}
    busctl("set-property", service, names["wlan0"], device, "P2PDeviceConfig", "a{sv}", "1", "IntraBss", "b", "true")
    group = next(path for name, path in names.items() if name.startswith("p2p-wlan0-"))
    busctl("call", service, group, device, "Disconnect")
    kiosk.process.wait_for("the group has ended by itself", 20)
    kiosk.group()
    wait_until("both are in it again", lambda: all(place.is_in() for place in places) and kiosk.wifi()["stations"] == 3, 60)
    return places[0].reaches(address, 4180, seconds=5)


def beyond_the_kiosk(lab):
    """A server in a network that the kiosk is in, with forwarding switched on as some other program may have left it."""
    lab.run("ip", "netns", "add", "beyond")
    lab.run("ip", "link", "add", "behind0", "type", "veth", "peer", "name", "eth0", "netns", "beyond")
    lab.run("ip", "address", "add", "203.0.113.1/24", "dev", "behind0")
    lab.run("ip", "link", "set", "behind0", "up")
    inside = ("ip", "netns", "exec", "beyond")
    for command in ("ip address add 203.0.113.7/24 dev eth0", "ip link set eth0 up", "ip route add default via 203.0.113.1"):
        lab.run(*inside, *command.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    lab.start("beyond", *inside, "python3", "-c", LISTEN, 4180).wait_for("listens")
    return "203.0.113.7"
