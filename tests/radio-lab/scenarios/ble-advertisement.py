"""What a kiosk advertises is what the specification says, byte for byte, on a new and on an old adapter, and it keeps up with the times."""

import asyncio
import time

from interop.ble_links import FLAGS, MANUFACTURER, NAME, SERVICES_128, Advertisement, L2capLink, Service, connected, structures
from interop.ble_phone import Phone
from lab import Lab, forms, independent, wait_until

CONTROLLERS = 2
LEGACY = {"hci1"}
LIMIT = 240
UUID = bytes.fromhex("78df0001ceee4977900e04ce30638004")[::-1]
BACKHAUL, ROOM, GATEWAY = 1, 4, 8
# Its 30 bytes are one too many, and é is the last two.
LONG, CUT = "Postes de santé de Nouadhibé", "Postes de santé de Nouadhib"


def run(lab: Lab):
    new = lab.kiosk("hci0")
    old = lab.kiosk("hci1", running=False)
    old.configure("name", f'name = "{LONG}"')
    old.start()
    wait_until("both are on the air", lambda: new.adapters() == {"hci0": "ready"} and old.adapters() == {"hci1": "ready"})
    phone = Phone(lab.destination().code(), lab.state / "independent")
    network(lab, "link", "add", "wan", "type", "veth", "peer", "name", "internet")
    try:
        network(lab, "addr", "add", "192.0.2.2/24", "dev", "wan")
        network(lab, "link", "set", "internet", "up")
        come(lab)
        asyncio.run(listens(lab, phone, new, old))
        slows_down(lab)
    finally:
        network(lab, "link", "del", "wan")


def network(lab, *arguments):
    lab.run("ip", *arguments)


def come(lab):
    """The network: a way out counts, wherever it leads."""
    network(lab, "link", "set", "wan", "up")
    network(lab, "route", "add", "default", "via", "192.0.2.1")


async def listens(lab, phone, new, old):
    [first, second] = forms(2)
    async with independent.device(lab.independent()) as host:
        for kiosk, name, form in ((new, "Lab kiosk", first), (old, CUT, second)):
            phone.write(*form)
            session = await contact(host, kiosk, lambda link, code=kiosk.code(): phone.pair(link, code))
            async with independent.hearing(host, kiosk.adapter.address) as heard:
                await until(heard, BACKHAUL | ROOM | GATEWAY)
                await independent.wait_until("its name is heard", lambda: heard.response)
                if kiosk is new:
                    await independent.wait_until("it is heard by new means", lambda: heard.extended)
            lab.note(f"{kiosk.adapter.name}: {heard.legacy.hex()} {heard.response.hex()} extended: {heard.extended.hex()} hello flags {session.peer['flags']}")
            assert len(heard.legacy) == 31, heard.legacy.hex()
            parts = dict(structures(heard.legacy))
            assert set(parts) == {FLAGS, SERVICES_128, MANUFACTURER}, parts
            assert (parts[FLAGS], parts[SERVICES_128], parts[MANUFACTURER][:2]) == (b"\x06", UUID, b"\xff\xff"), parts
            assert structures(heard.response) == [(NAME, name.encode())], heard.response
            if kiosk is new:
                assert dict(structures(heard.extended)) == parts | {NAME: name.encode()}, heard.extended.hex()
            else:
                assert not heard.extended
            # Who has been told the key recognises the identifier, and who has another one does not.
            near = Advertisement.read(parts[MANUFACTURER][2:])
            assert near.is_of(session.peer["advertising_key"])
            assert not near.is_of(bytes(16))

        # The network goes, and comes back.
        async with independent.hearing(host, old.adapter.address) as heard:
            network(lab, "link", "set", "wan", "down")
            gone = await until(heard, ROOM | GATEWAY)
            come(lab)
            back = await until(heard, BACKHAUL | ROOM | GATEWAY)
        lab.note(f"told after {gone:.1f} s that the network is gone, after {back:.1f} s that it is back")


async def contact(host, kiosk, begin):
    """One session, which it answers."""
    async with connected(host, kiosk.adapter.address + "/P") as connection:
        _, psm = await (await Service.discover(connection)).read_info()
        session = await begin(await L2capLink.open(connection, psm))
        await session.deliver()
        return session


async def until(heard, flags, seconds=60):
    def found():
        heard_now = dict(structures(heard.legacy)).get(MANUFACTURER)
        return heard_now and heard_now[2] == 0x10 | flags

    begun = time.monotonic()
    await independent.wait_until(f"its flags are {flags:04b}", found, seconds)
    return time.monotonic() - begun


def slows_down(lab):
    """Somebody was here a moment ago: often; after half a minute without anybody: about once a second."""

    def intervals():
        return {name: {round(one["interval"]) for one in lab.radio.advertisements(name)} for name in ("hci0", "hci1")}

    # It may just be about to be registered anew.
    wait_until("it is fast at first", lambda: intervals() == {"hci0": {152}, "hci1": {152}}, 10)
    begun = time.monotonic()
    wait_until("they advertise slowly", lambda: intervals() == {"hci0": {1022}, "hci1": {1022}}, 60)
    lab.note(f"slowly after {time.monotonic() - begun:.0f} s")
