"""The figures of `make bench-radio`: our links against bare ones in the same guest, medians of 5, taken in turns."""

import json
import statistics
import subprocess
import time

from lab import Lab, forms, photos, wait_until
from lab.capture import DATA_RECEIVED, DATA_SENT

CONTROLLERS = 2
LIMIT = 2400
RUNS = 5
# Bytes per second: what L2CAP reaches on a phone at best (1 Mbit/s). Without it the air carries what the machine can,
# which is more, and the figure tells how fast that emulates ciphers.
RATE = 125_000
# Figure, medium, the bare one, how we sync, the air's rate, bytes, target.
COMPARED = (
    ("ble_vs_l2cap", "ble", "l2cap", [], RATE, 1_500_000, 0.95),
    ("gatt_vs_values", "ble-gatt", "gatt", ["--gatt"], RATE, 400_000, None),
    ("ble_vs_l2cap_in_free_air", "ble", "l2cap", [], None, 4_000_000, None),
    ("gatt_vs_values_in_free_air", "ble-gatt", "gatt", ["--gatt"], None, 400_000, None),
)


def run(lab: Lab):
    kiosk = lab.kiosk("hci0")
    kiosk.configure("quiet", 'log.level = "info"\n')
    wait_until("the kiosk is on the air", lambda: kiosk.adapters() == {"hci0": "ready"})
    amina = lab.phone("amina", "hci1")
    amina.pair(kiosk, "--ble")

    for figure, medium, bare, how, rate, size, target in COMPARED:
        ours, theirs = [], []
        for number in range(RUNS):
            amina.add(photos(1, size=size, seed=number))
            lab.radio.rate(bytes_per_second=rate)
            report = amina.sync("--ble", *how, seconds=300)
            lab.radio.rate(bytes_per_second=None)
            assert (report["transferred"], report["medium"]) == (1, medium), report
            ours.append(report["seconds"])
            kiosk.stop()
            theirs.append(bare_seconds(lab, bare, size, rate))
            kiosk.start()
            wait_until("the kiosk is on the air", lambda: kiosk.adapters() == {"hci0": "ready"})
        value = statistics.median(theirs) / statistics.median(ours)
        rates = f"{size / statistics.median(ours) / 1e3:.0f} against {size / statistics.median(theirs) / 1e3:.0f} kB/s"
        tell(lab, figure, value, "ratio", target, rates)

    trips = []
    for number in range(RUNS):
        since = time.time()
        amina.add(forms(1, seed=100 + number))
        assert amina.sync("--ble")["transferred"] == 1
        trips.append(round_trips(lab, since))
    tell(lab, "ble_first_document_round_trips", statistics.median(trips), "round trips", None, f"{trips}")


def bare_seconds(lab, kind, size, rate):
    server = lab.start("bare", "/tmp/bin/bare", "serve", f"hci{lab.adapter('hci0').index()}")
    try:
        wait_until("the bare one is on the air", lambda: lab.radio.advertisements("hci0"))
        wait_until("the link of before has ended", lambda: not lab.radio.links("hci1"))
        adapter = f"hci{lab.adapter('hci1').index()}"
        command = ["/tmp/bin/bare", kind, adapter, lab.adapter("hci0").address, str(size)]
        lab.radio.rate(bytes_per_second=rate)
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, f"{ran.stderr} {server.log.read_text()}"
        return float(ran.stdout)
    finally:
        lab.radio.rate(bytes_per_second=None)
        server.kill9()
        time.sleep(3)


def round_trips(lab, since):
    """How often the phone had to wait for the kiosk, from asking for the channel until its document was acknowledged: the turns from
    sending to receiving on the phone's adapter, credit for the channel and attributes left out."""
    sent, turns, started = False, 0, False
    for packet in lab.capture().packets(lab.adapter("hci1").index()):
        if packet.time < since or packet.kind not in (DATA_SENT, DATA_RECEIVED):
            continue
        if packet.data[1] >> 4 & 3 == 1:
            continue
        channel, code = int.from_bytes(packet.data[6:8], "little"), packet.data[8]
        # LE credit-based connection request and response; disconnection requests end it.
        is_signal = channel == 5 and code in (0x14, 0x15)
        if channel == 5 and code == 6:
            break
        started |= is_signal
        if not started or not (is_signal or channel >= 0x40):
            continue
        if packet.kind == DATA_SENT:
            sent = True
        elif sent:
            sent, turns = False, turns + 1
    return turns


def tell(lab, figure, value, unit, target, detail):
    holds = None if target is None else value >= target
    lab.note(json.dumps({"figure": figure, "value": round(value, 3), "unit": unit, "target": target, "holds": holds, "detail": detail}))
