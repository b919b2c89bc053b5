"""What went between hosts and controllers, as btmon wrote it down (btsnoop, with the kernel's monitor opcodes)."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

COMMAND, EVENT, DATA_SENT, DATA_RECEIVED = 2, 3, 4, 5
# Of ATT, on L2CAP's channel for it.
ATTRIBUTES, WRITE_COMMAND, NOTIFICATION = b"\x04\x00", 0x52, 0x1B
# L2CAP's channel of the security manager.
SECURITY = b"\x06\x00"
# Microseconds from the format's epoch to 1970.
EPOCH = 0x00DCDDB30F2F8000

LE_SET_ADVERTISING_DATA, LE_SET_SCAN_RESPONSE = 0x2008, 0x2009
LE_SET_SCAN_ENABLE, LE_SET_EXTENDED_SCAN_ENABLE = 0x200C, 0x2042
LE_CREATE_CONNECTION, LE_EXTENDED_CREATE_CONNECTION = 0x200D, 0x2043
LE_SET_EXTENDED_ADVERTISING_DATA, LE_SET_EXTENDED_SCAN_RESPONSE = 0x2037, 0x2038


@dataclass
class Packet:
    """One packet; `kind` is COMMAND, EVENT, DATA_SENT or DATA_RECEIVED, or another of the monitor's opcodes."""

    time: float
    index: int
    kind: int
    data: bytes

    @property
    def opcode(self):
        """Of a command."""
        return int.from_bytes(self.data[:2], "little")


class Capture:
    """Reads a capture, also while it grows."""

    def __init__(self, path):
        self.path = Path(path)

    def packets(self, index=None, kind=None):
        """All of them in order; of one adapter (by the kernel's number), of one kind."""
        raw = self.path.read_bytes()
        assert raw[:8] == b"btsnoop\0", f"{self.path} is no capture"
        at = 16
        while at + 24 <= len(raw):
            _, length, flags, _ = (int.from_bytes(raw[at + i : at + i + 4], "big") for i in (0, 4, 8, 12))
            time = (int.from_bytes(raw[at + 16 : at + 24], "big") - EPOCH) / 1e6
            if at + 24 + length > len(raw):
                break
            packet = Packet(time, flags >> 16, flags & 0xFFFF, raw[at + 24 : at + 24 + length])
            at += 24 + length
            if index in (None, packet.index) and kind in (None, packet.kind):
                yield packet

    def commands(self, opcode, index=None):
        """The parameters of every such command."""
        return [packet.data[3:] for packet in self.packets(index, COMMAND) if packet.opcode == opcode]

    def advertised(self, index):
        """The last advertising data and scan response that an adapter was given, from whichever commands it knows."""
        found = {}
        for packet in self.packets(index, COMMAND):
            if packet.opcode in (LE_SET_ADVERTISING_DATA, LE_SET_SCAN_RESPONSE):
                # length, then 31 bytes
                found[packet.opcode & 1] = packet.data[4 : 4 + packet.data[3]]
            elif packet.opcode in (LE_SET_EXTENDED_ADVERTISING_DATA, LE_SET_EXTENDED_SCAN_RESPONSE):
                # handle, operation, fragment preference, length
                found[packet.opcode + 1 & 1] = packet.data[7 : 7 + packet.data[6]]
        return found.get(0, b""), found.get(1, b"")

    def supervision_timeouts(self):
        """Of every LE link that was made, in milliseconds, as controllers reported them."""
        found = set()
        for packet in self.packets(kind=EVENT):
            # LE meta event, (enhanced) connection complete, success; then handle, role, peer, intervals, latency, timeout.
            at = {1: 18, 10: 30}.get(packet.data[2]) if packet.data[0] == 0x3E else None
            if at and packet.data[3] == 0:
                found.add(int.from_bytes(packet.data[at:at + 2], "little") * 10)
        return found

    def asks_nobody_to_pair(self):
        """Whether nothing went over the channel of the security manager (SMP), by which all pairing begins."""
        data = [packet for packet in self.packets() if packet.kind in (DATA_SENT, DATA_RECEIVED)]
        assert data, "nothing went at all"
        return not any(packet.data[1] >> 4 & 3 != 1 and packet.data[6:8] == SECURITY for packet in data)

    def connects_quietly(self, index):
        """Whether an adapter never scanned when it began to connect, and did both."""
        scanning, scans, connects = False, 0, 0
        for packet in self.packets(index, COMMAND):
            if packet.opcode in (LE_SET_SCAN_ENABLE, LE_SET_EXTENDED_SCAN_ENABLE):
                scanning = packet.data[3] == 1
                scans += scanning
            elif packet.opcode in (LE_CREATE_CONNECTION, LE_EXTENDED_CREATE_CONNECTION):
                if scanning:
                    return False
                connects += 1
        assert scans and connects, (scans, connects)
        return True

    def longest_value(self, index, since=0):
        """Of the values that an adapter wrote without response or notified, the longest one's bytes; of those after a time (Unix seconds)."""
        longest = 0
        for packet in self.packets(index, DATA_SENT):
            # Handle with flags, length; in a packet's first part L2CAP's length and channel; opcode, handle, value.
            is_first = packet.data[1] >> 4 & 3 != 1
            if packet.time > since and is_first and packet.data[6:8] == ATTRIBUTES and packet.data[8] in (WRITE_COMMAND, NOTIFICATION):
                longest = max(longest, int.from_bytes(packet.data[4:6], "little") - 3)
        return longest

    def text(self):
        """All of it as btmon tells it."""
        return subprocess.run(["btmon", "-r", self.path], capture_output=True, text=True, check=True).stdout
