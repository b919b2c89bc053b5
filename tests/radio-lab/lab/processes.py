"""Programs of a scenario, each with a log file; all end with the scenario."""

import os
import re
import signal
import subprocess
import time


class Process:
    """A running program. What it prints goes to `log`."""

    def __init__(self, log, command, environment=None):
        self.log = log
        self.command = list(map(str, command))
        self.seen = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self.child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(environment or {})},
            )

    def wait_for(self, pattern, seconds=60):
        """Waits for a line of its log, since it was started or since the last line that was waited for; answers the match."""
        begun = time.monotonic()
        while True:
            ended = self.child.poll()
            with self.log.open("rb") as file:
                file.seek(self.seen)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            offset = 0
            for line in whole.splitlines(keepends=True):
                offset += len(line)
                if found := re.search(pattern, line.decode(errors="replace")):
                    self.seen += offset
                    return found
            if ended is not None:
                raise AssertionError(
                    f"{self.command[0]} ended with status {ended} before it said {pattern!r}, see {self.log.name}"
                )
            if time.monotonic() - begun > seconds:
                raise AssertionError(
                    f"{self.command[0]} has not said {pattern!r} within {seconds} s, see {self.log.name}"
                )
            time.sleep(0.1)

    def running(self):
        return self.child.poll() is None

    def stop(self, seconds=30):
        """Ends it in order (SIGTERM); answers its status."""
        if self.running():
            self.child.send_signal(signal.SIGTERM)
        return self.child.wait(seconds)

    def interrupt(self, seconds=30):
        """As ctrl-C does; answers its status."""
        self.child.send_signal(signal.SIGINT)
        return self.child.wait(seconds)

    def kill9(self):
        self.child.kill()
        self.child.wait()

    def pause(self):
        self.child.send_signal(signal.SIGSTOP)

    def go_on(self):
        self.child.send_signal(signal.SIGCONT)

    def memory(self):
        """Resident memory in KiB."""
        with open(f"/proc/{self.child.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])
