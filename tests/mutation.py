"""Damaged and hostile bytes, made from sound ones: the same for the same number."""

import random
from collections.abc import Sequence

# Lengths and counts that break arithmetic.
EXTREMES = [
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for order in ("big", "little")
    for value in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
]


def mutated(sound: Sequence[bytes], number: int) -> bytes:
    """One of the sound inputs with one to six changes, or, one time in twenty, noise."""
    rng = random.Random(number)
    if rng.random() < 0.05:
        return rng.choice(sound)[: rng.choice((0, 4, 12, 30))] + rng.randbytes(rng.randrange(2000))
    data = bytearray(rng.choice(sound))
    for _ in range(rng.randint(1, 6)):
        _change(data, sound, rng)
    return bytes(data)


def _change(data: bytearray, sound: Sequence[bytes], rng: random.Random) -> None:
    # Half of the changes hit the beginning, where the headers are.
    size = len(data) if rng.random() < 0.5 else min(len(data), 600)
    start = rng.randrange(size + 1)
    end = min(len(data), start + rng.choice((1, 2, 8, 100, 2000)))
    kind = rng.randrange(7)
    if kind == 0 and data:
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[start:end] = rng.randbytes(end - start)
    elif kind == 2:
        extreme = rng.choice(EXTREMES)
        data[start : start + len(extreme)] = extreme
    elif kind == 3:
        del data[start:end]
    elif kind == 4:
        data[start:start] = data[start:end] * rng.choice((1, 2, 20))
    elif kind == 5:
        other = rng.choice(sound)
        cut = rng.randrange(len(other) + 1)
        data[start:end] = other[cut : cut + end - start]
    else:
        del data[start:]
