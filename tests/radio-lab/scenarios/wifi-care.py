"""The group comes back, whatever it was that ended it: somebody else, wpa_supplicant killed, the radio blocked, pulled out and plugged
in again. A kiosk that was killed leaves one behind, and ends it at its next start."""

import os
import signal
import time

from lab import Lab, wait_until
from lab.bus import busctl
from lab.wifi import SERVICE, interfaces

CONTROLLERS, RADIOS = 0, 2
LIMIT = 360
WAITS = True


def run(lab: Lab):
    # A stick: radios that are there from the start have a second address besides.
    stick = lab.wifi.pull("wlan0")
    lab.wifi.plug(stick)
    kiosk = lab.wifi_kiosk()
    first = kiosk.group()["group"]
    amina = lab.wifi.place("amina", "wlan1")
    invitation = kiosk.invitation()
    amina.join(invitation["ssid"], invitation["passphrase"])
    # It looks for the group again soon.
    amina.ask("SCAN_INTERVAL", "1", interface="wlan1")
    wait_until("amina is in it", amina.is_in)

    def comes_back(what, seconds=40):
        group = kiosk.group(seconds)["group"]
        assert group["bssid"] == first["bssid"], (what, group)
        assert lab.wifi.groups() == [group["interface"]], (what, lab.wifi.groups())
        wait_until(f"amina is in it again after {what}", lambda: amina.is_in() and kiosk.wifi()["stations"] == 1, 60)

    # Somebody takes the group's interface from wpa_supplicant, as NetworkManager does, which leaves it in the kernel.
    left = kiosk.wifi()["group"]["interface"]
    busctl("call", SERVICE, "/fi/w1/wpa_supplicant1", SERVICE, "RemoveInterface", "o", interfaces()[left])
    kiosk.process.wait_for("Wi-Fi Direct is failed: the group has ended by itself", 10)
    assert left in lab.wifi.groups(), lab.wifi.groups()
    lab.run("iw", "dev", left, "del")
    comes_back("it was taken from wpa_supplicant")

    # Somebody else ends it.
    end_group()
    wait_until("the kiosk sees that", lambda: kiosk.wifi()["state"] != "up", 10)
    comes_back("it was ended")

    # wpa_supplicant is killed, which D-Bus starts again.
    os.kill(supplicant(lab), signal.SIGKILL)
    kiosk.process.wait_for("Wi-Fi Direct is missing: wpa_supplicant does not run")
    comes_back("wpa_supplicant was killed")

    lab.wifi.rfkill("wlan0", True)
    kiosk.process.wait_for("Wi-Fi Direct is blocked: .*rfkill unblock wifi", 20)
    assert kiosk.wifi()["state"] == "blocked", kiosk.wifi()
    lab.wifi.rfkill("wlan0", False)
    comes_back("it was blocked")

    # The radio goes, as it does with a stick that is pulled out.
    lab.wifi.pull("wlan0")
    kiosk.process.wait_for("Wi-Fi Direct is missing: no Wi-Fi radio wlan0 is there", 20)
    lab.wifi.plug(stick)
    comes_back("it was plugged in again", 60)

    # A kiosk that is killed.
    kiosk.kill9()
    left = lab.wifi.groups()
    assert len(left) == 1, left
    kiosk.start()
    comes_back("the kiosk was killed")

    # wpa_supplicant hangs while the kiosk ends: that takes its time, and no longer.
    hung = supplicant(lab)
    os.kill(hung, signal.SIGSTOP)
    begun = time.monotonic()
    assert kiosk.stop() == 0
    took = time.monotonic() - begun
    assert 4 < took < 15, took
    kiosk.process.wait_for("the Wi-Fi Direct group could not be ended in time")
    os.kill(hung, signal.SIGCONT)
    kiosk.start()
    comes_back("wpa_supplicant hung")

    # Other sticks in its place: one whose driver has no device of its own for Wi-Fi Direct, and one that knows none of it.
    for p2p, state in (("interface", "up"), (None, "unsupported")):
        lab.wifi.pull("wlan0")
        kiosk.process.wait_for("Wi-Fi Direct is missing: no Wi-Fi radio wlan0 is there", 20)
        lab.wifi.plug(stick, p2p=p2p)
        wait_until(f"it is {state} with p2p={p2p}", lambda: kiosk.wifi()["state"] == state, 40)
        lab.note(f"p2p={p2p}: {kiosk.wifi()}")
    # And one that can, which it does not take for the one before.
    lab.wifi.pull("wlan0")
    lab.wifi.plug(stick)
    kiosk.group()

    # Stopped while the group is only beginning.
    kiosk.stop()
    assert lab.wifi.groups() == []
    kiosk.start()
    wait_until("it begins", lab.wifi.groups)
    assert kiosk.stop() == 0 and lab.wifi.groups() == []

    # Killed, and switched off then: it ends what was left, and leaves the radio alone, whatever asks.
    kiosk.start()
    kiosk.group()
    kiosk.kill9()
    assert lab.wifi.groups() != []
    kiosk.configure("zz-off", 'wifi_direct.mode = "off"\n')
    kiosk.start()
    wait_until("what was left is ended", lambda: lab.wifi.groups() == [])
    assert kiosk.status()["wifi"] is None and kiosk.run("wifi", check=False).status != 0
    assert lab.wifi.groups() == []


def supplicant(lab):
    """The process of wpa_supplicant."""
    return int(lab.run("systemctl", "show", "--property=MainPID", "--value", "wpa_supplicant.service"))


def end_group():
    """As anyone could with `wpa_cli`."""
    for name, path in interfaces().items():
        if name.startswith("p2p-wlan0-"):
            busctl("call", SERVICE, path, f"{SERVICE}.Interface.P2PDevice", "Disconnect")
