"""L2CAP channels between two adapters by the kernel's own sockets, for scenarios about the radio itself."""

import ctypes
import os
import socket
import struct

SOL_BLUETOOTH, BT_RCVMTU, LE_PUBLIC = 274, 13, 1
libc = ctypes.CDLL(None, use_errno=True)


def address(text, psm):
    """sockaddr_l2, which Python cannot make with an address type."""
    return struct.pack("<HH6sHBx", socket.AF_BLUETOOTH, psm, bytes.fromhex(text.replace(":", ""))[::-1], 0, LE_PUBLIC)


def channel(own, psm):
    made = socket.socket(socket.AF_BLUETOOTH, socket.SOCK_STREAM, socket.BTPROTO_L2CAP)
    call("bind", made, address(own, psm))
    made.setsockopt(SOL_BLUETOOTH, BT_RCVMTU, struct.pack("H", 4096))
    return made


def listen(own, psm):
    made = channel(own, psm)
    made.listen(4)
    return made


def connect(own, peer, psm, seconds=20):
    made = channel(own, 0)
    made.settimeout(None)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", seconds, 0))
    call("connect", made, address(peer, psm))
    return made


def pair(lab, one, other, psm=0x80):
    """A channel between two adapters, of which the first one advertises for it: both ends, and the socket that listens on."""
    listening = listen(one.address, psm)
    one.advertise({"ServiceUUIDs": ("as", ["6b1a0001-7c55-4c9e-9f10-aabbccddeeff"])})
    near = connect(other.address, one.address, psm)
    listening.settimeout(10)
    far, _ = listening.accept()
    far.settimeout(30)
    near.settimeout(30)
    return far, near, listening


def call(name, made, where):
    if getattr(libc, name)(made.fileno(), where, len(where)):
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
