"""Whatever becomes of the kiosk's adapter, phones are served again when it works again, and those on the network all the time."""

from lab import Lab, forms, wait_until

CONTROLLERS = 2
LIMIT = 300


def run(lab: Lab):
    kiosk = lab.kiosk("hci0")
    adapter = lab.adapter("hci0")
    amina = lab.phone("amina", "hci1")
    neighbour = lab.phone("neighbour", "hci1")
    ready(kiosk)
    amina.pair(kiosk, "--ble")
    neighbour.pair(kiosk)
    for number, (what, begin, state, end) in enumerate([
        ("bluetoothd is restarted", lab.restart_bluetoothd, None, None),
        ("bluetoothd is killed", lambda: lab.restart_bluetoothd(kill=True), None, None),
        ("it is pulled and comes back", lambda: lab.radio.unplug("hci0"), "missing", lambda: lab.radio.replug("hci0")),
        ("it is switched off and on", lambda: adapter.power(False), None, None),
        ("it is blocked and unblocked", lambda: adapter.rfkill(True), "blocked", lambda: adapter.rfkill(False)),
        ("it hangs", lambda: lab.radio.hang("hci0"), "hung", None),
    ]):
        begin()
        if state:
            wait_until(f"{what}: it is {state}", lambda: state in kiosk.adapters().values(), 100)
        neighbour.add(forms(1, seed=100 + number))
        report = neighbour.sync()
        assert (report["transferred"], report["medium"]) == (1, "lan"), (what, report)
        if end:
            end()
        ready(kiosk, what)
        amina.add(forms(1, seed=number))
        report = amina.sync("--ble")
        assert (report["transferred"], report["medium"]) == (1, "ble"), (what, report)
    assert kiosk.process.running()


def ready(kiosk, after="the start"):
    wait_until(f"the kiosk is on the air after {after}", lambda: set(kiosk.adapters().values()) == {"ready"}, 60)
