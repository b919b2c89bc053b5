"""A phone hands over forms and photos on the guest's loopback, and gets the destination's confirmation for each."""

from lab import Lab, forms, photos

CONTROLLERS = 1


def run(lab: Lab):
    kiosk = lab.kiosk("hci0")
    amina = lab.phone("amina", "hci0")
    amina.pair(kiosk)
    contents = forms(5) + photos(2)
    ids = amina.add(contents)
    assert len(ids) == 7, ids

    report = amina.sync("--wait", "60s")
    assert (report["transferred"], report["unconfirmed"]) == (7, 0), report
    assert amina.list() == [], amina.list()
    assert lab.destination().inbox() == dict(contents)
    assert [destination["name"] for destination in kiosk.status()["destinations"]] == ["clinic"], kiosk.status()
