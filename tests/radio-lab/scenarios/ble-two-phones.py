"""Two phones are served at the same time on one adapter of the kiosk."""

from lab import Lab, forms, photos, wait_until

CONTROLLERS = 3


def run(lab: Lab):
    kiosk = lab.kiosk("hci0").on_air()
    phones = [lab.phone("amina", "hci1"), lab.phone("moussa", "hci2")]
    contents = []
    for phone in phones:
        phone.pair(kiosk, "--ble")
        mine = [(f"{phone.name}-{name}", content) for name, content in forms(20) + photos(4, size=500_000)]
        phone.add(mine)
        contents += mine
    running = [phone.start("sync", "--ble", "--wait", "60s") for phone in phones]
    wait_until("both are here at once", lambda: kiosk.status()["sessions"] == 2, 30)
    for process in running:
        assert process.child.wait(90) == 0, process.log.read_text()[-2000:]
    assert lab.destination().inbox() == dict(contents)
    assert [phone.list() for phone in phones] == [[], []]
