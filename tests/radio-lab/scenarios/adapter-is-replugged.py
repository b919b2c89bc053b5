"""The lab's own radios: an adapter is pulled and comes back, as an old one too; a switch blocks it; bluetoothd is killed."""

from lab import Lab, wait_until

CAPTURE = True


def run(lab: Lab):
    first, second = lab.adapter("hci0"), lab.adapter("hci1")
    lab.radio.unplug("hci0")
    wait_until("BlueZ notices", lambda: not first.exists())
    assert second.exists()

    lab.radio.replug("hci0", legacy=True)
    first.wait_until_ready()
    first.advertise({"ServiceUUIDs": ("as", ["6b1a0001-7c55-4c9e-9f10-aabbccddeeff"])})
    second.scan()
    wait_until("the old one is heard", lambda: first.address in second.devices())
    assert not lab.capture().commands(0x2037, first.index()), "an old controller was sent extended commands"

    second.rfkill(True)
    wait_until("the switch is noticed", lambda: not second.get("Powered"))
    second.rfkill(False)
    second.wait_until_ready()

    lab.restart_bluetoothd(kill=True)
    assert second.get("Powered")
