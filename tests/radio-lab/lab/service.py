"""The gateway as admins get it: the unit waypost.service, its own user, its configuration in /etc/waypost."""

import ctypes
import os
import shutil
import struct
import subprocess
from pathlib import Path

from .bluez import GIVEN, systemctl
from .programs import BIN, Kiosk, configuration

UNIT = "waypost.service"
ETC, STATE, DROP_INS = Path("/etc/waypost"), Path("/var/lib/waypost"), Path(f"/run/systemd/system/{UNIT}.d")
INSTALLED = {
    "waypost.service": Path("/run/systemd/system/waypost.service"),
    "waypost-bluetooth.path": Path("/run/systemd/system/waypost-bluetooth.path"),
    "waypost-bluetooth.service": Path("/run/systemd/system/waypost-bluetooth.service"),
    "sysusers.d/waypost.conf": Path("/usr/lib/sysusers.d/waypost.conf"),
    "tmpfiles.d/waypost.conf": Path("/usr/lib/tmpfiles.d/waypost.conf"),
    "dbus-1/waypost.conf": Path("/usr/share/dbus-1/system.d/waypost.conf"),
    "udev/70-waypost.rules": Path("/usr/lib/udev/rules.d/70-waypost.rules"),
    "udev/71-waypost-kiosk.rules": Path("/etc/udev/rules.d/71-waypost-kiosk.rules"),
    "network/10-waypost-p2p.network": Path("/usr/lib/systemd/network/10-waypost-p2p.network"),
}


class Service(Kiosk):
    """`with lab.service() as kiosk:` installs it; it is gone afterwards, with all that it has stored."""

    def __init__(self, lab, adapter, destination, config):
        self.lab, self.adapter, self.name, self.folder = lab, adapter, "waypost", ETC
        self.socket = Path("/run/waypost/control.sock")
        self.destination, self.config = destination, config

    def __enter__(self):
        shutil.copy(BIN / "waypost", "/usr/bin/waypost")
        for given, place in INSTALLED.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(GIVEN / given, place)
        self.lab.run("systemd-sysusers", INSTALLED["sysusers.d/waypost.conf"])
        self.lab.run("systemd-tmpfiles", "--create", INSTALLED["tmpfiles.d/waypost.conf"])
        for name, source in (("certificate.pgp", "certificate.pgp"), ("ca.pem", "tls/ca.pem"), ("token", "token.txt")):
            shutil.copy(self.destination.home / source, ETC / name)
            shutil.chown(ETC / name, "root", "waypost")
            (ETC / name).chmod(0o640)
        (ETC / "gateway.toml").write_text(configuration(self.adapter, self.destination, 4180) + self.config)
        systemctl("daemon-reload")
        systemctl("reload", "dbus.service")
        self.lab.run("udevadm", "control", "--reload")
        self.lab.run("udevadm", "trigger", "--settle", "--subsystem-match=misc")
        return self

    def __exit__(self, *_):
        subprocess.run(["systemctl", "stop", UNIT, "waypost-bluetooth.path"], check=False)
        for path in (ETC, STATE, DROP_INS):
            shutil.rmtree(path, ignore_errors=True)
        for path in (*INSTALLED.values(), Path("/usr/bin/waypost")):
            path.unlink(missing_ok=True)
        systemctl("daemon-reload")
        subprocess.run(["systemctl", "reset-failed", UNIT], check=False, capture_output=True)

    def drop_in(self, name, text):
        """Other settings of the unit, from the next start on."""
        DROP_INS.mkdir(parents=True, exist_ok=True)
        (DROP_INS / name).with_suffix(".conf").write_text(text)
        systemctl("daemon-reload")

    def start(self):
        """Starts it and waits until it says that it is ready; an error where it does not."""
        systemctl("start", UNIT)
        return self

    def stop(self):
        systemctl("stop", UNIT)

    def show(self, name):
        """A property of the unit."""
        return self.lab.run("systemctl", "show", f"--property={name}", "--value", UNIT).strip()

    def pid(self):
        return int(self.show("MainPID"))

    def journal(self):
        """What it, and systemd of it, have said in this scenario."""
        return self.lab.run("journalctl", "--unit", UNIT, "--output=cat", "--no-pager", f"--since=@{self.lab.begun:.0f}")

    def hang(self):
        """Its event loop stands still, its other threads go on (ptrace(2))."""
        main = self.pid()
        reading, writing = os.pipe()
        if os.fork() == 0:
            errors = [request for request in (PTRACE_SEIZE, PTRACE_INTERRUPT) if LIBC.ptrace(request, main, None, None) != 0]
            os.write(writing, b"hangs" if not errors else os.strerror(ctypes.get_errno()).encode())
            # Whoever traces hears of the end first, and systemd only when it has.
            while not errors and not os.WIFSIGNALED(os.waitpid(main, WALL)[1]):
                pass
            os._exit(0)
        said = os.read(reading, 64)
        os.close(reading)
        os.close(writing)
        assert said == b"hangs", said


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000


def clock_follows_a_server(follows):
    """What the kernel says of its clock, as a time server's client would tell it (adjtimex(2)): its error is known, or is not."""
    # modes, offset, freq, maxerror in microseconds; systemd takes 16 s for "not synchronised".
    told = struct.pack("iq2q", 0x4, 0, 0, 1_000 if follows else 16_000_000).ljust(208, b"\0")
    assert LIBC.adjtimex(ctypes.create_string_buffer(told, 208)) >= 0, os.strerror(ctypes.get_errno())


def as_nobody(*command):
    """The status of a command that somebody runs who has nothing to do with the gateway."""
    who = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]
    return subprocess.run([*who, *map(str, command)], check=False, capture_output=True).returncode


def fails(work, *arguments):
    """Whether a command that is run by this ends with an error."""
    try:
        work(*arguments)
    except subprocess.CalledProcessError:
        return True
    return False
