"""Our phone by Wi-Fi alone: it finds the kiosk by Wi-Fi Direct, pairs and syncs in its group by button, finds it on the network once it
is in that, and uses whatever is there with `--auto` and `run`. Who has the wrong passphrase does not get in, and who is in but not
paired gets nothing."""

import time

from lab import Lab, forms, photos, wait_until
from lab.wifi import ANNOUNCE

CONTROLLERS, RADIOS = 0, 4
LIMIT = 360
WAITS = True
KIOSK = "172.29.77.1"


def run(lab: Lab):
    kiosk = lab.wifi_kiosk()
    group, invitation = kiosk.group(), kiosk.invitation()
    amina = lab.phone("amina", radio="wlan1", place=lab.wifi.place("amina", "wlan1"))

    near = amina.run("gateways", "--wifi-direct").last["near"]
    assert [(one["name"], one["medium"], one["group"], one["known_name"]) for one in near] == [
        ("Lab kiosk", "wifi-direct", True, False)
    ], near
    amina.pair(kiosk, "--wifi-direct")
    amina.add(contents := forms(5) + photos(1))
    report = amina.sync("--wifi-direct", "--wait", "30s")
    assert (report["transferred"], report["unconfirmed"], report["medium"]) == (6, 0, "wifi-direct"), report
    assert lab.destination().inbox() == dict(contents)
    wait_until("it has left", lambda: kiosk.wifi()["stations"] == 0, 10)

    # Whatever is there: nothing but this.
    amina.add(forms(1, 2))
    report = amina.sync("--auto", seconds=120)
    assert (report["transferred"], report["medium"]) == (1, "wifi-direct"), report

    # By itself, once there is something, by whatever there is.
    before = len(amina.reports())
    amina.start("run")
    amina.add(forms(1, 3))
    wait_until("it has handed it over by itself", lambda: "form-3-0000.txt" in lab.destination().inbox(), 60)
    wait_until("it says how", lambda: len(amina.reports()) > before, 30)
    assert amina.report()["medium"] == "wifi-direct", amina.report()

    # On the network: a laptop that has joined it by name and passphrase.
    bakari = lab.wifi.place("bakari", "wlan2")
    bakari.join(invitation["ssid"], invitation["passphrase"], group["group"]["frequency"])
    wait_until("bakari is in it", bakari.is_in)
    bakari.address()
    phone = lab.phone("bakari", place=bakari)
    # What it asks over IPv6 at first gets no answer.
    bakari.run("nft", 'table inet deaf { chain heard { type filter hook input priority raw; meta nfproto ipv6 udp dport 5353 drop; }; }')
    # And somebody announces what cannot be asked for.
    lab.start("elsewhere", "python3", "-c", ANNOUNCE, KIOSK).wait_for("announced")
    looking = phone.start("gateways", "--lan", "--seconds", "8")
    time.sleep(3)
    bakari.run("nft", "delete table inet deaf")
    assert looking.child.wait(30) == 0
    near = {one["name"]: one["addresses"] for one in phone.said()[-1]["near"]}
    assert sorted(near) == ["Elsewhere", "Lab kiosk"], near
    assert all(any(part in one for one in near["Lab kiosk"]) for part in (KIOSK, "fe80::")), near
    # In the network, and not paired.
    phone.add(forms(1, 4))
    refused = phone.run("sync", "--unverified", "--address", f"{KIOSK}:4180", check=False)
    assert refused.status == 1 and refused.last["ending"] == "turned away", refused.last
    phone.pair(kiosk)
    phone.add(forms(1, 5))
    report = phone.sync("--lan")
    assert (report["transferred"], report["medium"]) == (1, "lan"), report

    chiku = lab.wifi.place("chiku", "wlan3")
    chiku.join(invitation["ssid"], invitation["passphrase"][::-1], group["group"]["frequency"])
    chiku.wait_for(r"reason=WRONG_KEY|pre-shared key may be incorrect", 40)
    log = kiosk.log.read_text()
    assert not chiku.is_in() and "address=02:00:00:00:02:00 stations" in log and "02:00:00:00:03:00" not in log
