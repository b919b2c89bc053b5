"""The other ways in: a group that comes when a phone asks for it by Wi-Fi Direct, by PIN, and from then on by itself; one that is
closed; a system that joins by itself. Where there is no 5 GHz, and where the radio has a long name."""

import time

from lab import Lab, forms, photos, wait_until
from lab.wifi import is_in, join, with_bus

CONTROLLERS, RADIOS = 2, 4
LIMIT = 420
WAITS = True
# wpa_supplicant has no room for it in the names of its groups.
LONG = "wlan-of-a-kiosk"


def run(lab: Lab):
    # A country that allows no group on 5 GHz.
    lab.run("iw", "reg", "set", "00")
    lab.run("ip", "link", "set", "wlan0", "down")
    lab.run("ip", "link", "set", "wlan0", "name", LONG)
    kiosk = lab.wifi_kiosk("hci0", mode='"on-demand"', idle='"5s"', join='"pin"', interface=f'"{LONG}"')
    wait_until("Wi-Fi waits", lambda: kiosk.wifi()["state"] == "waiting")
    invitation = kiosk.invitation()
    amina = lab.phone("amina", radio="wlan1", place=lab.wifi.place("amina", "wlan1"))
    pin, begun = invitation["pin"], time.monotonic()
    # Its last digit fits as well.
    wrong = f"{(int(pin[0]) + 1) % 10}{pin[1]}{(int(pin[2]) - 1) % 10}{pin[3:]}"
    refused = amina.run("pair", kiosk.code(), "--wifi-direct", "--pin", wrong, check=False)
    assert refused.status != 0 and "does not take the PIN" in str(refused.last), refused.last
    lab.note(f"a wrong PIN is refused after {time.monotonic() - begun:.0f} s")
    amina.pair(kiosk, "--wifi-direct", "--pin", pin)
    group = kiosk.group()["group"]
    assert group["interface"] in lab.wifi.groups() and LONG not in group["interface"], group
    lab.note(f"{group['interface']} on {group['frequency']} MHz")
    assert group["frequency"] < 2_500, group
    kiosk.stop()
    assert lab.wifi.groups() == []
    kiosk.start()
    wait_until("Wi-Fi waits anew", lambda: (kiosk.wifi() or {}).get("state") == "waiting")
    amina.add(forms(2))
    # No PIN: it was let in before.
    report = amina.sync("--wifi-direct")
    assert (report["transferred"], report["medium"]) == (2, "wifi-direct"), report
    assert "medium=wifi-direct" in kiosk.log.read_text(), "what comes by the group is told from what comes by other networks"

    # Closed: no button, no PIN; but whoever knows name and passphrase.
    kiosk.stop()
    assert lab.wifi.groups() == []
    kiosk.configure("zz-closed", 'wifi_direct.join = "closed"\nwifi_direct.mode = "always"\n')
    kiosk.start()
    group = kiosk.group()["group"]
    assert "pin" not in kiosk.invitation() or kiosk.invitation()["pin"] is None, kiosk.invitation()
    bakari = lab.phone("bakari", radio="wlan3", place=lab.wifi.place("bakari", "wlan3"))
    refused = bakari.start("pair", kiosk.code(), "--wifi-direct")
    amina.add(forms(1, 2))
    report = amina.sync("--wifi-direct")
    assert (report["transferred"], report["medium"]) == (1, "wifi-direct"), report
    assert refused.child.wait(120) != 0 and "did not let this device in" in str(bakari.said()[-1]), bakari.said()[-1]

    # Without a network, by Bluetooth (of BlueZ alone, in there); what runs by itself moves as well where that is worth it.
    kiosk.on_air()
    lab.radio.rate(bytes_per_second=100_000)
    bakari.pair(kiosk, "--ble")
    bakari.add(forms(1, 3))
    report = bakari.sync("--auto", seconds=120)
    assert (report["transferred"], report["medium"]) == (1, "ble-gatt"), report
    runs = bakari.start("run")
    bakari.add(photos(1, 3_000_000, seed=4))
    moved = wait_until("it has handed it over by itself", lambda: [one for one in bakari.reports() if one["over_wifi"]], 60)
    assert (moved[0]["transferred"], moved[0]["medium"]) == (1, "wifi-direct"), moved
    assert "medium=ble-gatt" in kiosk.log.read_text()
    runs.stop()

    # A system that joins by itself: our phone only moves its session there.
    bus = with_bus(lab.state / "system", lambda name, *command, environment: lab.start(f"system-{name}", *command, **environment))
    join("wlan2", invitation["ssid"], invitation["passphrase"], bus)
    wait_until("it is in it", lambda: is_in("wlan2", invitation["ssid"]), 30)
    chiku = lab.phone("chiku", "hci1")
    chiku.pair(kiosk, "--ble")
    chiku.add(photos(1, 5_000_000))
    report = chiku.sync("--ble", "--wifi", "--radio", "joined")
    assert (report["transferred"], report["medium"], report["over_wifi"]) == (1, "wifi-direct", True), report
    assert is_in("wlan2", invitation["ssid"]), "it is left as it was"
