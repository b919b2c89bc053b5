"""The kiosk's radio is in a network of the clinic's besides, and can be on one channel only: the group is on that network's channel,
and the network stays. Where the admin has chosen another channel, the kiosk says that it cannot be."""

from lab import Lab, forms, wait_until
from lab.wifi import Router

CONTROLLERS, RADIOS, CHANNELS = 0, 3, 1
LIMIT = 300


def run(lab: Lab):
    router = Router(lab, "router", "wlan1", channel=1)
    router.admits("wlan0")
    kiosk = lab.wifi_kiosk()
    group = kiosk.group()
    assert group["group"]["frequency"] == 2412, "5 GHz would be preferred"
    assert router.has("wlan0")
    invitation = kiosk.invitation()
    amina = lab.wifi.place("amina", "wlan2")
    amina.join(invitation["ssid"], invitation["passphrase"])
    wait_until("amina is in the kiosk's network", amina.is_in, 30)
    amina.address()
    phone = lab.phone("amina", place=amina)
    phone.pair(kiosk)
    phone.add(forms(3))
    assert phone.sync()["transferred"] == 3 and router.has("wlan0")

    kiosk.stop()
    kiosk.configure("channels", "wifi_direct.channels = [36]\n")
    kiosk.start()
    kiosk.process.wait_for("the radio is in a network on 2412 MHz, and cannot have a group there or on another frequency", 30)
    wifi = kiosk.wifi()
    assert wifi["state"] == "failed" and "use another radio for one of the two" in wifi["why"], wifi
    assert router.has("wlan0"), "the backhaul is worth more"
