"""Without L2CAP the same goes over GATT, with the largest MTU and with the smallest that bluetoothd starts with (a phone with 23 is
in ble-independent-phone)."""

import time

from lab import Lab, forms, photos

CONTROLLERS = 2
CAPTURE = True
LIMIT = 240


def run(lab: Lab):
    kiosk = lab.kiosk("hci0")
    amina = lab.phone("amina", "hci1")
    kiosk.on_air()
    amina.pair(kiosk, "--ble")
    arrived = {}
    for mtu, documents in ((517, forms(50) + photos(3)), (48, forms(10, seed=2) + photos(1, size=20_000, seed=2))):
        since = time.time()
        lab.bluetooth({"GATT": {"ExchangeMTU": mtu}})
        kiosk.on_air()
        amina.add(documents)
        report = amina.sync("--ble", "--gatt", "--wait", "60s", seconds=120)
        lab.note(f"MTU {mtu}: {report['bytes_out']} bytes out in {report['seconds']} s")
        assert (report["transferred"], report["medium"]) == (len(documents), "ble-gatt"), report
        assert report["unconfirmed"] == 0, report
        arrived |= dict(documents)
        assert lab.destination().inbox() == arrived
        # The values are as long as the MTU allows, and no longer: opcode and handle besides.
        longest = lab.capture().longest_value(lab.adapter("hci1").index(), since)
        assert mtu - 8 <= longest <= mtu - 3, longest
