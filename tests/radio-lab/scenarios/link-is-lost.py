"""The lab's own radios: a lost link ends at both sides at once, and another one can be made."""

import errno

from lab import Lab, sockets

PSM = 0x80


def run(lab: Lab):
    kiosk, phone = lab.adapter("hci0"), lab.adapter("hci1")
    far, near, listening = sockets.pair(lab, kiosk, phone, PSM)
    near.sendall(b"forms")
    assert far.recv(10) == b"forms"

    # The parameters are those of main.conf.
    [link] = lab.radio.links("hci0")
    assert (link["interval"], link["latency"], link["timeout"]) == (30, 0, 4000), link

    lab.radio.lose("hci1", "hci2")
    assert lab.radio.links("hci1"), "it has no link to that one"
    lab.radio.lose("hci1")
    for end in (near, far):
        try:
            assert end.recv(10) == b"", "data after the link's end"
        except OSError as error:
            assert error.errno == errno.ETIMEDOUT, error
    assert lab.radio.links("hci0") == lab.radio.links("hci1") == []

    again = sockets.connect(phone.address, kiosk.address, PSM)
    assert listening.accept()
    again.close()
