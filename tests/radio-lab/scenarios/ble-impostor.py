"""Somebody repeats what a kiosk advertises, more often than the kiosk does: phones that it keeps busy meet the kiosk all the same."""

import asyncio

from bumble.device import AdvertisingType
from lab import Lab, forms, independent, wait_until

CONTROLLERS = 2
LIMIT = 180


def run(lab: Lab):
    kiosk = lab.kiosk("hci0").on_air()
    amina = lab.phone("amina", "hci1")
    amina.pair(kiosk, "--ble")
    contents = forms(3)
    amina.add(contents)
    data = bytes.fromhex(lab.radio.advertisements("hci0")[0]["data"])
    asyncio.run(visits(lab, lab.independent(), amina, data))
    wait_until("it is at the server", lambda: lab.destination().inbox() == dict(contents))


async def visits(lab, path, amina, data):
    async with independent.device(path) as host:
        met = []
        host.on("connection", lambda connection: met.append(connection))
        await repeat(host, data)
        # At first there is nobody else.
        lab.radio.apart("hci0", "hci1")
        syncing = asyncio.create_task(asyncio.to_thread(amina.sync, "--ble", "--wait", "30s", seconds=120))
        await independent.wait_until("the impostor is met", lambda: met, 30)
        lab.radio.together("hci0", "hci1")
        report = await syncing
        assert (report["ending"], report["unconfirmed"]) == ("finished", 0), report

        # Somebody of a later version may be the one that is looked for.
        await host.stop_advertising()
        at = data.index(b"\xff\xff\xff") + 3
        assert data[at] >> 4 == 1, data.hex()
        await repeat(host, data[:at] + bytes([0x20 | data[at] & 15]) + data[at + 1 :])
        lab.radio.apart("hci0", "hci1")
        met.clear()
        amina.add(forms(1, seed=1))
        report = await asyncio.to_thread(amina.sync, "--ble", seconds=120, check=False)
        assert met and report["ending"] == "not reached", report
        lab.radio.together("hci0", "hci1")


async def repeat(host, data):
    await host.start_advertising(
        advertising_type=AdvertisingType.UNDIRECTED_CONNECTABLE_SCANNABLE,
        advertising_data=data,
        auto_restart=True,
        advertising_interval_min=20,
        advertising_interval_max=20,
    )
