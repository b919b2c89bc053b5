"""A scenario's hand on the air: what becomes of controllers, links and reach. See `air.Server` for each request."""

import json
import socket

from .air import SOCKET


class Radio:
    """`lab.radio.off("hci1")`, `lab.radio.links("hci0")` … : every request of `air.Server`, by its name."""

    def __init__(self):
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(SOCKET)
        self.lines = self.connection.makefile("r")

    def __getattr__(self, request):
        def ask(*names, **more):
            told = dict(zip(("name", "other"), names), do=request, **more)
            self.connection.sendall(json.dumps(told).encode() + b"\n")
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise RuntimeError(f"{request} {names}: {answer['error']}")
            return answer["answer"]

        return ask
