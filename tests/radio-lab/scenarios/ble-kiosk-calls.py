"""The kiosk looks for phones that wait to be called, and calls one that it knows: the phone hands over what it has."""

from lab import Lab, forms, photos, wait_until

CONTROLLERS = 2


def run(lab: Lab):
    kiosk = lab.kiosk("hci0")
    amina = lab.phone("amina", "hci1")
    wait_until("the kiosk is on the air", lambda: kiosk.adapters() == {"hci0": "ready"})
    amina.pair(kiosk, "--ble")
    contents = forms(5) + photos(1)
    amina.add(contents)
    kiosk.stop()
    kiosk.configure("call", 'ble.call = true\nble.call_interval = "10s"\n')
    kiosk.start()

    listening = amina.start("listen", "--ble", "--kiosk", "--once")
    listening.wait_for('"listening"')
    assert listening.child.wait(60) == 0
    report = amina.report()
    assert (report["transferred"], report["medium"], report["ending"]) == (6, "ble", "finished"), report
    kiosk.process.wait_for("calling a phone that waits", 1)
    wait_until("it is at the server", lambda: lab.destination().inbox() == dict(contents))
