"""The link is lost in the middle of a photo; it goes on where it stopped, over L2CAP and then over GATT."""

import re

from lab import Lab, photos, wait_until

CONTROLLERS = 2
LIMIT = 180


def run(lab: Lab):
    kiosk = lab.kiosk("hci0").on_air()
    amina = lab.phone("amina", "hci1")
    amina.pair(kiosk, "--ble")
    photo = photos(1, size=2_000_000)
    amina.add(photo)

    for after in (500_000, 1_200_000):
        sync = amina.start("sync", "--ble")
        wait_until("it moves", lambda: amina.moved() >= after, 60)
        lab.radio.lose("hci1")
        assert sync.child.wait(60) == 1, sync.log.read_text()[-2000:]
        assert amina.report()["ending"] == "link lost", amina.report()
    report = amina.sync("--ble", "--gatt", "--wait", "60s", seconds=120)
    assert (report["ending"], report["medium"], report["unconfirmed"]) == ("finished", "ble-gatt", 0), report
    assert lab.destination().inbox() == dict(photo)
    # What crossed the air: a system that loses its link also loses what the program had given it to send.
    came = [int(count) for count in re.findall(r"contact over: .* bytes_in=(\d+)", kiosk.log.read_text())]
    lab.note(f"{sum(came)} bytes came in {len(came)} contacts for a photo of {len(photo[0][1])}")
    assert len(came) == 4 and sum(came) < 1.05 * len(photo[0][1]), came
