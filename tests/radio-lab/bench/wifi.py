"""The figures of `make bench-radio` for Wi-Fi: a large document against iperf3 between the same two machines, taken in turns; and how
long moving takes."""

import json
import statistics
import time

from lab import Lab, photos, wait_until
from lab.figures import tell

CONTROLLERS, RADIOS = 2, 3
LIMIT = 2400
RUNS = 5
SIZE = 50_000_000
# Slow air, which iperf3 fills here; without it the emulated processor is the limit of both, and the ratio tells besides how fast
# that computes ciphers. The target is held against the air without a limit, as the design has it.
RATE = "8mbit"
KIOSK = "172.29.77.1"
TARGET = 0.8


def run(lab: Lab):
    kiosk = lab.wifi_kiosk("hci0", running=False)
    kiosk.configure("quiet", 'log.level = "info"\n')
    kiosk.start()
    group, invitation = kiosk.group(), kiosk.invitation()
    place = lab.wifi.place("bakari", "wlan2")
    place.join(invitation["ssid"], invitation["passphrase"], group["group"]["frequency"])
    wait_until("bakari is in it", place.is_in)
    place.address()
    # iperf3 has a port of its own.
    lab.run("nft", "delete", "table", "inet", "waypost")
    lab.start("iperf", "iperf3", "-s")
    bakari = lab.phone("bakari", place=place)
    bakari.pair(kiosk)
    interfaces = [(lab.run, group["group"]["interface"]), (place.run, "wlan2")]
    value, rates = compare(lab, bakari, place, interfaces, None, RUNS)
    slow, slow_rates = compare(lab, bakari, place, interfaces, RATE, RUNS)
    beside = [f"air that carries what the machine can: {rates}", f"air of {RATE}: {slow:.3f} ({slow_rates})"]
    tell(lab, "wifi_vs_iperf", value, "ratio", TARGET, True, beside)

    amina = lab.phone("amina", "hci1", radio="wlan1")
    kiosk.on_air()
    amina.pair(kiosk, "--ble")
    lab.radio.rate(bytes_per_second=100_000)
    spans = []
    for number in range(RUNS):
        # The radio is home again, and bakari alone in the group.
        wait_until("amina has left", lambda: kiosk.wifi()["stations"] == 1, 60)
        amina.add(photos(1, size=5_000_000, seed=200 + number))
        spans.append(moving_seconds(amina))
    beside = [f"each: {[round(one, 1) for one in spans]}, from the kiosk's offer to the first bytes of the document over TCP"]
    tell(lab, "wifi_first_byte_s", statistics.median(spans), "s", 6, False, beside)


def compare(lab, phone, place, interfaces, rate, runs):
    limit(interfaces, rate)
    ours, theirs = [], []
    for number in range(runs):
        phone.add(photos(1, size=SIZE, seed=number + (1_000 if rate else 2_000)))
        report = phone.sync("--address", f"{KIOSK}:4180", seconds=600)
        assert report["transferred"] == 1, report
        ours.append(report["seconds"])
        said = json.loads(place.run("iperf3", "-c", KIOSK, "-n", SIZE, "-J", seconds=600))
        theirs.append(said["end"]["sum_received"]["seconds"])
    limit(interfaces, None)
    ratio = statistics.median(their / our for our, their in zip(ours, theirs, strict=True))
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    return ratio, f"{SIZE / ours / 1e3:.0f} against {SIZE / theirs / 1e3:.0f} kB/s"


def limit(interfaces, rate):
    """What the interfaces on both ends let out; None for everything."""
    if rate:
        for run_there, interface in interfaces:
            run_there(*f"tc qdisc replace dev {interface} root tbf rate {rate} burst 64kb latency 100ms".split())
    else:
        for run_there, interface in interfaces:
            run_there("tc", "qdisc", "replace", "dev", interface, "root", "pfifo", "limit", "1000")


def moving_seconds(phone):
    sync = phone.start("sync", "--ble", "--wifi")
    sync.wait_for('"event":"joining"', 60)
    begun = time.monotonic()
    sync.wait_for('"event":"moved"', 60)
    sync.wait_for('"event":"progress"', 60)
    took = time.monotonic() - begun
    sync.stop()
    return took
