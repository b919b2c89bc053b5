"""waypost.service is confined as far as its work allows, and does all of it: phones over the network and Bluetooth, uploads, an
adapter that hangs, a stick. Nobody else reads what it has."""

import re
from pathlib import Path

from lab import Lab, forms, photos, wait_until
from lab.service import STATE, as_nobody

CONTROLLERS = 2
LIMIT = 180


def run(lab: Lab):
    with lab.service("hci0", "[bundles]\nenabled = true\n") as kiosk:
        kiosk.start().on_air()
        said = lab.run("systemd-analyze", "security", "--no-pager", "waypost.service")
        exposure = float(re.search(r"exposure level for waypost.service: ([0-9.]+)", said)[1])
        lab.note(f"exposure {exposure}")
        assert exposure <= 1.5, said
        unit = lab.run("systemctl", "cat", "waypost.service")
        exposed = re.findall(r"^✗ ([A-Za-z]+)[=/]", said, re.MULTILINE)
        assert exposed and all(name in unit for name in exposed), f"each exposure has its reason in the unit: {exposed}"
        assert Path(f"/proc/{kiosk.pid()}").owner() == "waypost"
        assert re.fullmatch(r"0 documents wait; 0 sessions; clinic: .+", kiosk.show("StatusText")), kiosk.show("StatusText")

        amina, moussa = lab.phone("amina", "hci1"), lab.phone("moussa", "hci1")
        amina.pair(kiosk, "--ble")
        moussa.pair(kiosk)
        contents = forms(3) + photos(1)
        amina.add(contents[:2])
        assert amina.sync("--ble", "--wait", "60s")["unconfirmed"] == 0
        moussa.add(contents[2:])
        assert moussa.sync("--wait", "60s")["unconfirmed"] == 0
        assert lab.destination().inbox() == dict(contents)

        for path in (STATE, STATE / "identity.key", STATE / "store/data.mdb", "/etc/waypost/token"):
            assert as_nobody("cat" if path != STATE else "ls", path) != 0, path
        assert as_nobody("/usr/bin/waypost", "--config", "/etc/waypost/gateway.toml", "status") != 0
        assert as_nobody("python3", "-c", CONNECT) != 0
        assert kiosk.run("status").status == 0
        limits = {"MemoryHigh": 192 << 20, "MemoryMax": 320 << 20, "TasksMax": 128, "LimitNOFILE": 4096}
        assert all(int(kiosk.show(name)) == most for name, most in limits.items()), [kiosk.show(name) for name in limits]
        used = int(kiosk.show("MemoryCurrent"))
        lab.note(f"memory {used >> 20} MiB")
        assert 0 < used < limits["MemoryHigh"], used

        lab.radio.hang("hci0")
        wait_until("it is reset", lambda: "hci0 is ready" in kiosk.journal().partition("switched off and on")[2], 60)
        assert "not switched by rfkill" not in kiosk.journal(), kiosk.journal()

        # A stick that comes while the gateway runs, with the marker on it.
        ready, place = lab.state / "stick", Path("/media/stick")
        for folder in (ready, place):
            folder.mkdir(parents=True, exist_ok=True)
        lab.run("mount", "-t", "tmpfs", "-o", "mode=0777", "tmpfs", ready)
        (ready / MARKER).touch()
        lab.run("mount", "--bind", ready, place)
        try:
            wait_until("it is exported to", lambda: (place / "waypost").exists(), 30)
        finally:
            # It may still be written to.
            lab.run("umount", "--lazy", place)
            lab.run("umount", "--lazy", ready)


CONNECT = "import socket; socket.socket(socket.AF_UNIX).connect('/run/waypost/control.sock')"
MARKER = "WAYPOST-BUNDLE"
