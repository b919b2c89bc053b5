"""A phone's radio is in a network of its user's, leaves it for the kiosk's, and is back in it however that ends: in order, by ctrl-C, or
killed, when the next command says so. Beside it other phones come over Wi-Fi and Bluetooth at the same time, and none waits for the
others."""

import signal

from lab import Lab, forms, photos, wait_until
from lab.wifi import Router

CONTROLLERS, RADIOS = 3, 5
LIMIT = 420
SIZE = 5_000_000


def run(lab: Lab):
    lab.radio.rate(bytes_per_second=100_000)
    kiosk = lab.wifi_kiosk("hci0", channels='"2.4GHz"')
    kiosk.on_air()
    group, invitation = kiosk.group(), kiosk.invitation()
    home = Router(lab, "home", "wlan2", channel=11, ssid="Home", passphrase="home-passphrase")
    amina = lab.phone("amina", "hci1", radio="wlan1")
    home.admits("wlan1", amina.bus)
    amina.pair(kiosk, "--ble")

    # Many at once.
    amina.add(photos(1, SIZE))
    bakari = lab.phone("bakari", "hci2")
    bakari.pair(kiosk, "--ble")
    bakari.add(forms(10, 1) + photos(1, 1_000_000, seed=30))
    others = []
    for number, name in enumerate(("chiku", "dalia"), 3):
        place = lab.wifi.place(name, f"wlan{number}")
        place.join(invitation["ssid"], invitation["passphrase"], group["group"]["frequency"])
        wait_until(f"{name} is in it", place.is_in, 30)
        place.address()
        phone = lab.phone(name, place=place)
        phone.pair(kiosk)
        phone.add(photos(1, 2 * SIZE, seed=number))
        others.append(phone)
    running = [(bakari, bakari.start("sync", "--ble")), (amina, amina.start("sync", "--ble", "--wifi"))]
    running += [(phone, phone.start("sync", "--lan")) for phone in others]
    for _, process in running:
        process.wait_for('"event":"connected"', 30)
    assert all(process.running() for _, process in running), "all four at once"
    for phone, process in running:
        assert process.child.wait(120) == 0, (phone.name, phone.report())
    reports = {phone.name: phone.report() for phone, _ in running}
    assert [one["transferred"] for one in reports.values()] == [11, 1, 1, 1], reports
    assert [one["medium"] for one in reports.values()] == ["ble", "wifi-direct", "lan", "lan"], reports
    # It went on over Wi-Fi where the kiosk had it.
    assert reports["amina"]["bytes_out"] < SIZE * 1.08, reports["amina"]
    seconds = [reports[phone.name]["seconds"] for phone in others]
    # One after the other the second would take twice as long.
    lab.note(f"two phones with as much over Wi-Fi: {max(seconds) / min(seconds):.2f} (at most 1.5)")
    assert max(seconds) <= 1.5 * min(seconds), reports
    wait_until("amina is at home again", lambda: home.has("wlan1"), 20)

    # Ctrl-C while it is in the kiosk's network.
    amina.add(photos(1, 2 * SIZE, seed=20))
    sync = amina.start("sync", "--ble", "--wifi")
    sync.wait_for('"event":"moved"', 60)
    assert not home.has("wlan1")
    assert sync.interrupt() == -signal.SIGINT
    wait_until("amina is at home again after ctrl-C", lambda: home.has("wlan1"), 20)

    # Killed: whoever takes the radio next puts it right.
    sync = amina.start("sync", "--ble", "--wifi")
    sync.wait_for('"event":"moved"', 60)
    sync.kill9()
    assert not home.has("wlan1")
    near = amina.start("gateways", "--wifi-direct")
    wait_until("amina is at home again after it was killed", lambda: home.has("wlan1"), 30)
    near.stop()
