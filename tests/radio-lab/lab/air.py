"""What is between the controllers, and what scenarios do to it: a process with all controllers, told what to do over a socket.

A line of JSON for each request, and one for its answer; `Server` lists them."""

import asyncio
import json
import logging
import os
import sys

from bumble import hci
from bumble.transport.common import PacketParser

from .controllers import Controller

FOLDER = "/run/radio-lab"
SOCKET = f"{FOLDER}/air"


class Air:
    """Carries advertisements and links between those controllers that are in reach of each other."""

    def __init__(self):
        self.controllers = []
        self.far_away = set()
        self.apart = set()
        # Bytes of data per second that a controller sends and receives together; without, as fast as the machine can.
        self.rate = None
        self.busy_until = {}

    # bumble's names
    def add_controller(self, controller):
        self.controllers.append(controller)

    def on_address_changed(self, controller):
        pass

    def reaches(self, one, other):
        return not {one, other} & self.far_away and frozenset((one, other)) not in self.apart

    def airtime(self, one, other, size):
        """When data of this size has arrived, in the event loop's time: both controllers are busy until then, so that
        nothing arrives at the same time as what was sent before."""
        begin = max(asyncio.get_running_loop().time(), self.busy_until.get(one, 0), self.busy_until.get(other, 0))
        self.busy_until[one] = self.busy_until[other] = end = begin + max(size, 1) / self.rate
        return end

    def send(self, beacon):
        for controller in self.controllers:
            # The first to ask for a connection ends the advertisement.
            if (
                beacon.enabled
                and controller is not beacon.controller
                and controller.hci_sink
                and self.reaches(beacon.controller, controller)
            ):
                controller.hear(beacon)

    def changed(self):
        for controller in self.controllers:
            for link in list(controller.le_connections.values()):
                link.reach_changed()


class Vhci:
    """Plugs a controller into this machine's kernel."""

    def __init__(self, controller):
        self.controller = controller
        self.fd = os.open("/dev/vhci", os.O_RDWR | os.O_NONBLOCK)
        os.write(self.fd, b"\xff\x00")
        created = os.read(self.fd, 16)
        self.index = int.from_bytes(created[2:4], "little")
        controller.hci_sink = self
        asyncio.get_running_loop().add_reader(self.fd, self.read)

    def read(self):
        try:
            packet = os.read(self.fd, 4096)
        except BlockingIOError:
            return
        self.controller.on_packet(packet)

    def on_packet(self, packet):
        os.write(self.fd, packet)

    def unplug(self):
        asyncio.get_running_loop().remove_reader(self.fd)
        self.controller.hci_sink = None
        self.controller.forget()
        os.close(self.fd)


class Socket(asyncio.Protocol):
    """Plugs a controller into whatever host connects to its socket and speaks H4 there."""

    def __init__(self, controller):
        self.controller = controller

    def connection_made(self, transport):
        self.transport = transport
        self.parser = PacketParser(self.controller)
        self.controller.hci_sink = self

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_packet(self, packet):
        self.transport.write(packet)

    def connection_lost(self, _error):
        self.controller.hci_sink = None
        self.controller.forget()


class Server:
    """Each method whose name begins with `do_` is a request; what it answers goes back."""

    def __init__(self):
        self.air = Air()
        self.named = {}
        self.plugs = {}

    async def serve(self, number, legacy, ready):
        os.makedirs(FOLDER, exist_ok=True)
        for index in range(number):
            name = f"hci{index}"
            self.named[name] = Controller(name, self.air, f"00:AA:01:00:00:{index + 1:02X}", name in legacy)
            self.do_replug(name)
        if os.path.exists(SOCKET):
            os.unlink(SOCKET)
        server = await asyncio.start_unix_server(self.client, SOCKET)
        os.write(ready, b"1")
        async with server:
            await server.serve_forever()

    async def client(self, reader, writer):
        while line := await reader.readline():
            request = json.loads(line)
            try:
                answer = getattr(self, "do_" + request.pop("do"))(**request)
                if asyncio.iscoroutine(answer):
                    answer = await answer
                told = {"answer": answer}
            except Exception as error:
                logging.exception("%s", line)
                told = {"error": repr(error)}
            writer.write(json.dumps(told).encode() + b"\n")

    def do_lose(self, name, other=None):
        """Ends its links, or only that to another one, at once, as a lost link ends for both."""
        for link in list(self.named[name].le_connections.values()):
            far = link.far
            if other and not (far and far.controller is self.named[other]):
                continue
            for end in (link, far):
                if end:
                    end.lose()

    def do_off(self, name):
        """Takes it out of everybody's reach; links end after their supervision timeout."""
        self.air.far_away.add(self.named[name])
        self.air.changed()

    def do_on(self, name):
        self.air.far_away.discard(self.named[name])
        self.air.changed()

    def do_apart(self, name, other):
        """Takes two out of each other's reach."""
        self.air.apart.add(frozenset((self.named[name], self.named[other])))
        self.air.changed()

    def do_together(self, name, other):
        self.air.apart.discard(frozenset((self.named[name], self.named[other])))
        self.air.changed()

    def do_rate(self, bytes_per_second):
        """How much data a controller sends and receives from now on; None: as much as the machine can carry."""
        self.air.rate = bytes_per_second

    def do_hang(self, name):
        """It answers its host no more until HCI_Reset, or `recover`; links and advertisements stay."""
        self.named[name].hung = True

    def do_recover(self, name):
        self.named[name].hung = False

    def do_unplug(self, name):
        self.plugs.pop(name).unplug()

    def do_replug(self, name, legacy=None):
        """Plugs it in again, with the same address; answers the kernel's number of it."""
        if legacy is not None:
            self.named[name].set_legacy(legacy)
        self.plugs[name] = Vhci(self.named[name])
        return self.plugs[name].index

    async def do_add(self, name, address):
        """A controller for a host that is not this machine's kernel; answers the path of its H4 socket."""
        self.named[name] = Controller(name, self.air, address)
        path = f"{FOLDER}/{name}.h4"
        await asyncio.get_running_loop().create_unix_server(lambda: Socket(self.named[name]), path)
        return path

    def do_address(self, name):
        return str(self.named[name].public_address).removesuffix("/P")

    def do_advertisements(self, name):
        """What it advertises now: legacy or not, connectable or not, and the bytes."""
        return [
            {
                "properties": beacon.properties,
                "address": str(beacon.address),
                "data": beacon.payload.hex(),
                "response": beacon.response.hex(),
                "interval": beacon.interval * 0.625,
            }
            for beacon in self.named[name].beacons()
        ]

    def do_links(self, name):
        return [
            {
                "peer": str(link.peer_address),
                "role": hci.Role(link.role).name,
                "interval": link.interval * 1.25,
                "latency": link.latency,
                "timeout": link.timeout * 10,
            }
            for link in self.named[name].le_connections.values()
        ]


def fork(number, legacy, log):
    """Starts the process; the controllers are plugged in when this returns. Answers its process id."""
    reading, ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            os.dup2(output, 1)
            os.dup2(output, 2)
            logging.basicConfig(
                level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", force=True
            )
            asyncio.run(Server().serve(number, legacy, ready))
        except BaseException:
            logging.exception("the controllers end")
        finally:
            os._exit(1)
    os.close(ready)
    with os.fdopen(reading, "rb") as pipe:
        if pipe.read(1) != b"1":
            raise RuntimeError(f"the controllers did not start, see {log}")
    return child
