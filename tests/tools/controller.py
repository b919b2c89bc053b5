"""Plays the Bluetooth controller at a board's serial line, and says when the board first advertises itself.

    controller.py SOCKET    # where the serial line's other end connects to; H4

A line of JSON as soon as somebody can connect, and one for the first advertisement, with the clock's time in seconds."""

import asyncio
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "radio-lab"))
from lab.air import Air, Socket
from lab.controllers import Controller


class Watched(Controller):
    has_advertised = False

    def on_packet(self, packet):
        super().on_packet(packet)
        if self.beacons() and not self.has_advertised:
            self.has_advertised = True
            tell("advertised")


def tell(what):
    print(json.dumps({"event": what, "at": time.time()}), flush=True)


async def main(path):
    controller = Watched("hci0", Air(), "00:AA:01:00:00:01")
    server = await asyncio.get_running_loop().create_unix_server(lambda: Socket(controller), path)
    tell("listening")
    async with server:
        await server.serve_forever()


asyncio.run(main(sys.argv[1]))
