"""The lab's own radios: a controller that answers no more makes commands fail; what resets it, and what does not."""

import time

from lab import Lab, wait_until
from lab.bus import BusError


def run(lab: Lab):
    adapter = lab.adapter("hci1")

    lab.radio.hang("hci1")
    begun = time.monotonic()
    assert not works(adapter), "a controller that hangs has begun a scan"
    lab.note(f"a scan fails after {time.monotonic() - begun:.1f} s")
    lab.radio.recover("hci1")
    wait_until("it works again by itself", lambda: works(adapter), 30)

    # The kernel sends other commands before it switches off, and gives up with the first one.
    lab.radio.hang("hci1")
    try:
        adapter.power(False)
        raise AssertionError("an adapter that hangs was switched off")
    except BusError as error:
        lab.note(f"switching it off: {error}")

    for way in (switched_by_rfkill, reset):
        lab.radio.recover("hci1")
        wait_until("it works", lambda: works(adapter), 30)
        lab.radio.hang("hci1")
        begun = time.monotonic()
        way(adapter)
        wait_until(f"it works again, {way.__name__}", lambda: works(adapter), 10)
        lab.note(f"{way.__name__}: it works after {time.monotonic() - begun:.1f} s")


def switched_by_rfkill(adapter):
    adapter.rfkill(True)
    time.sleep(1)
    adapter.rfkill(False)


def reset(adapter):
    adapter.reset()


def works(adapter):
    try:
        adapter.scan()
        adapter.scan(False)
        return True
    except BusError:
        return False
