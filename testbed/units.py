"""Quantities as people write them, and the integers used inside.

Units are written in scenario files ("100Mbit", "0.5MB", "10ms") and in reports, nowhere else.  Inside, every quantity
is an integer whose name carries its unit: ``_ns``, ``_bytes``, ``_pkts``, ``_bps`` (bits a second).  Prefixes are
decimal: 1 MB is 10**6 bytes, 1 Mbit is 10**6 bits a second.  A number without a unit is refused, because a silent
guess is how an experiment ends up reporting a link that never existed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

_QUANTITY = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?(?:[eE][0-9]+)?)\s*([A-Za-z/]+)\s*$")
_MAX_NUMBER_CHARS = 32
_LONGEST_NS = 2**53  # 104 days: sums and products of a few durations stay below 2**63

_DURATION_NS = {"ns": 1, "us": NS_PER_US, "ms": NS_PER_MS, "s": NS_PER_S, "min": 60 * NS_PER_S, "h": 3600 * NS_PER_S}
_SIZE_BYTES = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_RATE_BPS = {"bit": 1, "kbit": 10**3, "Kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9}


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of quantity: what its texts look like.

    Attributes:
        name: what it is.
        example: one, as it is written.
        pattern: a regular expression that every text of it matches, for editors.
    """

    name: str
    example: str
    pattern: str


def _kind(name: str, example: str, table: dict[str, int]) -> Kind:
    return Kind(name, example, rf"^\s*[0-9]+(\.[0-9]+)?([eE][0-9]+)?\s*({'|'.join(table)})\s*$")


DURATION = _kind("duration", "10ms", _DURATION_NS)
SIZE = _kind("size", "0.5MB", _SIZE_BYTES)
RATE = _kind("rate", "100Mbit", _RATE_BPS)


def _parse(text: object, table: dict[str, int], what: str, example: str, most: int = 2**62) -> int:
    """Return `text` as a whole number of the table's base unit.

    Raises:
        ValueError: when `text` is no string, has no known unit, or is no whole number of base units.
    """
    match = _QUANTITY.match(text) if isinstance(text, str) and len(text) <= _MAX_NUMBER_CHARS else None
    if match is None:
        raise ValueError(f"expected a {what} with its unit, such as {example!r}, got {text!r}")
    number, unit = match.groups()
    if unit not in table:
        raise ValueError(f"unknown {what} unit {unit!r} in {text!r}; known: {', '.join(table)}")
    exact = Fraction(number) * table[unit]
    if exact > most:
        raise ValueError(f"{text!r} is too large for a {what}")
    return round(exact)


def duration_ns(text: object) -> int:
    """Return a duration such as ``"10ms"`` in nanoseconds."""
    return _parse(text, _DURATION_NS, "duration", "10ms", _LONGEST_NS)


def size_bytes(text: object) -> int:
    """Return a size such as ``"0.5MB"`` in bytes (decimal prefixes)."""
    return _parse(text, _SIZE_BYTES, "size", "0.5MB")


def rate_bps(text: object) -> int:
    """Return a rate such as ``"100Mbit"`` in bits a second."""
    return _parse(text, _RATE_BPS, "rate", "100Mbit")


def _written(value: int, table: dict[str, int]) -> str:
    """Return `value` in the largest unit of `table` that shows it exactly in at most three decimals."""
    for unit, scale in sorted(table.items(), key=lambda item: -item[1]):
        if unit in ("KB", "Kbit"):
            continue
        if value >= scale and (value * 1000) % scale == 0:
            whole, thousandths = divmod(value * 1000 // scale, 1000)
            return f"{whole}.{thousandths:03d}".rstrip("0").rstrip(".") + unit
    return f"{value}{min(table, key=lambda unit: table[unit])}"


def duration_text(value_ns: int) -> str:
    """Return nanoseconds as a scenario would write them, such as ``"10ms"``."""
    return _written(value_ns, _DURATION_NS) if value_ns else "0ms"


def size_text(value_bytes: int) -> str:
    """Return bytes as a scenario would write them, such as ``"0.5MB"`` or ``"500kB"``."""
    return _written(value_bytes, _SIZE_BYTES)


def rate_text(value_bps: int) -> str:
    """Return bits a second as a scenario would write them, such as ``"100Mbit"``."""
    return _written(value_bps, _RATE_BPS)
