"""BlueZ as the guest runs it: the unit bluetooth.service with its configuration, and its adapters."""

import configparser
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from jeepney import HeaderFields

from .bus import Bus, BusError
from .waiting import wait_until

GIVEN = Path("/share/systemd")
MAIN_CONF = Path("/etc/bluetooth/main.conf")
DROP_INS = Path("/run/systemd/system/bluetooth.service.d")
STATE = Path("/var/lib/bluetooth")
ADAPTER, ADVERTISING, DEVICE = "org.bluez.Adapter1", "org.bluez.LEAdvertisingManager1", "org.bluez.Device1"


def systemctl(*arguments):
    subprocess.run(["systemctl", *arguments], check=True, capture_output=True, text=True)


def install(verbose):
    """Once for each guest: what admins are given, and besides it restarts without a limit; `verbose`: bluetoothd's debug lines."""
    DROP_INS.mkdir(parents=True, exist_ok=True)
    given = GIVEN / "bluetooth.service.d/waypost.conf"
    shutil.copy(given, DROP_INS / "waypost.conf")
    start = [line for line in given.read_text().splitlines() if line.startswith("ExecStart=/")][-1]
    (DROP_INS / "zz-lab.conf").write_text(
        f"[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=\n{start} $LAB{' -d' if verbose else ''}\nEnvironmentFile=-/run/radio-lab/bluetoothd.env\n"
    )
    systemctl("daemon-reload")


def drop_in(name, text):
    """Other settings of its unit, from its next start on; without a text those of that name are taken back."""
    file = (DROP_INS / name).with_suffix(".conf")
    file.write_text(text) if text else file.unlink()
    systemctl("daemon-reload")


def pid():
    """The daemon's, 0 where it does not run."""
    shown = subprocess.run(["systemctl", "show", "--property=MainPID", "--value", "bluetooth.service"], check=True, capture_output=True)
    return int(shown.stdout)


def configure(main_conf=None, arguments=""):
    """Sets main.conf to what admins are given, with other values or further ones, and bluetoothd's further arguments."""
    conf = configparser.ConfigParser(interpolation=None, strict=False)
    conf.optionxform = str
    conf.read(GIVEN / "bluetooth/main.conf")
    for section, values in (main_conf or {}).items():
        if not conf.has_section(section):
            conf.add_section(section)
        for key, value in values.items():
            if value is None:
                conf.remove_option(section, key)
            else:
                conf.set(section, key, str(value))
    MAIN_CONF.parent.mkdir(exist_ok=True)
    with MAIN_CONF.open("w") as file:
        conf.write(file, space_around_delimiters=False)
    os.makedirs("/run/radio-lab", exist_ok=True)
    Path("/run/radio-lab/bluetoothd.env").write_text(f"LAB={arguments}\n")


def stop_and_forget():
    """Stops bluetoothd, and makes it forget every adapter and device."""
    systemctl("stop", "bluetooth.service")
    shutil.rmtree(STATE, ignore_errors=True)


def wait_for_call(member, seconds=30):
    """Returns at the moment at which somebody calls this method of BlueZ."""
    monitor = Bus("org.freedesktop.DBus")
    try:
        rule = f"type='method_call',destination='org.bluez',member='{member}'"
        monitor.call("/org/freedesktop/DBus", "org.freedesktop.DBus.Monitoring", "BecomeMonitor", "asu", [rule], 0)
        while monitor.connection.receive(timeout=seconds).header.fields.get(HeaderFields.member) != member:
            pass
    finally:
        monitor.close()


class Bluez:
    """The running daemon."""

    def __init__(self, radio):
        self.radio = radio
        self.bus = None

    def start(self, adapters):
        """Starts it and waits until these adapters are powered and can advertise."""
        systemctl("start", "bluetooth.service")
        self.connect()
        for adapter in adapters:
            adapter.wait_until_ready()

    def restart(self, adapters, kill=False, at=None):
        """Restarts it in order, or by `kill -9` of the daemon, after which systemd starts it again; where `at` is the
        name of one of its methods, as soon as somebody calls that."""
        if kill:
            before = self.pid()
            if at:
                wait_for_call(at)
            os.kill(before, signal.SIGKILL)
            wait_until("systemd starts bluetoothd again", lambda: self.pid() not in (0, before))
        else:
            systemctl("restart", "bluetooth.service")
        self.connect()
        for adapter in adapters:
            adapter.wait_until_ready()

    def pid(self):
        shown = subprocess.run(
            ["systemctl", "show", "--property=MainPID", "--value", "bluetooth.service"],
            capture_output=True,
            text=True,
            check=True,
        )
        return int(shown.stdout)

    def connect(self):
        if self.bus:
            self.bus.close()
        self.bus = Bus()


