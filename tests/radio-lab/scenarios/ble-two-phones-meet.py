"""Without a kiosk near, one phone takes another one's documents over Bluetooth, and carries them to the kiosk later."""

from lab import Lab, forms, photos

CONTROLLERS = 3


def run(lab: Lab):
    amina, moussa = lab.phone("amina", "hci1"), lab.phone("moussa", "hci2")
    contents = forms(5) + photos(1)
    amina.add(contents)
    listening = moussa.start("listen", "--ble", "--once")
    listening.wait_for('"listening"')
    [code] = [one["text"] for one in moussa.said() if one.get("event") == "listening"]
    report = amina.sync("--ble", "--phone", code, check=False)
    assert (report["transferred"], report["medium"]) == (6, "ble"), report
    assert listening.child.wait(30) == 0

    kiosk = lab.kiosk("hci0").on_air()
    moussa.pair(kiosk, "--ble")
    report = moussa.sync("--ble", "--wait", "30s")
    # Pairing has taken some of them already.
    assert report["transferred"] + report["already_held"] == 6, report
    assert lab.destination().inbox() == dict(contents)

    # The other phone is known now: its name is enough, and the confirmations come by it.
    listening = moussa.start("listen", "--ble", "--once")
    listening.wait_for('"listening"')
    report = amina.sync("--ble", "--phone", "moussa")
    assert report["confirmations"] >= 1, report
    assert amina.list() == []
