"""The kiosk looks for phones that wait to be called, and calls one that it knows: the phone hands over what it has, by
L2CAP, and by GATT where it offers nothing else."""

from interop.ble_links import NAME, structures
from lab import Lab, forms, photos, wait_until

CONTROLLERS = 2
CAPTURE = True
LIMIT = 300


def run(lab: Lab):
    kiosk = lab.kiosk("hci0")
    amina = lab.phone("amina", "hci1")
    kiosk.on_air()
    amina.pair(kiosk, "--ble")
    contents = []
    kiosk.configure("call", 'ble.call = true\nble.call_interval = "2s"\n')

    for number, (medium, how) in enumerate((("ble", []), ("ble-gatt", ["--gatt"]))):
        # One that has just called a phone leaves it alone for a while.
        kiosk.stop()
        kiosk.start()
        new = forms(5, seed=number) + photos(1, seed=number)
        amina.add(new)
        contents += new
        listening = amina.start("listen", "--ble", "--kiosk", "--once", *how)
        listening.wait_for('"listening"')
        said = wait_until("it is on the air", lambda: lab.radio.advertisements("hci1"))[0]
        names = {kind for kind, _ in structures(bytes.fromhex(said["data"] + said["response"]))} & {8, NAME}
        assert not names, f"a phone tells no name: {said}"
        assert listening.child.wait(60) == 0
        report = amina.report()
        assert (report["transferred"], report["medium"], report["ending"]) == (6, medium, "finished"), report
        kiosk.process.wait_for("calling a phone that waits", 1)
    wait_until("it is at the server", lambda: lab.destination().inbox() == dict(contents))
    assert lab.capture().connects_quietly(lab.adapter("hci0").index())

    # One that waits is not called over the radio of another one that is served: that would end its link.
    moussa = lab.phone("moussa", "hci1")
    moussa.pair(kiosk)
    photo = photos(1, size=700_000, seed=9)
    moussa.add(photo)
    kiosk.stop()
    kiosk.start()
    kiosk.on_air()
    lab.radio.rate(bytes_per_second=60_000)
    sync = moussa.start("sync", "--ble")
    wait_until("it moves", lambda: moussa.moved() > 100_000, 30)
    looks = kiosk.log.read_text().count("no phone waits to be called")
    listening = amina.start("listen", "--ble", "--kiosk", "--once")
    assert sync.child.wait(90) == 0
    looks = kiosk.log.read_text().count("no phone waits to be called") - looks
    report = moussa.report()
    assert (report["transferred"], report["ending"]) == (1, "finished"), report
    assert looks >= 2, "the kiosk has looked around meanwhile, and called nobody"
    assert listening.child.wait(60) == 0
    assert "contact over: finished" in kiosk.log.read_text() and "link lost" not in kiosk.log.read_text()
