"""Links over Bluetooth LE (docs/protocol.md, sections 3 and 8), on bumble's own host: finding a gateway, its `info`, both kinds of link."""

import asyncio
import contextlib
import hashlib
import hmac
from dataclasses import dataclass

from bumble.core import UUID
from bumble.device import Peer
from bumble.l2cap import LeCreditBasedChannelSpec

from .wire import Wrong

SERVICE = "78df0001-ceee-4977-900e-04ce30638004"
INFO, RX, TX = (f"78df000{number}-ceee-4977-900e-04ce30638004" for number in (2, 3, 4))
COMPANY = b"\xff\xff"
FLAGS, NAME, SERVICES_128, MANUFACTURER = 0x01, 0x09, 0x07, 0xFF
USEFUL = 4094
CREDIT, CREDIT_STEP = 64, 16
FINAL = b"\x80"


# Advertisements


def structures(data):
    """The AD structures of advertising data: `[(type, content)]`."""
    found = []
    while data and data[0]:
        length = data[0]
        if length >= len(data):
            raise Wrong("cut within an AD structure")
        found.append((data[1], data[2 : 1 + length]))
        data = data[1 + length :]
    return found


@dataclass
class Advertisement:
    """The 6 bytes of section 8."""

    backhaul: bool
    wifi: bool
    room: bool
    gateway: bool
    identifier: bytes

    @classmethod
    def read(cls, content):
        if len(content) != 6 or content[0] >> 4 == 0:
            raise Wrong(f"no advertisement: {content.hex()}")
        if content[0] >> 4 != 1:
            raise Wrong(f"an advertisement of version {content[0] >> 4}")
        return cls(*(bool(content[0] >> bit & 1) for bit in range(4)), content[1:])

    def is_of(self, advertising_key):
        expected = hmac.digest(advertising_key, b"waypost advertising v1" + self.identifier[:3], hashlib.sha256)[:2]
        return self.identifier[3:] == expected


def advertised(data):
    """The service's advertisement within advertising data, or nothing."""
    content = structures(data)
    wanted = bytes.fromhex(SERVICE.replace("-", ""))[::-1]
    if not any(kind == SERVICES_128 and wanted in (part[at : at + 16] for at in range(0, len(part), 16)) for kind, part in content):
        return None
    for kind, part in content:
        if kind == MANUFACTURER and part[:2] == COMPANY:
            return Advertisement.read(part[2:])
    return None


async def find(host, seconds=30, wanted=lambda one: one.gateway):
    """Scans until an advertisement of the service is heard that is wanted; answers its address and it."""
    heard = asyncio.get_running_loop().create_future()

    def on_advertisement(one):
        found = advertised(one.data_bytes)
        if found and wanted(found) and one.is_connectable and not heard.done():
            heard.set_result((one.address, found))

    host.on("advertisement", on_advertisement)
    await host.start_scanning(active=True, filter_duplicates=False)
    try:
        return await asyncio.wait_for(heard, seconds)
    finally:
        await host.stop_scanning()
        host.remove_listener("advertisement", on_advertisement)


# Connections


@contextlib.asynccontextmanager
async def connected(host, address, seconds=30):
    connection = await host.connect(address, timeout=seconds)
    try:
        yield connection
    finally:
        if connection.handle in host.connections:
            await connection.disconnect()


class Service:
    """A gateway's service over one connection."""

    @classmethod
    async def discover(cls, connection, mtu=517):
        self = cls()
        self.connection = connection
        self.peer = Peer(connection)
        # The smallest one is what there is without asking.
        self.mtu = mtu if mtu == 23 else await self.peer.request_mtu(mtu)
        [service] = await self.peer.discover_service(SERVICE)
        await service.discover_characteristics()
        self.info, self.rx, self.tx = (service.get_characteristics_by_uuid(UUID(one))[0] for one in (INFO, RX, TX))
        return self

    async def read_info(self):
        """Whether the GATT link is taken, and the PSM (0: none)."""
        info = bytes(await self.info.read_value())
        if len(info) < 4 or info[0] != 1:
            raise Wrong(f"info: {info.hex()}")
        return bool(info[1] & 1), int.from_bytes(info[2:4], "little")


# Links


class Link:
    """An ordered byte stream that carries frames."""

    def __init__(self):
        self.incoming = asyncio.StreamReader()

    async def read_frame(self, seconds=30):
        """The next frame; nothing where the link has closed between frames."""
        async with asyncio.timeout(seconds):
            try:
                length = await self.incoming.readexactly(2)
            except asyncio.IncompleteReadError as ended:
                if ended.partial:
                    raise
                return None
            return await self.incoming.readexactly(int.from_bytes(length, "big"))

    async def write_frames(self, *frames):
        await self.write(b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames))


class L2capLink(Link):
    medium = "ble"

    @classmethod
    async def open(cls, connection, psm):
        self = cls()
        self.channel = await connection.create_l2cap_channel(LeCreditBasedChannelSpec(psm=psm, mtu=4096, mps=1004, max_credits=32))
        self.channel.sink = self.incoming.feed_data
        self.channel.on(self.channel.EVENT_CLOSE, self.incoming.feed_eof)
        connection.on("disconnection", lambda _reason: self.incoming.feed_eof())
        return self

    async def write(self, data):
        self.channel.write(data)
        await self.channel.drain()

    async def close(self):
        if self.channel.state == self.channel.State.CONNECTED:
            await self.channel.disconnect()


class GattLink(Link):
    """Values with the one-byte header, for hosts without channels."""

    medium = "ble-gatt"

    @classmethod
    async def open(cls, service):
        self = cls()
        self.service = service
        self.sent = self.received = self.consumed = 0
        self.room, self.more_room = CREDIT, asyncio.Event()
        self.over = asyncio.Event()
        service.connection.on("disconnection", lambda _reason: self.end())
        await service.tx.subscribe(self.on_value)
        return self

    def on_value(self, value):
        value = bytes(value)
        if not value:
            raise Wrong("an empty value")
        if value == FINAL:
            self.end()
        elif value[0] & 0x80:
            if len(value) > 1:
                raise Wrong("credit with data")
            self.room += value[0] & 0x7F
            self.more_room.set()
        else:
            if value[0] != self.received % 128:
                raise Wrong(f"value {value[0]} where {self.received % 128} was due")
            self.received += 1
            self.incoming.feed_data(value[1:])
            # What is read here waits for nothing, so that it counts as consumed.
            if self.received - self.consumed == CREDIT_STEP:
                self.consumed = self.received
                asyncio.ensure_future(self.send(bytes([0x80 | CREDIT_STEP])))

    def end(self):
        if not self.over.is_set():
            self.over.set()
            self.incoming.feed_eof()
            self.more_room.set()

    async def write(self, data):
        size = min(self.service.mtu - 3, 512) - 1
        for at in range(0, len(data), size):
            while self.room == 0 and not self.over.is_set():
                self.more_room.clear()
                await self.more_room.wait()
            self.room -= 1
            await self.send(bytes([self.sent % 128]) + data[at : at + size])
            self.sent += 1

    async def send(self, value):
        await self.service.rx.write_value(value, with_response=False)

    async def close(self):
        await self.send(FINAL)
        async with asyncio.timeout(20):
            await self.over.wait()
