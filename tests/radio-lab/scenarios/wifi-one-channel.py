"""The kiosk's radio is to be in a network of the clinic's besides, and can be on one channel only: the group gives way to it, comes back
on that network's channel, and the network stays. Where the admin has chosen another channel, the kiosk says that it cannot be."""

import time

from lab import Lab, forms, wait_until
from lab.bus import busctl
from lab.wifi import SERVICE, Router, interfaces

CONTROLLERS, RADIOS, CHANNELS = 0, 3, 1
LIMIT = 300
WAITS = True
# Of the kiosk, and of a server in the clinic's network (RFC 5737).
KIOSK, SERVER = "198.51.100.1", "198.51.100.2"


def run(lab: Lab):
    router = Router(lab, "router", "wlan1", channel=1)
    lab.run("ip", "address", "add", f"{KIOSK}/24", "dev", "wlan0")
    router.place.run("ip", "address", "add", f"{SERVER}/24", "dev", "wlan1")
    destination = lab.destination(8444, host=SERVER, place=router.place)
    kiosk = lab.wifi_kiosk(destination=destination)
    assert kiosk.group()["group"]["frequency"] == 5180
    router.admits("wlan0", seconds=60)
    kiosk.process.wait_for("gives way: the radio is to join a network on another channel", 0)
    assert kiosk.group()["group"]["frequency"] == 2412 and router.has("wlan0")
    invitation = kiosk.invitation()
    amina = lab.wifi.place("amina", "wlan2")
    amina.join(invitation["ssid"], invitation["passphrase"])
    wait_until("amina is in the kiosk's network", amina.is_in, 30)
    amina.address()
    phone = lab.phone("amina", destination=destination, place=amina)
    phone.pair(kiosk)
    phone.add(forms(3))
    report = phone.sync("--wait", "60s")
    assert (report["transferred"], report["unconfirmed"], report["medium"]) == (3, 0, "lan"), report
    assert destination.inbox() == dict(forms(3)) and router.has("wlan0"), "by the same radio, both ways"

    kiosk.stop()
    kiosk.start()
    assert kiosk.group()["group"]["frequency"] == 2412, "5 GHz would be preferred"
    assert router.has("wlan0") and kiosk.log.read_text().count("gives way") == 1

    # What somebody has switched off stays so, with the group and without.
    network = f"{interfaces()['wlan0']}/Networks/0"
    switch(network, False)
    wait_until("the radio has left the clinic's network", lambda: not router.has("wlan0"))
    time.sleep(10)
    assert not is_on(network) and kiosk.wifi()["state"] == "up" and kiosk.log.read_text().count("gives way") == 1
    kiosk.stop()
    assert not is_on(network)
    # What the group keeps out is let in as the kiosk stops, also where that has only just come to be.
    kiosk.configure("channels", "wifi_direct.channels = [36]\n")
    kiosk.start()
    kiosk.group()
    switch(network, True)
    wait_until("it is kept out", lambda: not is_on(network), 30)
    kiosk.stop()
    assert is_on(network)
    wait_until("the radio is in it again", lambda: router.has("wlan0"), 30)

    # What another group has left in the kernel is named.
    lab.run("iw", "dev", "wlan0", "interface", "add", "p2p-wlan0-9", "type", "managed")
    kiosk.start()
    kiosk.process.wait_for("the radio is in a network on 2412 MHz, and cannot have a group there or on another frequency", 30)
    wifi = kiosk.wifi()
    assert wifi["state"] == "failed" and "use another radio for one of the two" in wifi["why"], wifi
    assert "which may be in the way: iw dev p2p-wlan0-9 del; where NetworkManager runs" in wifi["why"], wifi
    assert router.has("wlan0"), "the backhaul is worth more"


def switch(network, on):
    busctl("set-property", SERVICE, network, f"{SERVICE}.Network", "Enabled", "b", str(on).lower())


def is_on(network):
    return busctl("get-property", SERVICE, network, f"{SERVICE}.Network", "Enabled")
