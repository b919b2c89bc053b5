"""A phone that shares no code with ours pairs and hands over a form over L2CAP, and comes again with others over GATT, with the
largest MTU and with the smallest."""

import asyncio
import time

from interop.ble_links import GattLink, L2capLink, Service, connected, find
from interop.ble_phone import Phone
from lab import Lab, forms, independent, wait_until

CONTROLLERS = 1
CAPTURE = True
LIMIT = 180
FORMS = forms(3)


def run(lab: Lab):
    kiosk = lab.kiosk("hci0").on_air()
    phone = Phone(lab.destination().code(), lab.state / "independent")
    asyncio.run(visits(lab, phone, kiosk.code()))
    assert lab.destination().inbox() == dict(FORMS)
    assert set(phone.verdicts.values()) == {"opened"}, phone.verdicts
    wait_until("no link is left", lambda: kiosk.status()["bluetooth"][0]["links"] == 0)


async def visits(lab, phone, code):
    async with independent.device(lab.independent()) as host:
        address, near = await find(host)
        assert near.room, near
        async with connected(host, address) as connection:
            taken, psm = await (await Service.discover(connection)).read_info()
            assert not taken
            assert 0x80 <= psm <= 0xFF, psm
            session = await phone.pair(await L2capLink.open(connection, psm), code)
            assert near.is_of(session.peer["advertising_key"]), near
            await deposit(phone, session, FORMS[0])

        # It knows the gateway now, by its key and by its advertisement.
        key, advertising_key = session.gateway_key, session.peer["advertising_key"]
        address, _ = await find(host, wanted=lambda one: one.is_of(advertising_key))
        async with connected(host, address) as connection:
            service = await Service.discover(connection)
            session = await phone.meet(await GattLink.open(service), key)
            assert (await service.read_info())[0], "the GATT link is taken while there is one"
            await deposit(phone, session, FORMS[1])
            assert not (await service.read_info())[0]

        # Neither side takes more than 20 bytes at once.
        host.gatt_server.max_mtu = 23
        since = time.time()
        address, _ = await find(host, wanted=lambda one: one.is_of(advertising_key))
        async with connected(host, address) as connection:
            session = await phone.meet(await GattLink.open(await Service.discover(connection, mtu=23)), key)
            await deposit(phone, session, FORMS[2])
        longest = lab.capture().longest_value(lab.adapter("hci0").index(), since)
        assert 15 <= longest <= 20, longest


async def deposit(phone, session, form):
    deposited = phone.write(*form)
    report = await session.deliver()
    assert deposited in session.acknowledged
    assert sum(one["stored"] for one in report["collections"]) == 1, report
