"""Phones that break the rules of links lose their own link or connection, and another one that syncs meanwhile notices nothing."""

import asyncio
import threading
import time

from interop.ble_links import GattLink, L2capLink, Service, connected, find
from interop.ble_phone import Phone
from lab import Lab, forms, independent, photos

CONTROLLERS = 3
LIMIT = 300
DATA = b"\x00\x07WPST\x01"


def run(lab: Lab):
    kiosk = lab.kiosk("hci0").on_air()
    amina = lab.phone("amina", "hci1")
    amina.pair(kiosk, "--ble")
    phone = Phone(lab.destination().code(), lab.state / "independent")
    carried, reports = [], []
    over = threading.Event()

    def carry():
        while not over.is_set():
            batch = photos(4, size=500_000, seed=len(reports))
            carried.extend(batch)
            amina.add(batch)
            reports.append(amina.sync("--ble", "--wait", "60s", seconds=120, check=False))

    meanwhile = threading.Thread(target=carry)
    meanwhile.start()
    try:
        asyncio.run(misbehave(lab, phone, kiosk))
    finally:
        over.set()
        meanwhile.join()
    lab.note(f"meanwhile {len(reports)} contacts of another phone")
    assert {report["ending"] for report in reports} == {"finished"}, reports
    assert lab.destination().inbox() == dict(carried + forms(1) + forms(1, seed=7))


async def misbehave(lab, phone, kiosk):
    async with independent.device(lab.independent()) as host, asyncio.TaskGroup() as others:
        others.create_task(idle(lab, lab.independent("idle", "00:AA:02:00:00:02")))
        for what, values in BAD.items():
            address, _ = await find(host)
            async with connected(host, address) as connection:
                service = await Service.discover(connection)
                link = await GattLink.open(service)
                # The first one opens the link.
                await link.send(b"\x00" + DATA)
                async with asyncio.timeout(10):
                    while not (await service.read_info())[0]:
                        await asyncio.sleep(0.2)
                for value in values:
                    await link.send(value)
                begun = time.monotonic()
                # Half of what a handshake may take.
                while (await service.read_info())[0]:
                    assert time.monotonic() - begun < 5, f"its link goes on: {what}"
                    await asyncio.sleep(0.2)
                took = time.monotonic() - begun
                # BlueZ 5.82 asks for another socket (AcquireWrite) for what comes after the end. Who leaves meanwhile ends GATT for
                # everybody, until BlueZ is restarted.
                await asyncio.sleep(1)
                lab.note(f"{what}: ended after {took:.1f} s")

        address, _ = await find(host)
        async with connected(host, address) as connection:
            _, psm = await (await Service.discover(connection)).read_info()
            link = await L2capLink.open(connection, psm)
            await link.write(b"\x00\x10garbage garbage!")
            assert await link.read_frame(8) is None, "the channel closes without a word"
            lab.note("garbage: closed")

        await open_three(lab)

        # Who writes and writes without a link, and then one who asks for notifications and writes nothing: GATT is taken for
        # others only as long as that may become a link.
        address, _ = await find(host)
        async with connected(host, address) as connection:
            service = await Service.discover(connection)
            for _ in range(100):
                await service.rx.write_value(b"\x00" + DATA, with_response=False)
            await service.tx.subscribe(lambda _value: None)
            begun = time.monotonic()
            other = lab.phone("other", "hci2")
            other.add(forms(1, seed=7))
            await asyncio.to_thread(other.pair, kiosk)
            report = await asyncio.to_thread(other.sync, "--ble", "--gatt", "--wait", "60s", seconds=120)
            assert (report["unconfirmed"], report["medium"]) == (0, "ble-gatt"), report
            lab.note(f"another phone is done over GATT after {time.monotonic() - begun:.1f} s")

        # And after all that it is served like anybody.
        phone.write(*forms(1)[0])
        code = await asyncio.to_thread(kiosk.code)
        address, _ = await find(host)
        async with connected(host, address) as connection:
            _, psm = await (await Service.discover(connection)).read_info()
            session = await phone.pair(await L2capLink.open(connection, psm), code)
            await session.deliver()


async def open_three(lab):
    """One phone has two links at most. A third one is told so by the end of the stream."""
    path = lab.independent("many", "00:AA:02:00:00:03")
    async with independent.device(path, "many", "C7:00:00:00:00:03") as host:
        address, _ = await find(host)
        async with connected(host, address) as connection:
            service = await Service.discover(connection)
            _, psm = await service.read_info()
            links = [await L2capLink.open(connection, psm) for _ in range(2)]
            link = await GattLink.open(service)
            await link.send(b"\x00" + DATA)
            async with asyncio.timeout(5):
                await link.over.wait()
            assert not any(one.incoming.at_eof() for one in links), "the two stay"


async def idle(lab, path):
    """Who opens no link is sent away, also whom BlueZ knows from a moment ago."""
    async with independent.device(path, "idle", "C7:00:00:00:00:02") as host:
        for number in range(2):
            address, _ = await find(host)
            async with connected(host, address) as connection:
                gone = asyncio.get_running_loop().create_future()
                connection.on("disconnection", gone.set_result)
                begun = time.monotonic()
                async with asyncio.timeout(40):
                    reason = await gone
                took = time.monotonic() - begun
                lab.note(f"without a link: disconnected after {took:.1f} s, reason {reason:#x}")
                assert 13 < took < (22 if number == 0 else 34), took


BAD = {
    "a value is missing": [b"\x02" + DATA],
    "a value is doubled": [b"\x00" + DATA],
    "an empty value": [b""],
    "credit for what was not sent": [b"\xff"],
    "data after the end": [b"\x80", b"\x01" + DATA],
}

