"""What a scenario has in its hands."""

import subprocess
import time
from pathlib import Path

from . import air, bluez
from .capture import Capture
from .processes import Process
from .programs import Destination, Kiosk, Phone
from .radio import Radio
from .service import Service
from .waiting import wait_until
from .wifi import PORT, Wifi

# Everything is written down that can be: bluetoothd's debug lines, what goes between hosts and controllers.
VERBOSE = Path("/share/verbose").exists()


class Lab:
    """Radios, BlueZ and programs of one scenario. Everything begins anew with each scenario and ends with it."""

    def __init__(self, folder, controllers, legacy, main_conf, capture, radios, channels):
        self.begun = time.time()
        self.state = folder / "state"
        self.results = folder / "results"
        for each in (self.state, self.results):
            each.mkdir(parents=True, exist_ok=True)
        self.legacy = set(legacy)
        self.controllers = controllers
        self.adapters = {}
        if controllers:
            self.start_bluetooth(main_conf, capture)
        self.wifi = Wifi(self, radios, channels) if radios else None
        self.servers = {}
        self.kiosks = 0

    def start_bluetooth(self, main_conf, capture):
        if capture or VERBOSE:
            self.start_capture()
        air.fork(self.controllers, self.legacy, self.results / "controllers.log")
        self.radio = Radio()
        self.bluez = bluez.Bluez(self.radio)
        self.adapters = {f"hci{number}": bluez.Adapter(self.bluez, f"hci{number}") for number in range(self.controllers)}
        bluez.configure(main_conf)
        self.bluez.start(self.adapters.values())

    # Radios and BlueZ

    def adapter(self, name):
        """`hci0` … by the name of the controller."""
        return self.adapters[name]

    @property
    def bus(self):
        """A connection to BlueZ, a new one after each restart of it."""
        return self.bluez.bus

    def bluetooth(self, main_conf=None, arguments=""):
        """Restarts bluetoothd with other settings: main.conf as `{section: {key: value}}` (None takes a key away), arguments."""
        bluez.configure(main_conf, arguments)
        self.bluez.restart(self.adapters.values())

    def restart_bluetoothd(self, kill=False, at=None):
        self.bluez.restart([one for one in self.adapters.values() if one.exists()], kill, at)

    def independent(self, name="independent", address="00:AA:02:00:00:01"):
        """A controller for a host that is not BlueZ; answers the path of its H4 socket (see independent.py)."""
        return self.radio.add(name, address=address)

    def start_capture(self):
        path = self.results / "hci.btsnoop"
        # It tells everything on its standard output besides, which nobody reads.
        self.monitor = Process(Path("/dev/null"), ["btmon", "-w", path])
        wait_until("btmon writes", lambda: path.exists() and path.stat().st_size >= 16)

    def capture(self):
        return Capture(self.results / "hci.btsnoop")

    # Programs

    def destination(self, port=8443, running=True, **where):
        """The destination server at this port, of loopback unless `where` says otherwise (`host`, `place`): made at first, and started
        when somebody needs it."""
        server = self.servers.setdefault(port, None) or Destination(self, port, **where)
        self.servers[port] = server
        if running and not server.process:
            server.start()
        return server

    def kiosk(self, adapter="hci0", config="", destination=None, running=True):
        """A gateway with this adapter; `config` is TOML that comes after the lab's own."""
        self.kiosks += 1
        kiosk = Kiosk(self, self.adapter(adapter), destination or self.destination(), config, 4179 + self.kiosks)
        if running:
            kiosk.start()
        return kiosk

    def wifi_kiosk(self, adapter=None, config="", destination=None, running=True, **wifi):
        """A gateway with a Wi-Fi Direct group on `wlan0`, there always unless `wifi` says otherwise (keys of `[wifi_direct]`)."""
        kiosk = Kiosk(self, adapter and self.adapter(adapter), destination or self.destination(), config, PORT)
        keys = {"mode": '"always"', "interface": '"wlan0"', **wifi}
        kiosk.configure("wifi", "".join(f"wifi_direct.{key} = {value}\n" for key, value in keys.items()))
        kiosk.configure("lan", f'lan.listen = ["[::]:{PORT}"]\nlan.advertise = true\n')
        if running:
            kiosk.start()
        return kiosk

    def service(self, adapter="hci0", config="", destination=None):
        """The gateway as waypost.service, not started yet: `with lab.service() as kiosk:`."""
        return Service(self, self.adapter(adapter), destination or self.destination(), config)

    def phone(self, name, adapter="hci1", destination=None, radio=None, place=None):
        """A phone that has the destination, and no gateway yet. `radio`: its Wi-Fi; `place`: the machine that it is."""
        adapter = self.adapters.get(adapter) if place or radio else self.adapter(adapter)
        return Phone(self, name, adapter, destination or self.destination(running=False), radio, place)

    def start(self, name, *command, **environment):
        """Any other program, with its log."""
        return Process(self.results / f"{name}.log", command, environment)

    def run(self, *command):
        """Any other command that must succeed; answers what it printed."""
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout

    def note(self, text):
        """A line for the results, shown beside the scenario's when it ends."""
        with (self.results / "notes.txt").open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
        Path("/dev/kmsg").write_text(f"lab: {text}\n")
