"""A phone that has come over Bluetooth with a large document goes on over Wi-Fi in the middle of it, at the byte that the kiosk has;
and on over Bluetooth when Wi-Fi drops. Nobody who listens on the air or on the message bus, or reads the logs, sees the network's
passphrase or the token."""

import socket

from lab import Lab, forms, photos, wait_until
from lab.wifi import PORT, SNIFF

CONTROLLERS, RADIOS = 2, 2
LIMIT = 240
SIZE = 20_000_000


def run(lab: Lab):
    lab.radio.rate(bytes_per_second=100_000)
    listeners = [lab.start("bus", "busctl", "monitor")]
    sniffer = lab.start("sniffer", "python3", "-c", SNIFF, PORT)
    sniffer.wait_for("listens")
    kiosk = lab.wifi_kiosk("hci0", mode='"on-demand"', idle='"10s"', channels='"2.4GHz"')
    kiosk.on_air()
    wait_until("Wi-Fi waits", lambda: kiosk.wifi()["state"] == "waiting")
    amina = lab.phone("amina", "hci1", radio="wlan1")
    listeners.append(lab.start("amina-bus-monitor", "busctl", f"--address={amina.bus}", "monitor"))
    amina.pair(kiosk, "--ble")

    # A form is not worth it.
    amina.add(forms(1))
    report = amina.sync("--ble", "--wifi")
    assert (report["transferred"], report["medium"], report["over_wifi"]) == (1, "ble", False), report
    assert kiosk.wifi()["state"] == "waiting"

    amina.add(large := photos(1, SIZE))
    sync = amina.start("sync", "--ble", "--wifi", "--wait", "60s")
    sync.wait_for('"event":"moved"', 60)
    over_bluetooth = amina.moved()
    assert 0 < over_bluetooth < SIZE / 2, over_bluetooth
    assert sync.child.wait(120) == 0, amina.report()
    report = amina.report()
    assert (report["transferred"], report["medium"], report["over_wifi"], report["unconfirmed"]) == (1, "wifi-direct", True, 0), report
    # Of 20 MB no more went twice than what was on its way when it moved.
    assert report["bytes_out"] < SIZE * 1.05, report
    lab.note(f"moved after {over_bluetooth} bytes, {report['seconds']:.1f} s in all, {report['bytes_out']} bytes for a photo of {SIZE}")
    assert lab.destination().inbox() == dict(forms(1) + large)
    # Somebody in the network who has heard how it moved sends the same again.
    heard = bytes.fromhex(sniffer.wait_for(r"^([0-9a-f]{800})$")[1])
    assert replay(heard) == b"", "no answer"
    kiosk.process.wait_for("pairing code .* is unknown or used up")

    wait_until("the group has ended, since nobody is in it", lambda: lab.wifi.groups() == [], 30)
    assert kiosk.wifi()["state"] == "waiting"

    # Wi-Fi drops in the middle.
    amina.add(photos(1, SIZE, seed=7))
    sync = amina.start("sync", "--ble", "--wifi")
    sync.wait_for('"event":"moved"', 60)
    lab.wifi.rfkill("wlan1", True)
    sync.wait_for('"event":"not-moved"', 60)
    at = amina.moved()
    wait_until("it goes on over Bluetooth", lambda: amina.moved() > at + 200_000, 40)
    sync.stop()
    lab.wifi.rfkill("wlan1", False)

    [each.stop() for each in listeners]
    nobody_has_seen_it(lab, kiosk)


def replay(heard):
    """Sends the first two frames of a connection to the kiosk; answers what it says to that."""
    frames, at = b"", 0
    for _ in range(2):
        length = 2 + int.from_bytes(heard[at : at + 2])
        frames, at = frames + heard[at : at + length], at + length
    assert frames[2:6] == b"WPST" and frames[8] == 2, "a code's handshake"
    with socket.create_connection(("::1", PORT), timeout=10) as again:
        again.sendall(frames)
        return again.recv(1_000)


def nobody_has_seen_it(lab, kiosk):
    passphrase = kiosk.invitation()["passphrase"].encode()
    journal = lab.run("journalctl", "--no-pager", "--output=export", f"--since=@{lab.begun:.0f}").encode()
    seen = {
        "the air": (lab.results / "hci.btsnoop").read_bytes(),
        "the kiosk's bus": (lab.results / "bus.log").read_bytes(),
        "the phone's bus": (lab.results / "amina-bus-monitor.log").read_bytes(),
        "the journal": journal,
        "the kiosk's log": kiosk.log.read_bytes(),
        "the phone's log": (lab.results / "amina.log").read_bytes(),
    }
    assert all(len(text) > 1_000 for text in seen.values()), {place: len(text) for place, text in seen.items()}
    assert b"AddPersistentGroup" in seen["the kiosk's bus"] and b"AddNetwork" in seen["the phone's bus"], "it was listened to"
    as_bytes = b",".join(str(byte).encode() for byte in passphrase)
    for place, text in seen.items():
        for secret in (passphrase, passphrase.hex().encode(), as_bytes):
            assert secret not in text, place
