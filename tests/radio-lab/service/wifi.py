"""waypost.service has a Wi-Fi Direct group within its confinement, with the firewall and the addresses that admins are given; and the
firewall comes back where something else has emptied it."""

import shutil
from pathlib import Path

from lab import Lab, forms, photos, wait_until
from lab.bluez import GIVEN, systemctl
from lab.service import ETC
from lab.wifi import LISTEN, PORT

CONTROLLERS, RADIOS = 1, 2
LIMIT = 180
KIOSK = "172.29.77.1"
UNITS = Path("/run/systemd/system")
FIREWALL, TIMER = "waypost-wifi-firewall.service", "waypost-wifi-firewall.timer"
EVERYTHING = Path("/run/systemd/network/90-everything.network")
# As the unit has it, but for how long that takes.
SOON = "[Timer]\nOnActiveSec=\nOnUnitInactiveSec=\nOnActiveSec=5s\nOnUnitInactiveSec=5s\nAccuracySec=1s\n"


def run(lab: Lab):
    with lab.service("hci0") as kiosk:
        kiosk.configure("wifi", 'wifi_direct.mode = "always"\n')
        kiosk.configure("lan", f'lan.listen = ["[::]:{PORT}"]\nlan.advertise = true\n')
        shutil.copy(GIVEN / "nftables/waypost.nft", ETC / "wifi.nft")
        for unit in (FIREWALL, TIMER):
            shutil.copy(GIVEN / unit, UNITS)
        (UNITS / f"{TIMER}.d").mkdir()
        (UNITS / f"{TIMER}.d/soon.conf").write_text(SOON)
        lab.run("nft", "flush", "ruleset")
        systemctl("daemon-reload")
        # systemd-networkd, told by an admin to take every interface of such a name.
        EVERYTHING.write_text("[Match]\nName=p2p-*\n[Network]\nAddress=192.0.2.1/24\n")
        lab.run("networkctl", "reload")
        lab.run("ip", "link", "add", "p2p-other", "type", "dummy")
        try:
            systemctl("start", FIREWALL, TIMER)
            serves(lab, kiosk)
        finally:
            systemctl("stop", TIMER)
            lab.run("ip", "link", "delete", "p2p-other")
            EVERYTHING.unlink()
            shutil.rmtree(UNITS / f"{TIMER}.d")
            for unit in (FIREWALL, TIMER):
                (UNITS / unit).unlink()
            systemctl("daemon-reload")


def serves(lab, kiosk):
    kiosk.start()
    group, invitation = kiosk.group(), kiosk.invitation()
    amina = lab.wifi.place("amina", "wlan1")
    amina.join(invitation["ssid"], invitation["passphrase"], group["group"]["frequency"])
    wait_until("amina is in it", amina.is_in)
    amina.address()
    of = lambda interface: lab.run("ip", "address", "show", "dev", interface)
    wait_until("networkd has the admin's settings", lambda: "192.0.2.1" in of("p2p-other"))
    assert KIOSK in of(group["group"]["interface"]) and "192.0.2.1" not in of(group["group"]["interface"])
    phone = lab.phone("amina", place=amina)
    phone.pair(kiosk)
    phone.add(contents := forms(2) + photos(1))
    report = phone.sync("--wait", "60s")
    assert (report["transferred"], report["unconfirmed"]) == (3, 0), report
    assert lab.destination().inbox() == dict(contents)

    lab.start("listens", "python3", "-c", LISTEN, 8080).wait_for("listens")
    assert amina.reaches(KIOSK, PORT) and not amina.reaches(KIOSK, 8080)
    # With the service, which may be about to load the rules once more.
    systemctl("stop", TIMER, FIREWALL)
    lab.run("nft", "flush", "ruleset")
    assert amina.reaches(KIOSK, 8080, seconds=10), "nothing is in the way"
    systemctl("start", TIMER)
    wait_until("the firewall is back", lambda: not amina.reaches(KIOSK, 8080), 30)
    assert amina.reaches(KIOSK, PORT)
    said = lab.run("journalctl", "--unit", FIREWALL, "--output=cat", "--no-pager", f"--since=@{lab.begun:.0f}")
    assert "Started" not in said and "Starting" not in said, said

    kiosk.stop()
    assert lab.wifi.groups() == ["p2p-other"], lab.wifi.groups()
