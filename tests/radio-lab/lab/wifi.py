"""Wi-Fi as the kernel and wpa_supplicant have it, on virtual radios (mac80211_hwsim): the kiosk's `wlan0` in the guest's own
network, as on a board with systemd-networkd and our firewall; every other machine in a network namespace of its own."""

import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

from .bluez import GIVEN, systemctl
from .bus import busctl
from .processes import Process
from .waiting import wait_until

PORT = 4180
# Takes TCP connections at these ports.
LISTEN = "import socket, sys, time\nall = [socket.create_server(('', int(port)), family=socket.AF_INET6, dualstack_ipv6=True) for port in sys.argv[1:]]\nprint('listens', flush=True)\ntime.sleep(9999)"
# Answers at a port by UDP, and asks there.
ANSWER = "import socket\nhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nhere.bind(('', 9999))\nprint('answers', flush=True)\nwhile True:\n    here.sendto(*here.recvfrom(100))"
ASK = "import socket, sys\nhere = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nhere.settimeout(2)\nhere.sendto(b'?', (sys.argv[1], 9999))\nhere.recv(100)"
# Makes a TCP connection: address, port, seconds.
REACHES = "import socket, sys\nsocket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3]))"
# Looks for kiosks by somebody else's implementation of mDNS (python-zeroconf), at this address of the machine's.
BROWSE = """
import json, sys, time
from zeroconf import ServiceBrowser, ServiceStateChange, Zeroconf
found = []
def changed(zeroconf, service_type, name, state_change):
    if state_change is ServiceStateChange.Added:
        found.append((service_type, name))
zeroconf = Zeroconf(interfaces=[sys.argv[1]])
browser = ServiceBrowser(zeroconf, "_waypost._tcp.local.", handlers=[changed])
until = time.monotonic() + 10
while not found and time.monotonic() < until:
    time.sleep(0.1)
info = zeroconf.get_service_info(*found[0], timeout=5000)
print(json.dumps([found[0][1], info.port, info.parsed_addresses(), {k.decode(): v.decode() for k, v in info.properties.items()}]))
"""
# Announces a gateway by the same, at this address of the machine's, on a host of a name that mDNS has no question for.
ANNOUNCE = """
import sys, time
from zeroconf import ServiceInfo, Zeroconf
kind = "_waypost._tcp.local."
told = ServiceInfo(kind, "Elsewhere." + kind, 4180, properties={"v": "1", "n": "Elsewhere"}, server="elsewhere.example.", parsed_addresses=[sys.argv[1]])
Zeroconf(interfaces=[sys.argv[1]]).register_service(told)
print("announced", flush=True)
time.sleep(9999)
"""
INSTALLED = {
    "network/10-waypost-p2p.network": Path("/run/systemd/network/10-waypost-p2p.network"),
}
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
  "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow send_type="signal"/>
    <allow receive_sender="*"/>
  </policy>
</busconfig>
"""


# Writes down what is sent to this port by TCP, over any interface: the first bytes of the first connection, and ends: it would see
# each packet.
SNIFF = """
import socket, sys
port, room, streams = int(sys.argv[1]), 400, {}
air = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
print("listens", flush=True)
while True:
    packet, (interface, kind, direction, *_) = air.recvfrom(65536)
    if direction == 4 or kind != 0x86DD or packet[6] != 6:
        continue
    tcp = packet[40:]
    if int.from_bytes(tcp[2:4]) != port:
        continue
    stream = (packet[8:24], tcp[:2])
    data = tcp[(tcp[12] >> 4) * 4 : int.from_bytes(packet[4:6])]
    before = streams.get(stream, b"")
    if data and len(before) < room:
        streams[stream] = before + data
        if len(streams[stream]) >= room:
            print(streams[stream][:room].hex(), flush=True)
            break
