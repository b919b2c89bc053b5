"""The kiosk's group comes up and stations like any other join it, three at once: they get an address, find the kiosk by mDNS, and
hand over documents. They get nothing else: no other port, no way out, no other station."""

import subprocess
from pathlib import Path

from lab import Lab, forms, photos, wait_until
from lab.bus import busctl
from lab.wifi import ANSWER, LISTEN, REACHES, SERVICE, interfaces

CONTROLLERS, RADIOS = 0, 4
LIMIT = 300
WAITS = True
KIOSK = "172.29.77.1"


def run(lab: Lab):
    kiosk = lab.wifi_kiosk(links=1)
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

    _, port, found, said = places[0].browse(addresses[0])
    assert (said["n"], port) == ("Lab kiosk", 4180) and KIOSK in found, (said, port, found)

    contents, phones = [], []
    for number, place in enumerate(places):
        phone = lab.phone(place.name, place=place)
        phone.pair(kiosk)
        contents += (own := forms(3, number) + photos(1, seed=number))
        phone.add(own)
        report = phone.sync("--wait", "60s")
        assert (report["transferred"], report["unconfirmed"], report["medium"]) == (4, 0, "lan"), report
        phones.append(phone)
    assert lab.destination().inbox() == dict(contents)
    assert 'medium=wifi-direct' in kiosk.log.read_text() or '"medium":"wifi-direct"' in kiosk.log.read_text()

    # It serves one at a time, as it was told: the second is the next in line, and then served.
    phones[0].add(photos(1, 3_000_000, seed=10))
    phones[1].add(forms(1, 11))
    first = phones[0].start("sync")
    wait_until("the first is there", lambda: kiosk.status()["sessions"] == 1)
    second = phones[1].run("sync")
    waited = [one["place"] for one in second.events("in-line")]
    assert waited and set(waited) == {1} and second.last["transferred"] == 1, second.said
    assert first.child.wait(60) == 0 and phones[0].report()["transferred"] == 1, phones[0].report()

    amina, bakari = places[:2]
    others = (22, 80, 8080)
    lab.start("listens", "python3", "-c", LISTEN, *others).wait_for("listens")
    lab.start("answers", "python3", "-c", ANSWER).wait_for("answers")
    beyond = beyond_the_kiosk(lab)
    amina.run("ip", "route", "add", "default", "via", KIOSK)
    assert amina.reaches(KIOSK, 4180)
    # The same by IPv6.
    local = f"{group['group']['address']}%{amina.radio}"
    assert amina.reaches(local, 4180)
    # Another station, asked directly.
    bakari.listen(4180)
    assert bakari.reaches("127.0.0.1", 4180) and not amina.reaches(addresses[1], 4180)
    # And by way of the kiosk, each sending to it what is for the other.
    for place, other in ((amina, addresses[1]), (bakari, addresses[0])):
        Path("/proc/sys/net/ipv4/conf/all/send_redirects").write_text("0")
        place.run("ip", "route", "add", f"{other}/32", "via", KIOSK)
    lab.run("ip", "-6", "route", "add", "fd00:a::/64", "dev", group["group"]["interface"])
    amina.run("ip", "address", "add", "fd00:a::2/64", "dev", amina.radio, "nodad")
    amina.run("ip", "-6", "route", "add", "default", "via", group["group"]["address"], "dev", amina.radio)
    refused = [(KIOSK, port) for port in others] + [(local, others[0]), (addresses[1], 4180)]
    refused += [(each, 4180) for each in beyond]
    # The kiosk itself, as somebody of another network, of which this radio's limits do not hold.
    refused += [("203.0.113.1", 4180), ("fd00:b::1", 4180)]
    pinged = [KIOSK, local, *beyond]
    reached = [each for each in refused if amina.reaches(*each)] + [each for each in pinged if amina.pings(each)]
    assert not reached and not amina.asks(KIOSK), reached
    # Nor does anybody beyond it get in.
    amina.listen(4180)
    inwards = ("ip", "netns", "exec", "beyond", "python3", "-c", REACHES, addresses[0], "4180", "2")
    assert subprocess.run(inwards, capture_output=True, check=False).returncode
    # All of that would be there without the rules that admins are given.
    lab.run("nft", "delete", "table", "inet", "waypost")
    unreached = [each for each in refused if not amina.reaches(*each)] + [each for each in pinged if not amina.pings(each)]
    assert not unreached and amina.asks(KIOSK), unreached
    lab.run(*inwards)
    for place, other in ((amina, addresses[1]), (bakari, addresses[0])):
        place.run("ip", "route", "delete", f"{other}/32", "via", KIOSK)
    assert reaches_where_they_are_not_kept_apart(kiosk, places[:2], addresses[1])

    kiosk.stop()
    assert lab.wifi.groups() == [], lab.wifi.groups()


def reaches_where_they_are_not_kept_apart(kiosk, places, address):
    """Whether the second can be reached by the first once another program has told wpa_supplicant to pass on what they send."""
    device, names = f"{SERVICE}.Interface.P2PDevice", interfaces()
    busctl("set-property", SERVICE, names["wlan0"], device, "P2PDeviceConfig", "a{sv}", "1", "IntraBss", "b", "true")
    group = next(path for name, path in names.items() if name.startswith("p2p-wlan0-"))
    busctl("call", SERVICE, group, device, "Disconnect")
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
    lab.run("ip", "address", "add", "fd00:b::1/64", "dev", "behind0", "nodad")
    for command in (
        "ip address add 203.0.113.7/24 dev eth0",
        "ip address add fd00:b::7/64 dev eth0 nodad",
        "ip link set eth0 up",
        "ip route add default via 203.0.113.1",
        "ip -6 route add default via fd00:b::1",
    ):
        lab.run(*inside, *command.split())
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")
    lab.start("beyond", *inside, "python3", "-c", LISTEN, 4180).wait_for("listens")
    return ["203.0.113.7", "fd00:b::7"]
