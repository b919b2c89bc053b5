"""What is plugged into a kiosk: a stick is mounted, imported from and exported to; a radio has its name and is the gateway's alone;
a stick for mobile networks has a name that a configuration can say."""

import subprocess
from pathlib import Path

from lab import Lab, forms, wait_until
from lab.usb import Mounted, Usb, mounts, owner

CONTROLLERS = 1
LIMIT = 150


def run(lab: Lab):
    with Usb(lab) as usb, lab.service("hci0", "[bundles]\nenabled = true\n") as kiosk:
        kiosk.start()
        lab.destination().stop()
        amina = lab.phone("amina", "hci0")
        amina.pair(kiosk)
        amina.add(forms(3))
        assert amina.sync()["transferred"] == 3

        usb.stick(files=["WAYPOST-BUNDLE"])
        wait_until("it is mounted", lambda: "/dev/sda" in mounts(), 20)
        place, options = mounts()["/dev/sda"]
        assert place == Path("/media/sda")
        assert {"nosuid", "nodev", "noexec"} <= set(options), options
        assert owner(place)[0] == "waypost"
        wait_until("it is exported to", lambda: f"the stick at {place} may be pulled" in kiosk.journal(), 40)
        # As sudo sets them: of FAT nothing can be given to anybody.
        lab.run("env", "SUDO_UID=1000", "SUDO_GID=1000", "waypost", "support", place / "support.tar.gz")
        assert (place / "support.tar.gz").stat().st_size > 0
        usb.pull("stick")
        wait_until("nothing is left of it", lambda: "/dev/sda" not in mounts(), 20)
        with Mounted(lab, lab.state / "stick.img") as folder:
            exported = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
            assert len(exported) >= 3, exported

        usb.stick("ext4")
        wait_until("another one is there", Path("/dev/sda").exists, 20)
        lab.run("udevadm", "settle")
        assert "/dev/sda" not in mounts(), "a file system that no laptop writes is not for a kiosk"
        usb.pull("stick")

        usb.radio("A1B2C3")
        radio = Path("/dev/waypost/radio-A1B2C3")
        wait_until("the radio has its name", radio.exists, 20)
        assert owner(radio.resolve()) == ["root", "waypost", "660"], owner(radio.resolve())
        assert "ID_MM_DEVICE_IGNORE=1" in lab.run("udevadm", "info", "--query=property", radio)
        is_let_to(lab, radio)
        usb.modem()
        wait_until("the modem has its name", modems, 20)
        power = (modems()[0] / "device/../power/control").read_text().strip()
        assert power == "on", power
        usb.modem("another")
        wait_until("so has another one", lambda: len(modems()) == 2, 20)


def modems():
    return list(Path("/sys/class/net").glob("modem[0-9]*"))


def is_let_to(lab, device):
    """By the rules for devices of the running service, whose drivers came after it: tried by root, in the service's group."""
    group = lab.run("systemctl", "show", "--property=ControlGroup", "--value", "waypost.service").strip()
    tries = (
        "import os, sys\n"
        "open(f'/sys/fs/cgroup{sys.argv[1]}/cgroup.procs', 'w').write(str(os.getpid()))\n"
        "os.open(sys.argv[2], os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)\n"
    )
    tried = subprocess.run(["python3", "-c", tries, group, device], capture_output=True, text=True)
    assert tried.returncode == 0, (tried.stderr, lab.run("cat", "/proc/devices"))
