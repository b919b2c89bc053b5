"""The link is lost in the middle of a photo; it goes on where it stopped, over L2CAP and then over GATT."""

from lab import Lab, photos, wait_until

CONTROLLERS = 2
LIMIT = 180


def run(lab: Lab):
    kiosk = lab.kiosk("hci0").on_air()
    amina = lab.phone("amina", "hci1")
    amina.pair(kiosk, "--ble")
    photo = photos(1, size=2_000_000)
    amina.add(photo)

    sent = 0
    for after in (500_000, 1_200_000):
        sync = amina.start("sync", "--ble")
        wait_until("it moves", lambda: amina.moved() >= after, 60)
        lab.radio.lose("hci1")
        assert sync.child.wait(60) == 1, sync.log.read_text()[-2000:]
        report = amina.report()
        assert report["ending"] == "link lost", report
        sent += report["bytes_out"]
    report = amina.sync("--ble", "--gatt", "--wait", "60s", seconds=120)
    sent += report["bytes_out"]
    assert (report["ending"], report["medium"], report["unconfirmed"]) == ("finished", "ble-gatt", 0), report
    assert lab.destination().inbox() == dict(photo)
    lab.note(f"{sent} bytes sent in three contacts for a photo of {len(photo[0][1])}")
    assert sent < 1.2 * len(photo[0][1]), sent
