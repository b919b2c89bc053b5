"""The lab's own radios: two links to one adapter carry their bytes in order, both ways at once."""

import hashlib
import random
import threading

from lab import Lab, sockets

CONTROLLERS = 3
SIZE = 1_000_000


def run(lab: Lab):
    kiosk = lab.adapter("hci0")
    far, near, listening = sockets.pair(lab, kiosk, lab.adapter("hci1"))
    # With extended advertising nobody else can connect until it is registered again.
    kiosk.stop_advertising()
    kiosk.advertise({"ServiceUUIDs": ("as", ["6b1a0001-7c55-4c9e-9f10-aabbccddeeff"])})
    other_near = sockets.connect(lab.adapter("hci2").address, kiosk.address, 0x80)
    other_far, _ = listening.accept()
    found, threads = {}, []
    for number, (sender, receiver) in enumerate(((near, far), (far, near), (other_near, other_far), (other_far, other_near))):
        for end in (sender, receiver):
            end.settimeout(60)
        content = random.Random(number).randbytes(SIZE)
        threads.append(threading.Thread(target=send, args=(sender, content)))
        threads.append(threading.Thread(target=receive, args=(receiver, number, found)))
        found[number] = (hashlib.sha256(content).hexdigest(), None)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(sent == received for sent, received in found.values()), found


def send(socket, content):
    # The kernel takes no more at once than the peer's MTU.
    for at in range(0, len(content), 4096):
        socket.sendall(content[at:at + 4096])


def receive(socket, number, found):
    digest, left = hashlib.sha256(), SIZE
    while left:
        part = socket.recv(min(left, 65536))
        assert part, "it ended"
        digest.update(part)
        left -= len(part)
    found[number] = (found[number][0], digest.hexdigest())
