"""The kiosk's radio is in a network of the clinic's besides, and can be on two channels: the group is where the admin wants it, and the
kiosk says what that costs."""

from lab import Lab, wait_until
from lab.wifi import Router

CONTROLLERS, RADIOS, CHANNELS = 0, 3, 2


def run(lab: Lab):
    router = Router(lab, "router", "wlan1", channel=1)
    router.admits("wlan0")
    kiosk = lab.wifi_kiosk(channels="[36]")
    group = kiosk.group()
    assert group["group"]["frequency"] == 5180 and "on two channels" in group["why"], group
    invitation = kiosk.invitation()
    amina = lab.wifi.place("amina", "wlan2")
    amina.join(invitation["ssid"], invitation["passphrase"])
    wait_until("amina is in the kiosk's network", amina.is_in, 30)
    assert router.has("wlan0")
