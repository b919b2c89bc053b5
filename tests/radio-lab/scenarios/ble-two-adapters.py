"""A kiosk with two adapters serves a phone on each; the failure of one is no matter for the other."""

from lab import Lab, forms, wait_until

CONTROLLERS = 4
LEGACY = {"hci1"}


def run(lab: Lab):
    kiosk = lab.kiosk("hci0", running=False)
    kiosk.configure("adapters", f'ble.adapters = ["hci0", "{lab.adapter("hci1").address}"]\n')
    kiosk.start()
    kiosk.on_air("hci0", "hci1")
    phones = [lab.phone("amina", "hci2"), lab.phone("moussa", "hci3")]
    # Each is in reach of one of the two.
    lab.radio.apart("hci2", "hci1")
    lab.radio.apart("hci3", "hci0")
    contents = []
    for number, phone in enumerate(phones):
        mine = forms(3, seed=number)
        phone.pair(kiosk, "--ble")
        phone.add(mine)
        contents += mine
        assert phone.sync("--ble")["ending"] == "finished"

    lab.radio.unplug("hci0")
    wait_until("one is left", lambda: kiosk.adapters() == {"hci0": "missing", "hci1": "ready"})
    last = forms(2, seed=9)
    phones[1].add(last)
    assert phones[1].sync("--ble", "--wait", "20s")["unconfirmed"] == 0
    assert lab.destination().inbox() == dict(contents + last)
    lab.radio.replug("hci0")
    wait_until("both are back", lambda: kiosk.adapters() == {"hci0": "ready", "hci1": "ready"})
