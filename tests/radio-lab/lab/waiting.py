"""Waiting for what must come to be, with a limit."""

import time


def wait_until(what, found, seconds=20):
    """Waits until `found()` is true, and answers what it answered; `what` says in the error what was waited for."""
    begun = time.monotonic()
    while True:
        if answer := found():
            return answer
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"still waiting after {seconds} s until {what}")
        # Asking costs the one processor that is waited for.
        time.sleep(0.25)
