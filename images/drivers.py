"""Looks, without the boards, whether the image has the drivers that they need: a missing one shows on no emulated machine.

    drivers.py ROOT INITRAMFS TREE...     # the list of the initramfs's files, device trees of the boards

Exit status 1, and a line for each, where something is missing:
- a module for a device of a board, or one of those in EXTRAS, that depends on one which the image does not have;
- a module for the card reader, or for what feeds it (power, clocks, pins), which the initramfs does not have;
- what a board's radios load, of FIRMWARE."""

import fnmatch
import os
import struct
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

# What devices of the boards need that no device tree names: radios, the screen's sound, sticks for mobile networks.
EXTRAS = ["brcmfmac", "brcmfmac_wcc", "hci_uart", "btbcm", "snd_soc_hdmi_codec", "bcm2835_wdt", "usb_storage", "uas", "vfat", "exfat"]
EXTRAS += ["cdc_ether", "rndis_host", "cdc_mbim", "qmi_wwan", "option", "smsc95xx", "lan78xx", "squashfs", "overlay", "tun"]
# Below usr/lib/firmware: chip and settings of Wi-Fi, chip of Bluetooth, what is allowed in which country. Some Zero 2 W have a
# chip whose Wi-Fi asks for brcmfmac43430b0-sdio.bin, which Debian has in no package: those have Bluetooth alone.
FIRMWARE = ["regulatory.db", "brcm/BCM43430A1.hcd", "brcm/BCM43430B0.hcd", "brcm/BCM4345C0.hcd", "brcm/BCM4345C5.hcd"]
FIRMWARE += [f"brcm/brcmfmac43430-sdio.{end}" for end in ["bin", "raspberrypi,3-model-b.txt", "raspberrypi,model-zero-2-w.txt"]]
FIRMWARE += [f"brcm/brcmfmac43455-sdio.{end}" for end in ["bin", "clm_blob", "raspberrypi,3-model-b-plus.txt"]]
FIRMWARE += [f"brcm/brcmfmac43455-sdio.raspberrypi,{board}.txt" for board in ["3-model-a-plus", "4-model-b"]]
# Properties that name other devices, without which a driver waits, and the property of those that says how many numbers follow.
SUPPLIES = {
    "clocks": "#clock-cells",
    "resets": "#reset-cells",
    "dmas": "#dma-cells",
    "power-domains": "#power-domain-cells",
    "mboxes": "#mbox-cells",
    "vmmc-supply": None,
    "vqmmc-supply": None,
    "vin-supply": None,
    "gpios": "#gpio-cells",
    "gpio": "#gpio-cells",
    "enable-gpios": "#gpio-cells",
    "pinctrl-0": None,
    "pinctrl-1": None,
}
# Under which a node has the one above it: no property is called so.
PARENT = "/parent"


class Modules:
    """The kernel's modules below a root."""

    def __init__(self, root):
        (self.folder,) = (root / "usr/lib/modules").iterdir()
        lines = (self.folder / "modules.dep").read_text().splitlines()
        self.files = {name_of(line.split(":")[0]): line.split(":")[0] for line in lines}
        self.builtin = {name_of(line) for line in (self.folder / "modules.builtin").read_text().splitlines()}
        self.aliases = defaultdict(set)
        for line in (self.folder / "modules.alias").read_text().splitlines():
            if line.startswith("alias of:"):
                _, alias, module = line.split()
                self.aliases[alias].add(module)

    def of(self, compatible):
        """Modules for a device of this kind, unless a part of the kernel itself is for it."""
        found = set()
        for alias, modules in self.aliases.items():
            kind = alias.partition("T*C")[2] if "T*C" in alias else ""
            if kind and fnmatch.fnmatchcase(compatible, kind):
                found |= modules
        return found

    def depends(self, module):
        """What a module says that it needs, whether it is there or not."""
        said = subprocess.run(
            ["modinfo", "-F", "depends", self.folder / self.files[module]], capture_output=True, text=True, check=True
        ).stdout
        return {name.replace("-", "_") for name in said.strip().split(",") if name}

    def missing(self, module, seen):
        """Modules that are not there, of those that a module needs to be loaded."""
        if module in seen or module in self.builtin:
            return set()
        seen.add(module)
        if module not in self.files:
            return {module}
        return set().union(*(self.missing(other, seen) for other in self.depends(module)), set())


