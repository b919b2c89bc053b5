"""USB devices that are plugged in and pulled out: the kernel's own gadgets, on a bus that is a program (dummy_hcd)."""

import subprocess
from pathlib import Path

GADGETS = Path("/sys/kernel/config/usb_gadget")
ENGLISH = "strings/0x409"


class Usb:
    """`with Usb(lab) as usb:` has a bus with three ports; all that is plugged in is pulled out afterwards."""

    def __init__(self, lab):
        self.lab, self.plugged = lab, {}

    def __enter__(self):
        for module in ("dummy_hcd num=3", "libcomposite", "loop"):
            self.lab.run("modprobe", *module.split())
        if not GADGETS.exists():
            self.lab.run("mount", "-t", "configfs", "none", "/sys/kernel/config")
        return self

    def __exit__(self, *_):
        for name in list(self.plugged):
            self.pull(name)

    def radio(self, serial):
        """A serial line as Waypost's own radios have it."""
        self.plug("radio", "acm", manufacturer="Waypost", product="Radio", serial=serial)

    def modem(self, name="modem"):
        """A stick for mobile networks that is a router."""
        self.plug(name, "rndis", manufacturer="Vendor", product="Modem", serial=name)

    def stick(self, kind="vfat", files=()):
        """A stick with a file system and these empty files; answers the image that is on it."""
        image = self.lab.state / "stick.img"
        with image.open("wb") as file:
            file.truncate(64 << 20)
        self.lab.run(f"mkfs.{kind}", image)
        with Mounted(self.lab, image) as folder:
            for name in files:
                (folder / name).touch()
        self.plug("stick", "mass_storage", image, manufacturer="Vendor", product="Stick", serial="2")
        return image

    def plug(self, name, function, image=None, **strings):
        gadget = GADGETS / name
        gadget.mkdir()
        (gadget / "idVendor").write_text("0x1d6b")
        (gadget / "idProduct").write_text("0x0104")
        (gadget / ENGLISH).mkdir()
        for key, text in strings.items():
            (gadget / ENGLISH / {"serial": "serialnumber"}.get(key, key)).write_text(text)
        made = gadget / "functions" / f"{function}.0"
        made.mkdir()
        if image:
            (made / "lun.0/removable").write_text("1")
            (made / "lun.0/file").write_text(str(image))
        (gadget / "configs/c.1").mkdir()
        (gadget / "configs/c.1" / made.name).symlink_to(made)
        taken = set(self.plugged.values())
        port = next(one for one in sorted(Path("/sys/class/udc").iterdir()) if one.name not in taken).name
        (gadget / "UDC").write_text(port)
        self.plugged[name] = port
        self.lab.run("udevadm", "settle", "--timeout=20")

    def pull(self, name):
        """Out it is, without asking anybody."""
        gadget = GADGETS / name
        (gadget / "UDC").write_text("\n")
        del self.plugged[name]
        for link in (gadget / "configs/c.1").iterdir():
            if link.is_symlink():
                link.unlink()
        # In the order in which configfs lets go.
        (gadget / "configs/c.1").rmdir()
        next((gadget / "functions").iterdir()).rmdir()
        (gadget / ENGLISH).rmdir()
        gadget.rmdir()
        self.lab.run("udevadm", "settle", "--timeout=20")


class Mounted:
    """`with Mounted(lab, image) as folder:` what is on a stick that is not plugged in."""

    def __init__(self, lab, image):
        self.lab, self.image, self.folder = lab, image, lab.state / "mounted"

    def __enter__(self):
        self.folder.mkdir(exist_ok=True)
        self.lab.run("mount", "-o", "loop", self.image, self.folder)
        return self.folder

    def __exit__(self, *_):
        self.lab.run("umount", self.folder)


def mounts():
    """Where each block device is mounted, and with which options."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return {device: (Path(place), options.split(",")) for device, place, _, options, *_ in rows if device.startswith("/dev/")}


def owner(path):
    """User, group and mode of a file, as `stat` has them."""
    return subprocess.run(["stat", "-c", "%U %G %a", path], capture_output=True, text=True, check=True).stdout.split()
