"""Reads an unpacked initramfs (cpio, "newc": the kernel's Documentation/driver-api/early-userspace/buffer-format.rst) and names each
program and library in it that is not for arm64: those of the machine that it was made on may have got into it."""

import sys

AARCH64 = 183


def main():
    data, at, programs, foreign = sys.stdin.buffer.read(), 0, 0, []
    while at < len(data):
        if data[at] == 0:
            # Between archives, and after the last.
            at += 1
            continue
        assert data[at : at + 6] == b"070701", f"at {at} is no header of cpio's"
        field = [int(data[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        size, length = field[6], field[11]
        name = data[at + 110 : at + 110 + length - 1].decode()
        begin = at + 110 + length + 3 & ~3
        content = data[begin : begin + size]
        at = begin + size + 3 & ~3
        if content[:4] == b"\x7fELF":
            programs += 1
            if int.from_bytes(content[18:20], "little") != AARCH64:
                foreign.append(name)
    for name in foreign:
        print(f"the initramfs has {name} of another machine's", file=sys.stderr)
    assert programs > 20, f"only {programs} programs were found"
    sys.exit(1 if foreign else 0)


main()
