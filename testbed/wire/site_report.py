"""What sites report to each other: the body of a message, fixed fields, network byte order.

    magic "TBSR" · version u8 · fields u8 · name length u8 · name · taken_ns u64 · fields × u64

How many fields there are is what the sites share (`placement.share`): none; capacity, load and demand; or these and the
expected demand.  Whatever is not exactly this is refused whole.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MAGIC = b"TBSR"
VERSION = 1
FIELDS_OF = {"none": 0, "load": 3, "forecast": 4}
_HEADER = struct.Struct("!4sBBB")
_MAX_VALUE = 2**62


class SiteReport(NamedTuple):
    """What one site says of itself.

    Attributes:
        site: its name.
        taken_ns: when this was so, on the run's clock.
        capacity_bps: total rate of its serving nodes.
        load_bps: what arrived at its nodes.
        demand_bps: what the clients of its region sent, wherever it went.
        expected_bps: forecast of the demand at its horizon; 0: none.
    """

    site: str
    taken_ns: int
    capacity_bps: int = 0
    load_bps: int = 0
    demand_bps: int = 0
    expected_bps: int = 0


def encode(report: SiteReport, share: str) -> bytes:
    """Return the body of a message.

    Raises:
        ValueError: a value is out of range.
    """
    count, name = FIELDS_OF[share], report.site.encode("ascii")
    try:
        header = _HEADER.pack(MAGIC, VERSION, count, len(name))
        return header + name + struct.pack(f"!{1 + count}Q", report.taken_ns, *report[2 : 2 + count])
    except struct.error as error:
        raise ValueError(f"{report} is out of range") from error


def decode(body: bytes) -> SiteReport:
    """Return the report in a body.

    Raises:
        ValueError: it is not exactly a report of this version.
    """
    try:
        magic, version, count, length = _HEADER.unpack_from(body)
        if (magic, version) != (MAGIC, VERSION) or count not in FIELDS_OF.values():
            raise ValueError(f"no report of version {VERSION}")
        name = body[_HEADER.size : _HEADER.size + length].decode("ascii")
        values = struct.unpack(f"!{1 + count}Q", body[_HEADER.size + length :])
    except struct.error as error:
        raise ValueError("truncated, or bytes after the last field") from error
    if not name.isidentifier() or max(values) > _MAX_VALUE:
        raise ValueError("a name or a value out of range")
    return SiteReport(name, *values)