class Tree:
    """A device tree in its flat form (Devicetree Specification, release 0.4, section 5): the devices that are not switched off.
    Debian 12's binding of libfdt crashes."""

    def __init__(self, path):
        data = path.read_bytes()
        magic, _, at, strings = struct.unpack_from(">4I", data)
        assert magic == 0xD00DFEED, f"{path} is no device tree"
        self.nodes, above = [], []
        while True:
            (token,) = struct.unpack_from(">I", data, at)
            at += 4
            if token == 1:
                end = data.index(b"\0", at)
                above.append({"": data[at:end].decode(), PARENT: above[-1] if above else None})
                self.nodes.append(above[-1])
                at = end + 4 & ~3
            elif token == 2:
                above.pop()
            elif token == 3:
                size, name = struct.unpack_from(">2I", data, at)
                key = data[strings + name : data.index(b"\0", strings + name)].decode()
                above[-1][key] = data[at + 8 : at + 8 + size]
                at += 8 + size + 3 & ~3
            elif token == 9:
                break
        self.named = {node["phandle"]: node for node in self.nodes if "phandle" in node}
        self.nodes = [node for node in self.nodes if is_on(node)]

    def suppliers(self, node):
        """The devices that a device waits for."""
        for name, cells in SUPPLIES.items():
            value, at = node.get(name, b""), 0
            while at < len(value):
                found = self.named.get(value[at : at + 4])
                if found and is_on(found):
                    yield found
                at += 4 + 4 * int.from_bytes(found.get(cells, b"") if found and cells else b"", "big")
        # A setting of pins is a part of the device that has the pins.
        if "compatible" not in node and node[PARENT]:
            yield node[PARENT]

    def closure(self, nodes):
        done, todo = [], list(nodes)
        while todo:
            node = todo.pop()
            if not any(node is one for one in done):
                done.append(node)
                todo += self.suppliers(node)
        return done


def is_on(node):
    return node.get("status", b"okay\0") in (b"okay\0", b"ok\0")


def kinds(node):
    return node.get("compatible", b"").decode().strip("\0").split("\0")


def name_of(path):
    return Path(path).name.split(".ko")[0].replace("-", "_")


def main():
    root, initramfs, *trees = map(Path, sys.argv[1:])
    modules = Modules(root)
    early = {name_of(line) for line in initramfs.read_text().splitlines() if ".ko" in line}

    wrong = set()
    wanted = set(EXTRAS)
    for path in trees:
        tree = Tree(path)
        for node in tree.nodes:
            wanted |= set().union(*(modules.of(kind) for kind in kinds(node)), set())
        readers = [node for node in tree.nodes if node[""].startswith("mmc")]
        assert readers, f"{path} has no card reader"
        for node in tree.closure(readers):
            for kind in kinds(node):
                for module in modules.of(kind) - modules.builtin - early:
                    wrong.add(f"{path.name}: the initramfs lacks {module}, for {kind}, without which the card is not read")
    for module in sorted(wanted):
        module = module.replace("-", "_")
        if lacks := modules.missing(module, set()):
            wrong.add(f"the image lacks {', '.join(sorted(lacks))}, which {module} needs")
    for name in FIRMWARE:
        # Some are links, absolute ones within the root.
        if not os.path.lexists(root / "usr/lib/firmware" / name):
            wrong.add(f"the image lacks the firmware {name}")
    for line in sorted(wrong):
        print(line, file=sys.stderr)
    sys.exit(1 if wrong else 0)


main()
