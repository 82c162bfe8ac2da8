"""Damage below any structure: bits, bytes, blocks, lengths and ends."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.fuzz import odd

Mutator = Callable[[bytes, Random], bytes]


def flip(content: bytes, rng: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(content: bytes, rng: Random) -> bytes:
    at, new = rng.randrange(len(content) + 1), rng.choice((odd.number_bytes(rng), rng.choice(odd.BYTES)))
    return content[:at] + new + content[at + len(new) :]


def insert(content: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice((odd.number_bytes(rng), rng.randbytes(rng.randrange(1, 40)))) + content[at:]


def delete(content: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.choice((1, 2, 4, 8, 100)) :]


def cut(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def cut_front(content: bytes, rng: Random) -> bytes:
    return content[rng.randrange(len(content) + 1) :]


def repeat(content: bytes, rng: Random) -> bytes:
    first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:last] + content[first:last] * rng.choice((1, 1, 2, 5)) + content[last:]


def nothing_left(content: bytes, rng: Random) -> bytes:
    return rng.choice((b"", b"\0", b"\n", b"\0" * len(content)))


def mutate(content: bytes, rng: Random) -> bytes:
    """Return `content` damaged once, or a few times."""
    usual, rare = (flip, overwrite, insert, delete, cut, repeat), (cut_front, nothing_left)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(usual if rng.random() < 0.95 else rare)(content, rng)
    return content
