"""The project's programs: kiosk, phone, destination. Each is a folder of its own below the scenario's."""

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

from .processes import Process
from .waiting import wait_until
from .wifi import with_bus

BIN = Path("/tmp/bin")
TEMPLATES = Path("/tmp/templates")


class Ran:
    """What a command that ended has said: `said` its JSON objects, `status`, `errors` its standard error."""

    def __init__(self, command, log, seconds, check, environment=None):
        words = list(map(str, command))
        # Without its folder and the flags that each has, or the namespace that it runs in.
        at = next(at for at, word in enumerate(words) if word.startswith(f"{BIN}/"))
        shown = " ".join([Path(words[at]).name, *words[at + 4 :]])
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=False,
            env={**os.environ, **(environment or {})},
        )
        self.status, self.errors = done.returncode, done.stderr.decode(errors="replace")
        with log.open("ab") as file:
            file.write(
                f"$ {shown}\n".encode()
                + done.stdout
                + done.stderr
                + f"= {done.returncode}\n".encode()
            )
        self.said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith((b"{", b"["))]
        if check and self.status != 0:
            raise AssertionError(
                f"`{shown}` ended with status {self.status}: {self.errors.strip() or self.said[-1:]}"
            )

    @property
    def last(self):
        return self.said[-1]

    def events(self, name):
        return [one for one in self.said if one.get("event") == name]


class Destination:
    """A destination server: on loopback, or at an address of another machine's (`place`)."""

    def __init__(self, lab, port=8443, host="127.0.0.1", place=None):
        self.lab, self.port, self.host, self.place = lab, port, host, place
        self.home = lab.state / f"destination-{port}"
        self.log = lab.results / f"destination-{port}.log"
        self.process = None
        # Keys take seconds to make, under emulation: once for each guest.
        template = TEMPLATES / f"destination-{host}-{port}"
        if not template.exists():
            shutil.rmtree(self.home, ignore_errors=True)
            self.run(
                "init",
                "--name",
                "Clinic",
                "--url",
                f"https://{host}:{port}",
                "--self-signed",
                host,
                "--collection",
                "forms",
            )
            (self.home / "token.txt").write_text(self.run("gateways", "add", "kiosk").last["token"])
            (self.home / "code.txt").write_text(self.run("phone-code").last["text"])
            TEMPLATES.mkdir(exist_ok=True)
            shutil.copytree(self.home, template)
        elif not self.home.exists():
            shutil.copytree(template, self.home)

    def run(self, *arguments, seconds=60, check=True):
        return Ran([BIN / "waypost-destination", "--home", self.home, "--json", *arguments], self.log, seconds, check)

    def start(self):
        command = [BIN / "waypost-destination", "--home", self.home, "--json", "run", "--listen", f"{self.host}:{self.port}"]
        self.process = Process(self.log, self.place.command(*command) if self.place else command)
        self.process.wait_for('"ready":true')

    def stop(self):
        return self.process.stop()

    @property
    def token(self):
        return (self.home / "token.txt").read_text()

    def code(self):
        """With which phones add it."""
        return (self.home / "code.txt").read_text()

    def inbox(self):
        """`{name: bytes}` of all files that arrived and were opened, in all collections."""
        folder = self.home / "inbox"
        return {
            str(path.relative_to(folder / path.relative_to(folder).parts[0])): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }


class Kiosk:
    """A gateway: `waypost run`, and its commands."""

    def __init__(self, lab, adapter, destination, config, port):
        self.lab, self.adapter = lab, adapter
        self.name = f"kiosk-{port}"
        self.folder = lab.state / self.name
        self.socket = self.folder / "control.sock"
        self.log = lab.results / f"{self.name}.log"
        self.process = None
        self.folder.mkdir()
        for name, source in (("certificate.pgp", "certificate.pgp"), ("ca.pem", "tls/ca.pem"), ("token", "token.txt")):
            shutil.copy(destination.home / source, self.folder / name)
        (self.folder / "gateway.toml").write_text(PLACES + configuration(adapter, destination, port) + config)

    def configure(self, name, text):
        """Adds or replaces a drop-in of the configuration (TOML), from the next start or reload on."""
        folder = self.folder / "gateway.d"
        folder.mkdir(exist_ok=True)
        (folder / name).with_suffix(".toml").write_text(text)

    def start(self):
        self.process = Process(self.log, self.command("run"))
        self.process.wait_for("gateway is running")

    def stop(self):
        return self.process.stop()

    def kill9(self):
        self.process.kill9()

    def command(self, *arguments):
        return [BIN / "waypost", "--config", self.folder / "gateway.toml", "--json", *arguments]

    def run(self, *arguments, seconds=60, check=True):
        return Ran(self.command(*arguments), self.lab.results / f"{self.name}-commands.log", seconds, check)

    def status(self):
        """As `waypost status --json`, asked at the control socket: a program's start costs half a second here."""
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(30)
            asking.connect(str(self.socket))
            asking.sendall(b'{"do":"status"}\n')
            return json.loads(asking.makefile().readline())["answer"]["status"]

    def wifi(self):
        """The state of its group."""
        return self.status()["wifi"]

    def group(self, seconds=40):
        """Waits until its group is up; answers it."""

        def up():
            wifi = self.wifi()
            return wifi["state"] == "up" and wifi

        return wait_until(f"the group of {self.name} is up", up, seconds)

    def invitation(self):
        """Name and passphrase of its network, and the PIN."""
        return self.run("wifi").last

    def adapters(self):
        """The state of each of its adapters."""
        return {one["name"]: one["state"] for one in self.status()["bluetooth"]}

    def on_air(self, *names):
        """Waits until phones can find it on these adapters, else on the first; answers itself."""
        ready = dict.fromkeys(names or ("hci0",), "ready")
        wait_until(f"{self.name} is on the air", lambda: self.adapters() == ready)
        return self

    def code(self):
        """A new pairing code's text."""
        return self.run("pair").last["text"]

    def documents(self):
        return self.run("documents", "list").last["documents"]


