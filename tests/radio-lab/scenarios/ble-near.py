"""A phone is shown who is near; `run` meets the kiosk by itself; the kiosk advertises often while somebody is or was there, and its links
have the parameters that main.conf gives them."""

from lab import Lab, forms, wait_until

CONTROLLERS = 2
CAPTURE = True


def run(lab: Lab):
    kiosk = lab.kiosk("hci0").on_air()
    amina = lab.phone("amina", "hci1")
    [near] = amina.run("gateways", "--ble").last["near"]
    assert (near["name"], near["known"], near["flags"]["gateway"], near["flags"]["has_room"]) == ("Lab kiosk", None, True, True), near
    assert near["signal"] == -50 and near["seconds_ago"] < 3 and len(near["identifier"]) == 10, near

    amina.pair(kiosk, "--ble")
    again = amina.run("gateways", "--ble").last["near"][0]
    assert again["known"] == kiosk.status()["key"], again

    running = amina.start("run", "--ble")
    contents = forms(3)
    amina.add(contents)
    wait_until("it is at the server", lambda: lab.destination().inbox() == dict(contents), 60)
    running.stop()

    # Active while somebody was here a moment ago: 152 ms; the links' supervision timeout is 4 s, as main.conf says.
    intervals = [one["interval"] for one in lab.radio.advertisements("hci0")]
    assert intervals and all(150 <= one <= 172 for one in intervals), intervals
    timeouts = lab.capture().supervision_timeouts()
    lab.note(f"supervision timeouts in connection complete events: {sorted(timeouts)} ms")
    assert timeouts and min(timeouts) >= 720, timeouts
