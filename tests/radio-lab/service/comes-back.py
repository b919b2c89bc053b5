"""systemd starts waypost.service after what it uses, it and BlueZ again when they die or hang, reads its configuration anew, and ends
it in time."""

import os
import signal
import time
from pathlib import Path

from lab import Lab, bluez, forms, photos, wait_until
from lab.bluez import systemctl
from lab.service import fails

CONTROLLERS = 2
LIMIT = 180


def run(lab: Lab):
    with lab.service("hci0") as kiosk:
        # Only so that this takes no minutes.
        kiosk.drop_in("soon", "[Service]\nWatchdogSec=6\n")
        bluez.drop_in("zz-soon", "[Service]\nWatchdogSec=6\n")
        systemctl("stop", "bluetooth.service")
        kiosk.start()
        lab.bluez.connect()
        started = {
            unit: int(lab.run("systemctl", "show", "--property=InactiveExitTimestampMonotonic", "--value", unit))
            for unit in ("waypost.service", "bluetooth.service")
        }
        up = int(lab.run("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "--value", "bluetooth.service"))
        after = set(kiosk.show("After").split())
        assert {"network.target", "bluetooth.service", "wpa_supplicant.service"} <= after, after
        assert started["bluetooth.service"] <= up <= started["waypost.service"], (started, up)

        kiosk.on_air()
        amina = lab.phone("amina", "hci1")
        amina.pair(kiosk)
        lab.destination().stop()
        amina.add(forms(5))
        assert amina.sync()["transferred"] == 5

        for number, (what, blow, said) in enumerate([
            ("it is killed", lambda: systemctl("kill", "--signal=KILL", "waypost.service"), "code=killed, status=9/KILL"),
            ("its loop hangs", kiosk.hang, "Watchdog timeout"),
        ]):
            before, begun = kiosk.pid(), time.monotonic()
            blow()
            wait_until(f"{what}: systemd starts it again", lambda before=before: again(kiosk, before), 60)
            lab.note(f"{what}: it serves again after {time.monotonic() - begun:.1f} s")
            assert said in kiosk.journal(), kiosk.journal()
            assert kiosk.show("NRestarts") == str(number + 1)
            assert kiosk.status()["waiting"] == 5, "what was acknowledged is there"

        asked = Path("/run/waypost/restart-bluetooth")
        for what, blow, said in [
            ("its restart is asked for", lambda _: lab.run("runuser", "--user=waypost", "--", "touch", asked), "restarts the Bluetooth service"),
            ("its loop stands still", lambda pid: os.kill(pid, signal.SIGSTOP), "Watchdog timeout"),
        ]:
            before, begun, times = bluez.pid(), time.monotonic(), on_air(kiosk)
            blow(before)
            wait_until(f"BlueZ, {what}: systemd starts it again", lambda before=before: bluez.pid() not in (0, before), 60)
            # What was before does not count.
            wait_until(f"BlueZ, {what}: the kiosk is on the air again", lambda times=times: on_air(kiosk) > times, 60)
            lab.note(f"BlueZ, {what}: the kiosk is on the air again after {time.monotonic() - begun:.1f} s")
            assert said in lab.run("journalctl", "--unit=bluetooth.service", "--unit=waypost-bluetooth.service", "--output=cat", f"--since=@{lab.begun:.0f}")
            assert not asked.exists()
        bluez.drop_in("zz-soon", None)

        configuration = Path("/etc/waypost/gateway.toml")
        text = configuration.read_text()
        configuration.write_text(text.replace("Lab kiosk", "Market"))
        systemctl("reload", "waypost.service")
        assert kiosk.status()["name"] == "Market"
        configuration.write_text("name = [\n")
        assert fails(systemctl, "reload", "waypost.service"), "a configuration that cannot be read is no success"
        assert kiosk.status()["name"] == "Market"
        configuration.write_text(text)

        # In the middle of a contact.
        amina.add(photos(1, size=3_000_000))
        lab.radio.rate(bytes_per_second=60_000)
        amina.start("sync", "--ble")
        wait_until("it moves", lambda: amina.moved() > 50_000, 40)
        begun = time.monotonic()
        kiosk.stop()
        took = time.monotonic() - begun
        lab.note(f"it ends after {took:.1f} s in the middle of a contact")
        assert took < 15 and kiosk.show("Result") == "success", (took, kiosk.show("Result"))
        assert "gateway has stopped" in kiosk.journal()


def again(kiosk, before):
    return kiosk.show("ActiveState") == "active" and kiosk.pid() not in (0, before)


def on_air(kiosk):
    """How often it has said so."""
    return kiosk.journal().count("phones can find it")
