"""The lab's own radios: a host that is not BlueZ finds a kiosk, connects, and both exchange data over a channel and GATT."""

import asyncio
import contextlib

from bumble.device import Peer
from bumble.gatt import GATT_DEVICE_NAME_CHARACTERISTIC
from bumble.l2cap import LeCreditBasedChannelSpec

from lab import Lab, independent, sockets, wait_until

SERVICE = "6b1a0001-7c55-4c9e-9f10-aabbccddeeff"
PSM = 0x80
MUCH = bytes(range(256)) * 1024


def run(lab: Lab):
    kiosk = lab.adapter("hci0")
    # bluetoothd has a name of its own until it has asked for the host's.
    wait_until("it has its name", lambda: kiosk.get("Alias").startswith("radio-lab"))
    listening = sockets.listen(kiosk.address, PSM)
    kiosk.advertise({"Discoverable": ("b", True), "ServiceUUIDs": ("as", [SERVICE])})
    asyncio.run(visit(lab.independent(), kiosk.address, listening))


async def visit(path, address, listening):
    async with independent.device(path) as phone:
        connection = await phone.connect(f"{address}/P")
        channel = await connection.create_l2cap_channel(
            LeCreditBasedChannelSpec(psm=PSM, mtu=4096, mps=1000, max_credits=64)
        )
        received = bytearray()
        channel.sink = received.extend
        kiosk = asyncio.create_task(asyncio.to_thread(echo, listening))
        for at in range(0, len(MUCH), 4096):
            channel.write(MUCH[at : at + 4096])
        while len(received) < len(MUCH):
            await asyncio.sleep(0.05)
        assert received == MUCH
        await channel.disconnect()
        await kiosk

        names = await Peer(connection).read_characteristics_by_uuid(GATT_DEVICE_NAME_CHARACTERISTIC)
        # BlueZ numbers the adapters after the first one that it found.
        assert names[0].startswith(b"radio-lab"), names
        await connection.disconnect()


def echo(listening):
    """Sends back what comes, until the channel ends."""
    accepted, _ = listening.accept()
    with contextlib.suppress(ConnectionResetError):
        while data := accepted.recv(4096):
            accepted.sendall(data)
