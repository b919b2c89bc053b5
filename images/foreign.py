"""Names each program and library in an initramfs that is not for arm64: those of the machine that it was made on may have got in.

    foreign.py INITRAMFS

It is archives of cpio, one after the other, the last one compressed by zstd (the kernel's
Documentation/driver-api/early-userspace/buffer-format.rst)."""

import subprocess
import sys

AARCH64 = 183
ZSTD = b"\x28\xb5\x2f\xfd"


def files(data):
    """Name and content of each."""
    at = 0
    while at < len(data):
        if data[at] == 0:
            at += 1  # Between archives, and after the last.
            continue
        if data[at : at + 4] == ZSTD:
            unpacked = subprocess.run(["zstd", "--decompress", "--stdout"], input=data[at:], capture_output=True, check=True)
            yield from files(unpacked.stdout)
            return
        assert data[at : at + 6] == b"070701", f"at {at} is no header of cpio's"
        field = [int(data[at + 6 + 8 * number : at + 14 + 8 * number], 16) for number in range(13)]
        size, length = field[6], field[11]
        begin = at + 110 + length + 3 & ~3
        yield data[at + 110 : at + 110 + length - 1].decode(), data[begin : begin + size]
        at = begin + size + 3 & ~3


def main():
    with open(sys.argv[1], "rb") as file:
        programs = [(name, content) for name, content in files(file.read()) if content[:4] == b"\x7fELF"]
    foreign = [name for name, content in programs if int.from_bytes(content[18:20], "little") != AARCH64]
    for name in foreign:
        print(f"the initramfs has {name} of another machine's", file=sys.stderr)
    assert len(programs) > 20, f"only {len(programs)} programs were found"
    sys.exit(1 if foreign else 0)


main()
