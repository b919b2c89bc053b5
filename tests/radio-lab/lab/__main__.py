"""Runs the scenarios of this guest's list in /share one after the other, each in a process of its own, and says how each
ended. Several guests share the list: each takes the next one that none has taken."""

import importlib.util
import os
import re
import shutil
import subprocess
import termios
import threading
import time
import traceback
from pathlib import Path

from . import Lab, bluez, wifi
from .lab import VERBOSE

SHARE, RESULTS, WORK = Path("/share"), Path("/results"), Path("/tmp/scenario")
GROUP = (
    Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text(encoding="ascii").strip().split("::/")[1] / "scenario"
)
LIMIT = 120


def main():
    say = reporter()
    # Every scenario, its controllers and its other hosts are forks of this process, and find bumble loaded.
    loading = threading.Thread(target=importlib.import_module, args=("bumble.device",))
    loading.start()
    prepare()
    loading.join()
    say(f"guest is ready after {uptime():.1f} s")
    passed, failed = 0, 0
    for name in (SHARE / f"scenarios-{guest()}.txt").read_text().split():
        try:
            # Results are written there; whoever finds a guest dead sees which ones are missing.
            (RESULTS / name).mkdir()
        except FileExistsError:
            continue
        begun, idle = time.monotonic(), idle_seconds()
        wrong = attempt(name)
        took = time.monotonic() - begun
        # What it computes holds up the other guests; what it waits for, nobody.
        busy = max(0.0, took - (idle_seconds() - idle))
        say(f"{'FAIL' if wrong else 'ok  '} {name:32} {took:6.1f} s, {busy:5.1f} of them busy")
        for line in notes(name) + (wrong or "").splitlines():
            say(f"     {line}")
        if wrong:
            (RESULTS / name / "wrong.txt").write_text(wrong)
        (RESULTS / name / "outcome.txt").write_text("failed\n" if wrong else "passed\n")
        failed += bool(wrong)
        passed += not wrong
    say(f"guest is done: {passed} passed, {failed} failed")


def idle_seconds():
    """How long the processor had nothing to do so far (proc_stat(5))."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")


def prepare():
    subprocess.run(["modprobe", "--all", "hci_vhci", "uhid"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Programs are read once, rather than page by page from the host.
    shutil.copytree(SHARE / "bin", "/tmp/bin")
    bluez.install(VERBOSE)


def attempt(name):
    """Runs one, and cleans up after it; answers what was wrong."""
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "results").mkdir(parents=True)
    begun = time.time()
    scenario = load(name)
    limit = getattr(scenario, "LIMIT", LIMIT)
    GROUP.mkdir(exist_ok=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        wrong = perform(scenario)
        os.write(writing, (wrong or "").encode()[:60000])
        os._exit(1 if wrong else 0)
    os.close(writing)
    ended = wait(child, limit)
    # Everything that it started is in there.
    (GROUP / "cgroup.kill").write_text("1")
    if ended is None:
        os.waitpid(child, 0)
    bluez.stop_and_forget()
    wifi.forget()
    with os.fdopen(reading, "rb") as pipe:
        wrong = pipe.read().decode(errors="replace")
    if ended is None:
        wrong = f"not done after {limit} s\n{wrong}"
    elif ended != 0 and not wrong:
        wrong = f"its process ended with status {ended}"
    if wrong:
        wrong += "\n" + last_lines()
    collect(name, begun)
    return wrong


def load(name):
    spec = importlib.util.spec_from_file_location(name, SHARE / f"scenarios/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def perform(scenario):
    """In the scenario's own process: runs it; answers what was wrong."""
    (GROUP / "cgroup.procs").write_text(str(os.getpid()))
    os.setsid()
    # What it prints itself.
    output = os.open(WORK / "results/scenario.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(output, 1)
    os.dup2(output, 2)
    try:
        lab = Lab(
            WORK,
            getattr(scenario, "CONTROLLERS", 4),
            getattr(scenario, "LEGACY", ()),
            getattr(scenario, "MAIN_CONF", None),
            getattr(scenario, "CAPTURE", False),
            getattr(scenario, "RADIOS", 0),
            getattr(scenario, "CHANNELS", 1),
        )
        scenario.run(lab)
        return None
    except BaseException as error:
        # Of several at once, the first one.
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        frames = traceback.extract_tb(error.__traceback__)
        frames = [f"{Path(frame.filename).name}:{frame.lineno}: {frame.line}" for frame in frames]
        return "\n".join([f"{type(error).__name__}: {error}", *frames[-6:]])


def wait(child, seconds):
    """Its exit status; nothing if it is still busy after that time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.1)
    return None


def last_lines():
    shown = []
    for log in sorted((WORK / "results").glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()[-8:]
        shown += [f"-- {log.name}", *(line[:240] for line in lines)] if lines else []
    return "\n".join(shown)


def notes(name):
    file = RESULTS / name / "notes.txt"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def collect(name, begun):
    """Moves what is to be kept out of the guest."""
    to = RESULTS / name
    shutil.copytree(WORK / "results", to, dirs_exist_ok=True)
    journal = subprocess.run(
        ["journalctl", "--output=short-precise", f"--since=@{begun:.3f}", "--no-pager"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    (to / "journal.txt").write_text(journal)
    (to / "bluetoothd.txt").write_text(
        "".join(line for line in journal.splitlines(keepends=True) if re.search(r" bluetoothd\[\d+\]: ", line))
    )
    for line in journal.splitlines():
        if re.search(r" kernel: .*(BUG|WARNING|Oops|general protection)", line):
            with (to / "notes.txt").open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")


def reporter():
    """Writes lines to the second serial line, which is what the host prints."""
    line = os.open("/dev/ttyS1", os.O_WRONLY | os.O_NOCTTY)
    settings = termios.tcgetattr(line)
    settings[1] &= ~termios.OPOST
    termios.tcsetattr(line, termios.TCSANOW, settings)
    return lambda text: os.write(line, f"{text}\n".encode())


def guest():
    """Which of the guests this is: 1, 2, or 3, which has a list of its own."""
    return re.search(r"lab\.guest=(\d)", Path("/proc/cmdline").read_text(encoding="ascii"))[1]


def uptime():
    return float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])


try:
    main()
except BaseException:
    reporter()(traceback.format_exc())
    raise
