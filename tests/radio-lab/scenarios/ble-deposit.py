"""A phone that comes near finds the kiosk over Bluetooth, pairs, and hands over 50 forms and 3 photos over L2CAP."""

from lab import Lab, forms, photos, wait_until

CAPTURE = True


def run(lab: Lab):
    kiosk = lab.kiosk("hci0").on_air()
    amina = lab.phone("amina", "hci1")
    amina.pair(kiosk, "--ble")
    contents = forms(50) + photos(3)
    amina.add(contents)

    report = amina.sync("--ble", "--wait", "60s")
    lab.note(f"report: {report}")
    assert (report["transferred"], report["medium"], report["unconfirmed"]) == (53, "ble", 0), report
    assert lab.destination().inbox() == dict(contents)
    assert amina.list() == []
    wait_until("the link has ended", lambda: kiosk.status()["bluetooth"][0]["links"] == 0)
    kiosk.process.wait_for("contact over: finished")
    # The phone's owner is asked nothing, and it never scans when it begins to connect.
    assert lab.capture().asks_nobody_to_pair()
    assert lab.capture().connects_quietly(lab.adapter("hci1").index())