"""


def run(*command, check=True, seconds=60):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=seconds)
    if check and done.returncode:
        raise AssertionError(f"`{' '.join(map(str, command))}`: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


# Of mac80211_hwsim's netlink family (drivers/net/wireless/virtual/mac80211_hwsim.h).
NEW_RADIO, DEL_RADIO = 4, 5
CHANNELS, SUPPORTS_P2P_DEVICE, RADIO_NAME, PERMANENT_ADDRESS, INTERFACE_TYPES = 9, 14, 17, 22, 23
# As bits: station, access point (enum nl80211_iftype, include/uapi/linux/nl80211.h).
WITHOUT_P2P = 1 << 2 | 1 << 3


def hwsim(command, attributes):
    """One command, over generic netlink; an error where the kernel refuses it."""
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16)

    def ask(family, number, attributes):
        packed = b"".join(
            struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4) for kind, value in attributes.items()
        )
        # length, type, REQUEST | ACK, sequence, port; then command and version
        kernel.send(struct.pack("=IHHIIBBH", 20 + len(packed), family, 5, 1, 0, number, 1, 0) + packed)
        answer = kernel.recv(65536)
        if struct.unpack_from("=H", answer, 4)[0] == 2 and (error := struct.unpack_from("=i", answer, 16)[0]):
            # NEW_RADIO answers with the number of the radio.
            assert error > 0, os.strerror(-error)
        return answer

    # "nlctrl" tells the family's number.
    answer, at, family = ask(16, 3, {2: b"MAC80211_HWSIM\0"}), 20, None
    while at + 4 <= len(answer):
        length, kind = struct.unpack_from("=HH", answer, at)
        if kind == 1:
            family = struct.unpack_from("=H", answer, at + 4)[0]
        at += max((length + 3) & ~3, 4)
    kernel.recv(65536)
    ask(family, command, attributes)
    kernel.close()


class Wifi:
    """The air, and what the kiosk's side has of it."""

    # A country without channels of 6 GHz: where there are some, wpa_supplicant 2.10 asks for those of 5 GHz twice as it joins a group
    # again by Wi-Fi Direct, and the kernel refuses to look at all.
    def __init__(self, lab, radios, channels, country="UG"):
        self.lab, self.places = lab, {}
        # Not by `iw reg set` alone: what that has said is forgotten for a moment whenever the last network of all is left.
        run("modprobe", "cfg80211", f"ieee80211_regdom={country}")
        run("modprobe", "mac80211_hwsim", f"radios={radios}", f"channels={channels}")
        wait_until("the radios are there", lambda: all(Path(f"/sys/class/net/wlan{one}").exists() for one in range(radios)))
        run("iw", "reg", "set", country)
        for given, place in INSTALLED.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(GIVEN / given, place)
        run("nft", "-f", GIVEN / "nftables/waypost.nft")
        systemctl("start", "systemd-networkd.service", "wpa_supplicant.service")

    def place(self, name, radio):
        """Another machine, with this radio (`wlan1` …)."""
        self.places[name] = Place(self.lab, name, radio)
        return self.places[name]

    def groups(self):
        """Interfaces of Wi-Fi Direct groups that the kernel has on the kiosk's side."""
        return sorted(path.name for path in Path("/sys/class/net").glob("p2p-*"))

    def pull(self, radio):
        """Pulls a radio out, as a stick is; answers what it takes to plug it in again."""
        folder = Path(f"/sys/class/net/{radio}")
        name = (folder / "phy80211/name").read_text().strip()
        address = bytes.fromhex((folder / "address").read_text().strip().replace(":", ""))
        hwsim(DEL_RADIO, {RADIO_NAME: name.encode() + b"\0"})
        wait_until(f"{radio} is gone", lambda: not folder.exists())
        return address

    def plug(self, address, channels=1, p2p="device"):
        """Plugs a radio in with this address; it has the first name that is free. `p2p`: whether its driver has a device of its
        own for Wi-Fi Direct ("device"), does that with the radio's interface ("interface"), or knows none of it (None)."""
        told = {CHANNELS: struct.pack("=I", channels), PERMANENT_ADDRESS: address}
        if p2p == "device":
            told[SUPPORTS_P2P_DEVICE] = b""
        if p2p is None:
            told[INTERFACE_TYPES] = struct.pack("=I", WITHOUT_P2P)
        hwsim(NEW_RADIO, told)

    def rfkill(self, radio, blocked):
        switch = next(Path(f"/sys/class/net/{radio}/phy80211").glob("rfkill*"))
        run("rfkill", "block" if blocked else "unblock", switch.name.removeprefix("rfkill"))


def forget():
    """Ends what a scenario had of Wi-Fi; its programs are gone already."""
    systemctl("stop", "wpa_supplicant.service")
    if not Path("/sys/module/mac80211_hwsim").exists():
        return
    systemctl("stop", "systemd-networkd.service", "systemd-networkd.socket")
    for name in run("ip", "netns", "list").split("\n"):
        if name:
            run("ip", "netns", "delete", name.split()[0], check=False)
    # A namespace ends some time after its last user, and gives its radio back.
    wait_until("the radios are free", lambda: subprocess.run(["modprobe", "-r", "mac80211_hwsim", "cfg80211"]).returncode == 0)
    run("nft", "delete", "table", "inet", "waypost", check=False)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("0")
    for place in INSTALLED.values():
        place.unlink(missing_ok=True)


