"""The lab's own radios: a controller that answers no more makes commands fail; switched off and on, which resets it, it is back."""

import time

from lab import Lab, wait_until
from lab.bus import BusError


def run(lab: Lab):
    adapter = lab.adapter("hci1")
    lab.radio.hang("hci1")
    begun = time.monotonic()
    assert not works(adapter), "a controller that hangs has begun a scan"
    lab.note(f"a scan on a controller that hangs fails after {time.monotonic() - begun:.1f} s")

    begun = time.monotonic()
    for on in (False, True):
        wait_until(f"power {on}", lambda: powered(lab, adapter, on), 60)
    wait_until("the adapter works again", lambda: works(adapter), 40)
    lab.note(f"switched off and on again it works after {time.monotonic() - begun:.1f} s")

    lab.radio.hang("hci1")
    lab.radio.recover("hci1")
    assert works(adapter)


def powered(lab, adapter, on):
    try:
        adapter.power(on)
        return True
    except BusError as error:
        lab.note(f"power {on}: {error}")
        time.sleep(0.5)
        return False


def works(adapter):
    try:
        adapter.scan()
        adapter.scan(False)
        return True
    except BusError:
        return False
