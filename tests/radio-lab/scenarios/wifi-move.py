"""A phone that has come over Bluetooth with a large document goes on over Wi-Fi in the middle of it, at the byte that the kiosk has;
and on over Bluetooth when Wi-Fi drops. Nobody who listens on the air or on the message bus, or reads the logs, sees the network's
passphrase or the token."""

import hashlib
import re
import socket
import time
from datetime import datetime

from lab import Lab, forms, photos, wait_until
from lab.capture import DATA_SENT
from lab.wifi import PORT, SNIFF
from lab.wifi import run as run_command

CONTROLLERS, RADIOS = 2, 2
CAPTURE = True
LIMIT = 600
SIZE = 20_000_000
SMALLER = 1_250_000
# What Bluetooth carries, bytes a second: slow enough that Wi-Fi is worth it.
SLOW, FAST = 50_000, 400_000
# Bytes that are on their way over Wi-Fi when it drops, at most.
ON_ITS_WAY = 750_000
SILENT = 'table inet silent { chain heard { type filter hook input priority raw; iifname "wlan1" drop; }; }'


def run(lab: Lab):
    lab.radio.rate(bytes_per_second=SLOW)
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

    # In the middle of a large document, and back when Wi-Fi drops: by silence, where nobody says that it has ended.
    amina.add(large := photos(1, SIZE))
    air = lab.results / "hci.btsnoop"
    begun, first = time.time(), air.stat().st_size
    # The radio can do nothing at that moment: as soon as it can, the phone is told.
    lab.wifi.rfkill("wlan0", True)
    wait_until("Wi-Fi is blocked", lambda: kiosk.wifi()["state"] == "blocked")
    sync = amina.start("sync", "--ble", "--wifi", "--wait", "60s")
    sync.wait_for('"event":"progress"', 60)
    lab.wifi.rfkill("wlan0", False)
    sync.wait_for('"event":"joining"', 60)
    told, written = (begun, time.time()), slice(first, air.stat().st_size)
    sync.wait_for('"event":"moved"', 60)
    over_bluetooth = amina.moved()
    assert 0 < over_bluetooth < SIZE / 2, over_bluetooth
    wait_until("Bluetooth is free for others", lambda: lab.radio.links("hci1") == [], 10)
    wait_until("most has gone over Wi-Fi", lambda: amina.moved() > SIZE * 0.7, 60)
    # As a radio goes out of reach.
    run_command("nft", SILENT)
    over_wifi = amina.moved()
    assert over_wifi < SIZE, "in the middle of it"
    is_on_over_bluetooth(lab, sync)
    report = amina.report()
    assert (report["transferred"], report["medium"], report["over_wifi"], report["unconfirmed"]) == (1, "ble", True, 0), report
    # It went on where the kiosk had it, both times: what was on its way went twice, and nothing else.
    assert report["bytes_out"] < SIZE * 1.01 + over_bluetooth / 2 + ON_ITS_WAY, report
    lab.note(f"moved after {over_bluetooth} bytes, back after {over_wifi}, {report['bytes_out']} bytes for a photo of {SIZE}")
    contents = forms(1) + large
    assert lab.destination().inbox() == dict(contents)
    run_command("nft", "delete table inet silent")
    # Somebody who has heard how it moved sends the same again.
    heard = bytes.fromhex(sniffer.wait_for(r"^([0-9a-f]{800})$")[1])
    assert replay(heard) == b"", "no answer"
    kiosk.process.wait_for("pairing code .* is unknown or used up")

    wait_until("the group has ended, since nobody is in it", lambda: lab.wifi.groups() == [], 30)
    assert kiosk.wifi()["state"] == "waiting"
    waited = logged(kiosk, "the Wi-Fi Direct group has ended") - logged(kiosk, "a device has left .* stations=0")
    assert 9 <= waited <= 15, f"nobody was in it for {waited} s"

    # It drops since the phone's radio is blocked, or the kiosk's.
    for number, radio in ((7, "wlan1"), (8, "wlan0")):
        lab.radio.rate(bytes_per_second=SLOW)
        amina.add(smaller := photos(1, SMALLER, seed=number))
        sync = amina.start("sync", "--ble", "--wifi", "--wait", "60s")
        sync.wait_for('"event":"moved"', 60)
        lab.wifi.rfkill(radio, True)
        is_on_over_bluetooth(lab, sync)
        report = amina.report()
        assert (report["transferred"], report["medium"], report["unconfirmed"]) == (1, "ble", 0), report
        assert report["bytes_out"] < SMALLER + ON_ITS_WAY, report
        contents += smaller
        assert lab.destination().inbox() == dict(contents)
        lab.wifi.rfkill(radio, False)

    [each.stop() for each in listeners]
    nobody_has_seen_it(lab, kiosk, heard[9:17], told, written)