def with_bus(folder, start):
    """A message bus with a wpa_supplicant of its own; answers its address."""
    folder.mkdir(exist_ok=True)
    path = folder / "bus"
    (folder / "bus.conf").write_text(BUS.format(path=path))
    start("bus", "dbus-daemon", f"--config-file={folder}/bus.conf", "--nofork", "--nopidfile", "--nosyslog", environment={})
    wait_until("its bus is there", path.exists)
    address = f"unix:path={path}"
    start("supplicant", "wpa_supplicant", "-u", "-t", environment={"DBUS_SYSTEM_BUS_ADDRESS": address})
    owner = ["busctl", f"--address={address}", "status", "fi.w1.wpa_supplicant1"]
    wait_until("its wpa_supplicant is there", lambda: subprocess.run(owner, capture_output=True).returncode == 0)
    return address


SERVICE, ROOT = "fi.w1.wpa_supplicant1", "/fi/w1/wpa_supplicant1"


def interfaces(bus=None):
    """wpa_supplicant's objects: `{interface: path}`."""
    paths = busctl("get-property", SERVICE, ROOT, SERVICE, "Interfaces", bus=bus)
    return {busctl("get-property", SERVICE, path, f"{SERVICE}.Interface", "Ifname", bus=bus): path for path in paths}


def join(radio, ssid, passphrase, bus=None):
    """A radio joins a network, as a network manager has it joined by wpa_supplicant."""
    service, interface = SERVICE, f"{SERVICE}.Interface"
    path = interfaces(bus).get(radio)
    if not path:
        told = f"2 Ifname s {radio} Driver s nl80211".split()
        path = busctl("call", service, ROOT, service, "CreateInterface", "a{sv}", *told, bus=bus)[0]
    told = ["3", "ssid", "s", ssid, "psk", "s", passphrase, "key_mgmt", "s", "WPA-PSK"]
    network = busctl("call", service, path, interface, "AddNetwork", "a{sv}", *told, bus=bus)[0]
    busctl("call", service, path, interface, "SelectNetwork", "o", network, bus=bus)


def is_in(radio, ssid):
    """Whether a radio that is in no place of its own is in a network."""
    return f"SSID: {ssid}" in run("iw", "dev", radio, "link")


class Router:
    """Somebody else's access point (hostapd), in a place of its own."""

    def __init__(self, lab, name, radio, channel, ssid="Clinic", passphrase="clinic-passphrase"):
        self.lab, self.ssid, self.passphrase = lab, ssid, passphrase
        self.place = lab.wifi.place(name, radio)
        configuration = self.place.folder / "hostapd.conf"
        configuration.write_text(
            f"interface={radio}\ndriver=nl80211\nssid={ssid}\nhw_mode=g\nchannel={channel}\n"
            f"wpa=2\nwpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nwpa_passphrase={passphrase}\n"
        )
        self.place.start("hostapd", "hostapd", configuration).wait_for("AP-ENABLED")

    def admits(self, radio, bus=None, seconds=30):
        """A radio that is in no place of its own joins it, such as the kiosk's."""
        join(radio, self.ssid, self.passphrase, bus)
        wait_until(f"{radio} has joined {self.ssid}", lambda: self.has(radio), seconds)

    def has(self, radio):
        """Whether such a radio is in it."""
        return is_in(radio, self.ssid)


