"""The lab's own radios: short absences lose nothing, longer ones end the link on both sides after its supervision timeout."""

import time

from lab import Lab, sockets, wait_until

TIMEOUT = 4


def run(lab: Lab):
    kiosk, phone = lab.adapter("hci0"), lab.adapter("hci1")
    far, near, listening = sockets.pair(lab, kiosk, phone)

    lab.radio.off("hci1")
    near.sendall(b"said out of range")
    time.sleep(1)
    lab.radio.on("hci1")
    assert far.recv(100) == b"said out of range"

    lab.radio.apart("hci0", "hci1")
    begun = time.monotonic()
    assert lab.radio.links("hci0")
    for name in ("hci0", "hci1"):
        wait_until(f"the link of {name} has ended", lambda: not lab.radio.links(name))
    took = time.monotonic() - begun
    assert TIMEOUT - 0.5 < took < TIMEOUT + 2, took
    lab.radio.together("hci0", "hci1")
    again = sockets.connect(phone.address, kiosk.address, 0x80)
    assert listening.accept()
    again.close()
