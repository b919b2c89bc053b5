"""Contents that phones hand over: forms as text, photos as bytes that do not compress. The same for the same numbers."""

import random


def forms(number, seed=1):
    """`[(name, bytes)]`"""
    words = random.Random(seed)
    return [
        (
            f"form-{seed}-{index:04}.txt",
            f"household {index}, {words.randrange(9)} children, note {words.getrandbits(400):x}\n".encode(),
        )
        for index in range(number)
    ]


def photos(number, size=200_000, seed=1):
    bits = random.Random(seed + 1000)
    return [(f"photo-{seed}-{index:04}.jpg", b"\xff\xd8\xff\xe0" + bits.randbytes(size - 4)) for index in range(number)]