class Place:
    """A machine as far as networks go: a namespace with a radio."""

    def __init__(self, lab, name, radio):
        self.lab, self.name, self.radio = lab, name, radio
        phy = Path(f"/sys/class/net/{radio}/phy80211/name").read_text().strip()
        run("ip", "netns", "add", name)
        run("iw", "phy", phy, "set", "netns", "name", name)
        self.run("ip", "link", "set", "lo", "up")
        self.folder = lab.state / f"wifi-{name}"
        self.folder.mkdir()
        self.control = None

    def command(self, *command):
        return ["ip", "netns", "exec", self.name, *map(str, command)]

    def run(self, *command, check=True, seconds=60):
        return run(*self.command(*command), check=check, seconds=seconds)

    def start(self, name, *command, environment=None):
        return Process(self.lab.results / f"{self.name}-{name}.log", self.command(*command), environment)

    # wpa_supplicant, as a program of ours or of others drives it

    def with_bus(self):
        """A message bus with wpa_supplicant; answers its address."""
        return with_bus(self.folder, self.start)

    def supplicant(self, more=""):
        """wpa_supplicant alone, driven at its control interface: a phone that is not ours."""
        self.control = self.folder / "control"
        (self.folder / "wpa.conf").write_text(
            f"ctrl_interface={self.control}\ndevice_name={self.name}\ndevice_type=10-0050F204-5\n"
            f"config_methods=virtual_push_button physical_display keypad\npersistent_reconnect=1\nupdate_config=1\n{more}"
        )
        self.supplicant_log = self.lab.results / f"{self.name}-supplicant.log"
        self.process = self.start("supplicant", "wpa_supplicant", "-i", self.radio, "-D", "nl80211", "-c", self.folder / "wpa.conf", "-t")
        wait_until("its wpa_supplicant is there", (self.control / self.radio).exists)
        assert "PONG" in self.ask("PING", interface=self.radio)

    def ask(self, *command, interface=None):
        """A command of wpa_supplicant's control interface, as `wpa_cli` gives it; answers what that says."""
        with self.controlled(f"asks-{time.monotonic_ns()}", interface or f"p2p-dev-{self.radio}") as control:
            control.settimeout(30)
            control.send(" ".join(command).encode())
            answer = control.recv(65536).decode(errors="replace")
        assert not answer.startswith(("FAIL", "UNKNOWN")), f"{' '.join(command)}: {answer}"
        return answer

    def controlled(self, name, interface):
        control = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        control.bind(str(self.folder / name))
        control.connect(str(self.control / interface))
        return control

    def attach(self):
        """From now on hears what is told on the control interface alone."""
        self.events = self.controlled("events", f"p2p-dev-{self.radio}")
        self.events.send(b"ATTACH")

    def hears(self, pattern, seconds=30):
        """Waits for a line there; answers the match."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.events.settimeout(left)
            if found := re.search(pattern, self.events.recv(65536).decode(errors="replace")):
                return found
        raise AssertionError(f"{self.name} has not heard {pattern} within {seconds} s")

    def said(self):
        return self.supplicant_log.read_text(errors="replace")

    def wait_for(self, pattern, seconds=30):
        """Waits for a line of wpa_supplicant's; answers the match."""
        return wait_until(f"{self.name} hears {pattern}", lambda: re.search(pattern, self.said()), seconds)

    def join(self, ssid, passphrase, frequency=None):
        """A station like any other: a laptop, or a phone whose user has typed the passphrase."""
        scan = f" scan_freq={frequency}\n" if frequency else ""
        self.supplicant(f'network={{\n ssid="{ssid}"\n psk="{passphrase}"\n{scan}}}\n')

    def is_in(self):
        return "wpa_state=COMPLETED" in self.ask("STATUS", interface=self.radio)

    def group(self):
        """The interface with which this machine is in a group as its client."""
        return self.wait_for(r"P2P-GROUP-STARTED (p2p-\S+) client")[1]

    def address(self, interface=None):
        """Asks for an address, by the DHCP client of busybox; answers it."""
        script = self.folder / "udhcpc.sh"
        script.write_text('#!/bin/sh\n[ "$1" = bound ] || exit 0\nip address add "$ip/24" dev "$interface"\nenv >"$0.env"\n')
        script.chmod(0o755)
        interface = interface or self.radio
        self.run("busybox", "udhcpc", "-i", interface, "-n", "-q", "-t", "10", "-T", "1", "-s", script)
        return re.search(r"^ip=(.*)$", Path(f"{script}.env").read_text(), re.MULTILINE)[1]

    def browse(self, address):
        """What this machine finds of a kiosk by mDNS, at this address of its own: name, port, addresses, what it says of itself."""
        return json.loads(self.run("python3", "-c", BROWSE, address))

    def lease(self):
        """What the server has said with the address: `{name: value}`."""
        lines = (self.folder / "udhcpc.sh.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def listen(self, *ports):
        self.start("listens", "python3", "-c", LISTEN, *ports).wait_for("listens")

    def reaches(self, address, port, seconds=2):
        """Whether a TCP connection comes to be."""
        return self.can("python3", "-c", REACHES, address, port, seconds)

    def asks(self, address):
        """Whether somebody answers by UDP, at the port of `ANSWER`."""
        return self.can("python3", "-c", ASK, address)

    def pings(self, address):
        return self.can("busybox", "ping", "-c", "1", "-W", "2", address)

    def can(self, *command):
        return subprocess.run(self.command(*command), capture_output=True, check=False).returncode == 0
