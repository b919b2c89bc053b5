"""Videos go over L2CAP whole, one after the other, also to a kiosk that was started again: no link breaks on the way."""

import time

from lab import Lab, photos

CONTROLLERS = 2
LIMIT = 240
SIZE = 4_000_000
VISITS = 2


def run(lab: Lab):
    kiosk = lab.kiosk("hci0")
    amina = lab.phone("amina", "hci1")
    contents = []
    for visit in range(VISITS):
        kiosk.on_air()
        if visit == 0:
            amina.pair(kiosk, "--ble")
        video = photos(1, size=SIZE, seed=visit)
        amina.add(video)
        report = amina.sync("--ble", "--wait", "30s", check=False)
        if report["ending"] != "finished":
            # The kiosk says what it was when its last words are over.
            time.sleep(12)
        assert (report["ending"], report["unconfirmed"]) == ("finished", 0), report
        contents += video
        kiosk.stop()
        kiosk.start()
    assert lab.destination().inbox() == dict(contents)
    assert "does not decrypt" not in kiosk.log.read_text()
