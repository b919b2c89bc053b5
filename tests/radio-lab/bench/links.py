"""The figures of `make bench-radio`: our links against bare ones in the same guest, medians of 5, taken in turns."""

import statistics
import subprocess
import time

from lab import Lab, forms, photos, wait_until
from lab.capture import DATA_RECEIVED, DATA_SENT
from lab.figures import tell

CONTROLLERS = 2
CAPTURE = True
LIMIT = 2400
RUNS = 5
# Bytes per second: what L2CAP reaches on a phone at best (1 Mbit/s). Without it the air carries what the machine can,
# which is more, and the ratio tells how fast that emulates ciphers.
RATE = 125_000
# Figure, medium, the bare one, how we sync, bytes in air of that rate, bytes in free air, target.
COMPARED = (
    ("ble_vs_l2cap", "ble", "l2cap", [], 1_500_000, 4_000_000, 0.95),
    ("gatt_vs_values", "ble-gatt", "gatt", ["--gatt"], 1_500_000, 400_000, 0.95),
)
# The channel, the handshake, offer and request, the document and its acknowledgement; and one by chance.
TRIPS = 5


def run(lab: Lab):
    kiosk = lab.kiosk("hci0")
    kiosk.configure("quiet", 'log.level = "info"\n')
    kiosk.on_air()
    amina = lab.phone("amina", "hci1")
    amina.pair(kiosk, "--ble")

    for figure, medium, bare, how, size, free_size, target in COMPARED:
        value, rates = compare(lab, kiosk, amina, (medium, bare, how), size, RATE)
        free, free_rates = compare(lab, kiosk, amina, (medium, bare, how), free_size, None)
        beside = [f"air of {RATE / 1e3:.0f} kB/s: {rates}", f"air that carries what the machine can: {free:.3f} ({free_rates})"]
        tell(lab, figure, value, "ratio", target, True, beside)

    trips = []
    for number in range(RUNS):
        since = time.time()
        amina.add(forms(1, seed=100 + number))
        assert amina.sync("--ble")["transferred"] == 1
        trips.append(round_trips(lab, since))
    beside = [f"each: {trips}, from asking for the channel to the document's acknowledgement"]
    tell(lab, "ble_first_document_round_trips", statistics.median(trips), "round trips", TRIPS, False, beside)


def compare(lab, kiosk, amina, links, size, rate):
    medium, bare, how = links
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
        kiosk.on_air()
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    return theirs / ours, f"{size / ours / 1e3:.0f} against {size / theirs / 1e3:.0f} kB/s"


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