class Adapter:
    """An adapter by the name of its controller (`hci0` …), wherever BlueZ has it after it was plugged in again."""

    def __init__(self, bluez, name):
        self.bluez = bluez
        self.name = name
        self.address = bluez.radio.address(name)

    def path(self):
        """Its object; an error if there is none."""
        for path, interfaces in self.bluez.bus.objects().items():
            if interfaces.get(ADAPTER, {}).get("Address") == self.address:
                return path
        raise LookupError(f"BlueZ has no adapter {self.address} ({self.name})")

    def index(self):
        """The kernel's number of it."""
        return int(self.path().rsplit("hci", 1)[1])

    def exists(self):
        try:
            return bool(self.path())
        except (LookupError, BusError):
            return False

    def ready(self):
        try:
            return any(
                interfaces.get(ADAPTER, {}).get("Address") == self.address
                and interfaces[ADAPTER]["Powered"]
                and ADVERTISING in interfaces
                for interfaces in self.bluez.bus.objects().values()
            )
        except BusError:
            return False

    def wait_until_ready(self, seconds=20):
        wait_until(f"{self.name} is powered", self.ready, seconds)

    def get(self, name):
        return self.bluez.bus.get(self.path(), ADAPTER, name)

    def power(self, on):
        self.bluez.bus.set(self.path(), ADAPTER, "Powered", "b", on)

    def rfkill(self, blocked, at=None):
        """Blocks or unblocks this adapter's radio, as a switch does; where `at` is the name of a method of BlueZ, as soon as somebody
        calls that."""
        if at:
            wait_for_call(at)
        found = [
            path
            for path in Path("/sys/class/rfkill").glob("*")
            if (path / "name").read_text().strip() == f"hci{self.index()}"
        ]
        subprocess.run(["rfkill", "block" if blocked else "unblock", found[0].name.removeprefix("rfkill")], check=True)

    def reset(self):
        """Has the kernel send HCI_Reset, as no command of BlueZ does (HCIDEVRESET)."""
        with socket.socket(socket.AF_BLUETOOTH, socket.SOCK_RAW, socket.BTPROTO_HCI) as control:
            fcntl.ioctl(control, 0x400448CB, self.index())

    def advertise(self, properties, path="/lab/advertisement"):
        """Registers an LEAdvertisement1 with these properties, `{name: (signature, value)}`."""
        self.bluez.bus.export(path, "org.bluez.LEAdvertisement1", {"Type": ("s", "peripheral"), **properties})
        self.bluez.bus.call(self.path(), ADVERTISING, "RegisterAdvertisement", "oa{sv}", path, {})

    def stop_advertising(self, path="/lab/advertisement"):
        self.bluez.bus.call(self.path(), ADVERTISING, "UnregisterAdvertisement", "o", path)

    def scan(self, on=True):
        """Starts or ends a discovery of LE devices."""
        if on:
            self.bluez.bus.call(self.path(), ADAPTER, "SetDiscoveryFilter", "a{sv}", {"Transport": ("s", "le")})
        self.bluez.bus.call(self.path(), ADAPTER, "StartDiscovery" if on else "StopDiscovery")

    def devices(self):
        """What it has seen or knows: `{address: properties of Device1}`."""
        own = self.path() + "/"
        return {
            interfaces[DEVICE]["Address"]: interfaces[DEVICE]
            for path, interfaces in self.bluez.bus.objects().items()
            if path.startswith(own) and DEVICE in interfaces
        }

    def device(self, address):
        return f"{self.path()}/dev_{address.replace(':', '_')}"

    def connect(self, address, seconds=60):
        """Connects to a device that it knows; answers after how many seconds."""
        begun = time.monotonic()
        self.bluez.bus.call(self.device(address), DEVICE, "Connect", timeout=seconds)
        return time.monotonic() - begun
