"""Phones that are not ours join the group by Wi-Fi Direct: one by its button, and again without it after the kiosk was started anew,
since name, address and passphrase are the same, also where the kiosk has it begin only then; another by the kiosk's PIN, and not by
a wrong one."""

import re

from lab import Lab, wait_until

CONTROLLERS, RADIOS = 0, 3
LIMIT = 270
WAITS = True


def run(lab: Lab):
    kiosk = lab.wifi_kiosk()
    before = kiosk.group()
    amina = lab.wifi.place("amina", "wlan1")
    amina.supplicant()
    # What it is, before anyone has joined.
    amina.attach()
    amina.ask("P2P_SERV_DISC_REQ", "00:00:00:00:00:00", "02000101")
    amina.ask("P2P_FIND", "60")
    answer = amina.hears(r"P2P-SERV-DISC-RESP \S+ \S+ (\S+)")[1]
    assert "085f776179706f7374c00c000c01" in answer and b"Lab kiosk".hex() in answer, answer

    found = amina.wait_for(r"P2P-DEVICE-FOUND \S+ p2p_dev_addr=(\S+) .*name='Lab kiosk'")[1]
    amina.ask("P2P_CONNECT", found, "pbc", "join", "persistent")
    interface = amina.group()
    amina.address(interface)
    phone = lab.phone("amina", place=amina)
    phone.pair(kiosk)
    id = next(line.split("\t")[0] for line in amina.ask("LIST_NETWORKS").splitlines() if "P2P-PERSISTENT" in line)
    amina.ask("P2P_GROUP_REMOVE", interface)
    wait_until("it has left", lambda: kiosk.wifi()["stations"] == 0)

    # The kiosk anew: the same network, which the phone joins by itself.
    secret = kiosk.invitation()["passphrase"]
    kiosk.stop()
    assert lab.wifi.groups() == []
    kiosk.start()
    after = kiosk.group()
    assert (after["ssid"], after["group"]["bssid"], kiosk.invitation()["passphrase"]) == (
        before["ssid"],
        before["group"]["bssid"],
        secret,
    ), (before, after)
    said = len(amina.said())
    amina.ask("P2P_GROUP_ADD", f"persistent={id}")
    wait_until("it has joined again", lambda: "P2P-GROUP-STARTED" in amina.said()[said:], 30)
    assert "WPS" not in amina.said()[said:], "without asking"

    # A kiosk that waits: the phone asks for the group that it was in, is told to wait, and keeps it.
    amina.ask("P2P_GROUP_REMOVE", "*")
    kiosk.stop()
    kiosk.configure("wifi", ON_DEMAND)
    kiosk.start()
    wait_until("Wi-Fi waits", lambda: kiosk.wifi()["state"] == "waiting")
    amina.ask("P2P_FLUSH")
    said = len(amina.said())
    amina.ask("P2P_FIND", "60")
    wait_until("it has found the kiosk again", lambda: "P2P-DEVICE-FOUND" in amina.said()[said:], 30)
    amina.ask("P2P_INVITE", f"persistent={id}", f"peer={found}")
    answer = wait_until("it is answered", lambda: re.search(r"P2P-INVITATION-RESULT status=(\d+)", amina.said()[said:]), 30)[1]
    assert answer == "1", "information is currently unavailable: no reason to forget the group"
    group = kiosk.group()["group"]
    assert (group["bssid"], group["frequency"] > 5000) == (before["group"]["bssid"], True), group
    amina.ask("P2P_GROUP_ADD", f"persistent={id}")
    wait_until("it has joined", lambda: "P2P-GROUP-STARTED" in amina.said()[said:], 30)
    assert "WPS" not in amina.said()[said:], "without asking"
    wait_until("the kiosk has it", lambda: kiosk.wifi()["stations"] == 1, 10)

    # By PIN.
    kiosk.stop()
    kiosk.configure("wifi", WITH_PIN)
    kiosk.start()
    kiosk.group()
    bakari = lab.wifi.place("bakari", "wlan2")
    bakari.supplicant()
    bakari.ask("P2P_FIND", "60")
    found = bakari.wait_for(r"P2P-DEVICE-FOUND \S+ p2p_dev_addr=(\S+) .*name='Lab kiosk'")[1]
    pin = kiosk.invitation()["pin"]
    wrong = pin[:-1] + str((int(pin[-1]) + 5) % 10)
    bakari.ask("P2P_CONNECT", found, wrong, "keypad", "join")
    bakari.wait_for(r"WPS-FAIL|P2P-GROUP-FORMATION-FAILURE")
    assert kiosk.wifi()["stations"] == 0
    bakari.ask("P2P_FIND", "60")
    bakari.ask("P2P_CONNECT", found, pin, "keypad", "join")
    bakari.group()
    wait_until("the kiosk has it", lambda: kiosk.wifi()["stations"] == 1, 10)


ON_DEMAND = """wifi_direct.mode = "on-demand"
wifi_direct.interface = "wlan0"
"""
WITH_PIN = """wifi_direct.mode = "always"
wifi_direct.interface = "wlan0"
wifi_direct.join = "pin"
"""
