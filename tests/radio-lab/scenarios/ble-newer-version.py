"""A phone of tomorrow that no longer speaks version 1 is told so, in clear, and the kiosk goes on serving those of today."""

import asyncio

from interop.ble_links import GattLink, L2capLink, Service, connected, find
from interop.ble_phone import NoCommonVersion, Phone
from lab import Lab, forms, independent

CONTROLLERS = 1
LIMIT = 180
# Magic, lowest and highest version, no more to say.
MINE_IS_1 = bytes.fromhex("57505354 01 01 ff")


def run(lab: Lab):
    kiosk = lab.kiosk("hci0").on_air()
    tomorrow = Phone(lab.destination().code(), lab.state / "tomorrow", versions=(2, 3))
    today = Phone(lab.destination().code(), lab.state / "today")
    asyncio.run(visits(lab.independent(), tomorrow, today, kiosk.code()))
    assert lab.destination().inbox() == dict(forms(1))


async def visits(path, tomorrow, today, code):
    async with independent.device(path) as host:
        for medium in ("ble", "ble-gatt"):
            address, _ = await find(host)
            async with connected(host, address) as connection:
                link = await open_link(connection, medium)
                await is_refused(tomorrow, link, code)

        # The code has not been used up by this.
        address, _ = await find(host)
        async with connected(host, address) as connection:
            today.write(*forms(1)[0])
            session = await today.pair(await open_link(connection, "ble"), code)
            await session.deliver()


async def open_link(connection, medium):
    service = await Service.discover(connection)
    _, psm = await service.read_info()
    return await (L2capLink.open(connection, psm) if medium == "ble" else GattLink.open(service))


async def is_refused(phone, link, code):
    try:
        await phone.pair(link, code)
    except NoCommonVersion as refused:
        assert refused.answer == MINE_IS_1, refused.answer.hex()
    else:
        raise AssertionError("it was served")
    assert await link.read_frame() is None, "the link closes after the answer"