class Phone:
    """A phone: nothing but its folder, each command a process of its own. It has an adapter of its own."""

    def __init__(self, lab, name, adapter, destination, radio=None, place=None):
        self.lab, self.name, self.adapter, self.place = lab, name, adapter, place
        self.home = lab.state / name
        self.log = lab.results / f"{name}.log"
        self.environment = {"WAYPOST_PHONE_ADAPTER": adapter.address} if adapter else {}
        if radio:
            # A wpa_supplicant of its own, as another machine has.
            self.bus = place.with_bus() if place else with_bus(lab.state / f"{name}-wifi", self.beside)
            self.environment |= {"WAYPOST_PHONE_RADIO": radio, "WAYPOST_PHONE_WIFI_BUS": self.bus}
        self.run("init", "--name", name)
        if destination:
            self.run("destination", "add", destination.code(), "--yes")

    def command(self, *arguments):
        command = [BIN / "waypost-phone", "--home", self.home, "--json", "--verbose", *arguments]
        return self.place.command(*command) if self.place else command

    def run(self, *arguments, seconds=90, check=True):
        """Runs a command, which must succeed unless `check=False`."""
        return Ran(self.command(*arguments), self.log, seconds, check, self.environment)

    def start(self, *arguments):
        """Starts a command that goes on (`sync`, `run`, `listen`) while the scenario does something else."""
        return Process(self.log, self.command(*arguments), self.environment)

    def beside(self, name, *command, environment):
        return Process(self.lab.results / f"{self.name}-{name}.log", command, environment)

    def moved(self):
        """Bytes of the document that is under way, as the command that runs has said last."""
        done = [one["done"] for one in self.said() if one.get("event") == "progress"]
        return done[-1] if done else 0

    def said(self):
        """What its commands have said until now, the unfinished last line left out."""
        lines = self.log.read_bytes().split(b"\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def reports(self):
        """The reports of all contacts."""
        return [one for one in self.said() if one.get("event") == "report" and "medium" in one]

    def report(self):
        """That of the last one."""
        return self.reports()[-1]

    def pair(self, kiosk, *arguments):
        paired = self.run("pair", kiosk.code(), *arguments)
        assert paired.last["report"]["key"], paired.last

    def add(self, *batches):
        """Seals files, `[(name, bytes)]`; answers their ids."""
        folder = self.lab.state / f"{self.name}-files"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        paths = []
        for name, content in (one for batch in batches for one in batch):
            (folder / name).write_bytes(content)
            paths.append(folder / name)
        added = self.run("add", "--base", folder, *paths)
        return [one["id"] for one in added.events("added")]

    def sync(self, *arguments, **more):
        """One contact; answers the report."""
        return self.run("sync", *arguments, **more).last

    def list(self, *arguments):
        return self.run("list", *arguments).last["documents"]


def configuration(adapter, destination, port):
    """What every gateway of the lab is told, TOML; more tables may follow it."""
    bluetooth = f'ble.adapters = ["{adapter.address}"]' if adapter else "ble.enabled = false"
    return CONFIGURATION.format(port=port, bluetooth=bluetooth, destination=f"{destination.host}:{destination.port}")


# Where a gateway that is no service keeps its things: in its own folder.
PLACES = """store.path = "store"
identity.key_file = "identity.key"
control.socket = "control.sock"
"""

CONFIGURATION = """name = "Lab kiosk"
store.reserve = "16MiB"
lan.listen = ["127.0.0.1:{port}"]
lan.advertise = false
{bluetooth}
upload.probe_interval = "1s"
upload.max_backoff = "1s"
log.level = "debug"

[[destination]]
name = "clinic"
url = "https://{destination}"
certificate = "certificate.pgp"
token_file = "token"
ca_file = "ca.pem"
"""
