"""Ten phones come to a kiosk that serves one at a time: each gets its turn, and who waits is told its place."""

import threading
import time

from lab import Lab, forms, photos

LIMIT = 300
PHONES = 10


def run(lab: Lab):
    kiosk = lab.kiosk("hci0", running=False)
    kiosk.configure("places", "ble.links = 1\n")
    kiosk.start()
    kiosk.on_air()
    # Three radios for ten phones: each is used by one after the other.
    phones = [lab.phone(f"phone-{number}", f"hci{1 + number % 3}") for number in range(PHONES)]
    contents, failed = [], []

    def come(lane):
        for number in range(lane, PHONES, 3):
            phone = phones[number]
            mine = forms(3, seed=number) + photos(1, size=300_000, seed=number)
            contents.extend(mine)
            try:
                phone.pair(kiosk)
                phone.add(mine)
                phone.sync("--ble", "--wait", "100s", seconds=150)
            except BaseException as error:
                failed.append((phone.name, error))

    lanes = [threading.Thread(target=come, args=(lane,)) for lane in range(3)]
    for lane in lanes:
        lane.start()
    in_line = set()
    while any(lane.is_alive() for lane in lanes):
        in_line.add(kiosk.status()["in_line"])
        time.sleep(2)
    assert not failed, failed
    assert lab.destination().inbox() == dict(contents)
    told = [one["place"] for phone in phones for one in phone.said() if one.get("event") == "in-line"]
    lab.note(f"{len(told)} times somebody was told a place in line: {sorted(set(told))}")
    assert told and min(told) == 1, told
    # An admin sees them, and then nobody any more.
    assert max(in_line) >= 1 and kiosk.status()["in_line"] == 0, in_line
    # Nobody's bytes were out of order.
    assert "does not decrypt" not in kiosk.log.read_text()
    # Each left in order.
    assert "link lost" not in kiosk.log.read_text()
