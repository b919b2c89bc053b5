"""The kiosk's radio is in a network of the clinic's besides, and can be on two channels: the group is where the admin wants it, the
kiosk says what that costs, and phones on both sides of it are served at the same time. On the clinic's side it is found by mDNS."""

from lab import Lab, photos, wait_until
from lab.wifi import Router

CONTROLLERS, RADIOS, CHANNELS = 0, 3, 2
LIMIT = 300
WAITS = True
# Of the kiosk and of the router in the clinic's network (RFC 5737).
KIOSK, HOST = "198.51.100.1", "198.51.100.2"


def run(lab: Lab):
    router = Router(lab, "router", "wlan1", channel=1)
    router.admits("wlan0")
    lab.run("ip", "address", "add", f"{KIOSK}/24", "dev", "wlan0")
    router.place.run("ip", "address", "add", f"{HOST}/24", "dev", "wlan1")
    kiosk = lab.wifi_kiosk(channels="[36]")
    group = kiosk.group()
    assert group["group"]["frequency"] == 5180 and "on two channels" in group["why"], group
    invitation = kiosk.invitation()
    amina = lab.wifi.place("amina", "wlan2")
    amina.join(invitation["ssid"], invitation["passphrase"])
    wait_until("amina is in the kiosk's network", amina.is_in, 30)
    amina.address()

    _, port, found, said = router.place.browse(HOST)
    assert (said["n"], port) == ("Lab kiosk", 4180) and KIOSK in found, (said, port, found)

    # One over each, at once.
    inside, beside = lab.phone("amina", place=amina), lab.phone("bakari", place=router.place)
    contents = []
    for number, phone in enumerate((inside, beside)):
        phone.pair(kiosk)
        phone.add(own := photos(1, 2_000_000, seed=number))
        contents += own
    running = [inside.start("sync", "--wait", "60s"), beside.start("sync", "--auto", "--wait", "60s")]
    wait_until("both are there", lambda: kiosk.status()["sessions"] == 2, 30)
    for phone, process in zip((inside, beside), running, strict=True):
        assert process.child.wait(60) == 0, phone.report()
        report = phone.report()
        assert (report["transferred"], report["unconfirmed"], report["medium"]) == (1, 0, "lan"), report
    assert lab.destination().inbox() == dict(contents)
    log = kiosk.log.read_text()
    assert "medium=wifi-direct" in log and "medium=lan" in log, "which of them came how"
    assert router.has("wlan0")
