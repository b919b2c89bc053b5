"""The kiosk is killed in the middle of a photo; started again, it goes on with what it had written down."""

from lab import Lab, photos, wait_until

CONTROLLERS = 2


def run(lab: Lab):
    kiosk = lab.kiosk("hci0").on_air()
    amina = lab.phone("amina", "hci1")
    amina.pair(kiosk, "--ble")
    photo = photos(1, size=4_000_000)
    amina.add(photo)
    sync = amina.start("sync", "--ble")
    wait_until("half of it is sent", lambda: amina.moved() >= 2_000_000, 60)
    kiosk.kill9()
    assert sync.child.wait(60) == 1
    cut = amina.report()
    assert cut["ending"] == "link lost", cut

    kiosk.start()
    kiosk.on_air()
    report = amina.sync("--ble", "--wait", "60s")
    assert report["unconfirmed"] == 0, report
    assert lab.destination().inbox() == dict(photo)
    lab.note(f"{cut['bytes_out']} bytes before, {report['bytes_out']} after")
    assert report["bytes_out"] < 3_000_000, report
