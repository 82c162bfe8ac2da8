"""Captures made in code: classic pcap in every variant, and pcapng block by block."""

from __future__ import annotations

import struct
from collections.abc import Sequence

MICRO, NANO, PATCHED = 0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34
START_US = 1_700_000_000 * 10**6

Packet = tuple[int, int, int]  # ticks, original length, captured length


def packets(times: Sequence[int], size: int = 1000) -> list[Packet]:
    """Return packets at `times`, captured whole."""
    return [(time, size, size) for time in times]


def pcap(
    rows: Sequence[Packet],
    order: str = "<",
    magic: int = MICRO,
    version: tuple[int, int] = (2, 4),
    header_bytes: int = 16,
    snap: int = 65_535,
    link_type: int = 1,
) -> bytes:
    """Return a classic pcap; ticks are micro- or nanoseconds, as `magic` says."""
    per_second = 10**9 if magic == NANO else 10**6
    out = [struct.pack(f"{order}IHHiIII", magic, *version, 0, 0, snap, link_type)]
    for ticks, original, held in rows:
        lengths = (original, held) if version < (2, 3) else (held, original)
        head = struct.pack(f"{order}4I", ticks // per_second, ticks % per_second, *lengths)
        out.append(head + bytes(header_bytes - 16) + bytes(held))
    return b"".join(out)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """Return a block of pcapng."""
    body += bytes(-len(body) % 4)
    return struct.pack(f"{order}II", kind, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)


def section(order: str = "<", *blocks: bytes, major: int = 1) -> bytes:
    """Return a section header and what follows it."""
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, major, 0, -1), order) + b"".join(blocks)


def interface(
    order: str = "<", resolution: int | None = None, offset_s: int | None = None, snap: int = 65_535, link_type: int = 1
) -> bytes:
    """Return an interface description; `resolution` as in if_tsresol."""
    options = b"" if resolution is None else struct.pack(f"{order}HHB3x", 9, 1, resolution)
    options += b"" if offset_s is None else struct.pack(f"{order}HHq", 14, 8, offset_s)
    options += struct.pack(f"{order}HH", 0, 0) if options else b""
    return block(1, struct.pack(f"{order}HHI", link_type, 0, snap) + options, order)


def enhanced(ticks: int, size: int = 1000, held: int | None = None, order: str = "<", number: int = 0) -> bytes:
    """Return an enhanced packet block."""
    held = size if held is None else held
    return block(6, struct.pack(f"{order}5I", number, ticks >> 32, ticks & 0xFFFFFFFF, held, size) + bytes(held), order)


def obsolete(ticks: int, size: int = 1000, order: str = "<", number: int = 0) -> bytes:
    """Return a packet block of the old kind."""
    head = struct.pack(f"{order}2H4I", number, 0, ticks >> 32, ticks & 0xFFFFFFFF, size, size)
    return block(2, head + bytes(size), order)


def simple(size: int = 1000, order: str = "<") -> bytes:
    """Return a simple packet block: one without a time."""
    return block(3, struct.pack(f"{order}I", size) + bytes(size), order)