def is_on_over_bluetooth(lab, sync):
    """Wi-Fi has just dropped: that is seen, and it comes to its end all the same."""
    begun = time.monotonic()
    sync.wait_for('"event":"not-moved"', 60)
    lab.note(f"seen after {time.monotonic() - begun:.1f} s")
    assert time.monotonic() - begun < 15
    # What is left goes on in the same way however long that takes.
    lab.radio.rate(bytes_per_second=FAST)
    assert sync.child.wait(120) == 0, sync.log.read_text()[-1000:]


def logged(kiosk, what):
    """When the kiosk has said that last, in seconds."""
    line = [line for line in kiosk.log.read_text().splitlines() if re.search(what, line)][-1]
    return datetime.fromisoformat(line[1:21]).timestamp()


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


def nobody_has_seen_it(lab, kiosk, token_id, told, written):
    """`token_id`: what the phone has said in clear of the token with which it moved; `told`: between when the kiosk has told it,
    `written`: and where in the capture of the air that is."""
    invitation = kiosk.invitation()
    ssid, passphrase = invitation["ssid"].encode(), invitation["passphrase"].encode()
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
    # What wpa_supplicant has to be told, and so whoever may listen to it, is the key that passphrase and name come to: of this
    # network alone. That both are found shows that this can find something.
    key = hashlib.pbkdf2_hmac("sha1", passphrase, ssid, 4096, 32)
    secret, known = bytes(range(0xD0, 0xE0)), bytes.fromhex("cc1adf9ca8f2fb44")
    assert holds_token(b"\0%s\0" % secret, known) and holds_token(forms_of(b'"%s"' % secret.hex().encode())[1], known)
    whole = seen["the air"]
    assert passphrase not in whole and key not in whole
    seen["the air"] = whole[written]
    assert len(seen["the air"]) > 50_000, written
    # Of that, what the kiosk has sent, as links have it: each packet without the header of the controller's.
    packets = lab.capture().packets(lab.adapter("hci0").index(), DATA_SENT)
    sent = [packet for packet in packets if told[0] <= packet.time <= told[1]]
    seen["the kiosk's part of the air"] = b"".join(packet.data[4:] for packet in sent)
    assert len(seen["the kiosk's part of the air"]) > 1_000, told
    for place, text in seen.items():
        is_bus = place.endswith("bus")
        assert is_bus == any(ssid in form and key in form for form in forms_of(text)), place
        assert not any(passphrase in form for form in forms_of(text)), place
        assert is_bus or not any(key in form for form in forms_of(text)), place
        # Nobody writes its bytes into a log as they are.
        forms = forms_of(text)[0 if place.endswith("the air") else 1 :]
        assert not any(holds_token(form, token_id) for form in forms), place


def forms_of(text):
    """What is written as it is, digits as the bytes that they stand for, and what `busctl monitor` prints of arrays, a byte a line."""
    digits = b"\0".join(bytes.fromhex(one.decode()[: len(one) & ~1]) for one in re.findall(rb"[0-9a-fA-F]{32,}", text))
    return [text, digits, bytes(int(one) for one in re.findall(rb"BYTE (\d+);", text))]


def holds_token(form, token_id):
    """Whether a token is among these bytes that has this id (docs/protocol.md, 20)."""
    begun = hashlib.sha256(b"waypost code id v1")
    for at in range(len(form) - 15):
        one = begun.copy()
        one.update(form[at : at + 16])
        if one.digest()[:8] == token_id:
            return True
    return False
