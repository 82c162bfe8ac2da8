"""Pcapng: blocks, in sections, each with its own byte order and its own interfaces.

    section header ─ interface ─ interface ─ packet ─ packet … ─ section header ─ interface ─ packet …

Every block begins with its type and its length and ends with its length again.  A section header says the byte order
and restarts the numbering of interfaces.  An interface says how its packets' times count: ticks of a power of ten or
of two of a second (``if_tsresol``), and whole seconds to be added (``if_tsoffset``).  Enhanced and (obsolete) Packet
Blocks name an interface and carry a time; Simple Packet Blocks carry none.  Other blocks are passed over.

The blocks are walked one by one, since each length leads to the next; what is in them is read by arrays.

Source: draft-ietf-opsawg-pcapng (2024), sections 3.1, 4.1 to 4.4 and appendix A.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.errors import InputError
from testbed.records.events import Ints
from testbed.traffic.capture import CHECK_IT, MAX_PACKETS, Capture, cut_off, refuse_where, too_many, words
from testbed.traffic.trace_file import refusal
from testbed.units import NS_PER_S

MAX_INTERFACES = 65_536  # of a section
MAX_SECTIONS = 1_000
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_PACKETS = (_OLD_PACKET, _SIMPLE, _ENHANCED)
_BYTE_ORDER = 0x1A2B3C4D
_LEAST_BYTES = {_SECTION: 28, _INTERFACE: 20, _OLD_PACKET: 32, _SIMPLE: 16, _ENHANCED: 32}
_END_OF_OPTIONS, _TSRESOL, _TSOFFSET = 0, 9, 14
_LATEST_S = 2**33  # in the year 2242; nanoseconds since 1970 fit into 63 bits
_EXACT = 2**34  # ticks a second up to which parts of a second x 10^9 fit into 64 bits


@dataclass(frozen=True, eq=False)
class _Section:
    """Blocks of one section that matter: where they begin and what they are."""

    order: str
    at: Ints
    kind: Ints


@dataclass(frozen=True, eq=False)
class _Clocks:
    """How the times of a section's interfaces count.

    Attributes:
        units: the ticks a second that there are, up to 10^127.
        unit: which of them an interface has, int64 [interfaces].
        offset_s: seconds to be added, int64 [interfaces].
        link_types: of all of them.
    """

    units: tuple[int, ...]
    unit: Ints
    offset_s: Ints
    link_types: frozenset[int]


def is_pcapng(content: bytes | bytearray) -> bool:
    """Return whether `content` begins with a section header."""
    return content[:4] == _SECTION.to_bytes(4, "little")  # the same in either byte order


def read_pcapng(content: bytes | bytearray, name: str) -> Capture:
    """Return the packets of all sections.

    Raises:
        InputError: names the packet or the interface with which the file is not what it says.
    """
    parts: list[Capture] = []
    packets = 0
    for section in _sections(content, name):
        if len(parts) == MAX_SECTIONS:
            raise refusal(name, f"it has more than {MAX_SECTIONS:,} sections", "merge them: `mergecap -a`")
        parts.append(_packets_of(content, section, packets, name))
        packets += len(parts[-1].t_ns)
    return Capture(
        np.concatenate([part.t_ns for part in parts]),
        np.concatenate([part.n_bytes for part in parts]),
        np.concatenate([part.timed for part in parts]),
        frozenset().union(*(part.link_types for part in parts)),
        np.concatenate([part.at for part in parts]),
        np.concatenate([part.held for part in parts]),
    )


# ------------------------------------------------------------------------------------------------------------ blocks


def _sections(content: bytes | bytearray, name: str) -> Iterator[_Section]:
    at = packets = 0
    while at < len(content):
        order = _order_at(content, at, name, packets)
        begins, kinds = array("q"), array("q")
        at = _walk(content, at, order, begins, kinds, name, packets)
        section = _Section(order, np.frombuffer(begins, np.int64), np.frombuffer(kinds, np.int64))
        packets += int(np.count_nonzero(np.isin(section.kind, _PACKETS)))
        yield section


def _order_at(content: bytes | bytearray, at: int, name: str, packets: int) -> str:
    """Return the byte order of the section whose header begins at `at`."""
    if at + _LEAST_BYTES[_SECTION] > len(content):
        raise cut_off(name, packets + 1)
    for order in "<>":
        magic, major = struct.unpack_from(f"{order}IH", content, at + 8)
        if magic == _BYTE_ORDER:
            if major != 1:
                raise refusal(name, f"pcapng version {major} is not known", "convert it: `editcap -F pcap IN OUT`")
            return order
    raise _damaged(name, packets, "the section header has no valid byte order")


def _walk(
    content: bytes | bytearray, at: int, order: str, begins: array[int], kinds: array[int], name: str, packets: int
) -> int:
    """Note the section's interfaces and packets; return where the section ends."""
    head, length_of = struct.Struct(f"{order}II").unpack_from, struct.Struct(f"{order}I").unpack_from
    end, first, least = len(content), at, _LEAST_BYTES.get
    while at < end:
        if at + 12 > end:
            raise cut_off(name, packets + 1)
        kind, length = head(content, at)
        if kind == _SECTION and at != first:
            break
        if length % 4 or length < least(kind, 12):
            raise _damaged(name, packets, f"a block of {length:,} bytes is not possible")
        if at + length > end:
            raise cut_off(name, packets + 1)
        if length_of(content, at + length - 4)[0] != length:
            raise _damaged(name, packets, "a block has two different lengths")
        if kind in _LEAST_BYTES:
            begins.append(at)
            kinds.append(kind)
            packets += kind in _PACKETS
            if packets > MAX_PACKETS:
                raise too_many(name)
        at += length
    return at


def _damaged(name: str, packets: int, happened: str) -> InputError:
    where = f"after packet {packets}" if packets else "before the first packet"
    whole = f"`editcap -r IN OUT 1-{packets}` keeps the packets before it" if packets else CHECK_IT
    return refusal(name, f"it is damaged {where}: {happened}", whole)


# ------------------------------------------------------------------------------------------------------------ packets


def _packets_of(content: bytes | bytearray, section: _Section, before: int, name: str) -> Capture:
    """Return the packets of a section; `before` were in earlier ones."""
    clocks = _clocks_of(content, section, name)
    chosen = np.isin(section.kind, _PACKETS)
    kind, at, known = section.kind[chosen], section.at[chosen], np.cumsum(section.kind == _INTERFACE)[chosen]
    word, timed = words(content, section.order), kind != _SIMPLE
    n_bytes, t_ns = word[np.where(timed, at + 24, at + 8)].astype(np.int64), np.zeros(len(at), np.int64)
    row, at = np.flatnonzero(timed), at[timed]
    number = _interface_numbers(word[at + 8], kind[timed], section.order)
    refuse_where(name, number >= known[timed], "names an interface that does not exist", before + row)
    held = word[at + 20].astype(np.int64)
    refuse_where(name, held + 32 > word[at + 4], "is longer than its block", before + row)
    ticks = word[at + 12].astype(np.uint64) << np.uint64(32) | word[at + 16]
    seconds, parts_ns = _times(ticks, clocks.units, clocks.unit[number])
    seconds = seconds + clocks.offset_s[number]
    refuse_where(name, (seconds < 0) | (seconds > _LATEST_S), "has a time before 1970 or after 2242", before + row)
    t_ns[row] = seconds * NS_PER_S + parts_ns
    begins, there = np.zeros(len(t_ns), np.int64), np.zeros(len(t_ns), np.int64)
    begins[row], there[row] = at + 28, held  # a packet without a time is refused, whatever it holds
    return Capture(t_ns, n_bytes, timed, clocks.link_types, begins, there)


def _interface_numbers(field: NDArray[np.uint32], kind: Ints, order: str) -> Ints:
    """Return the interfaces of packets; that of an old Packet Block is the first half of the field."""
    halves = field & np.uint32(0xFFFF) if order == "<" else field >> np.uint32(16)
    return np.where(kind == _OLD_PACKET, halves, field).astype(np.int64)


def _times(ticks: NDArray[np.uint64], units: tuple[int, ...], unit: Ints) -> tuple[Ints, Ints]:
    """Return whole seconds, cut at one more than `_LATEST_S`, and the nanoseconds beyond them."""
    seconds, parts_ns = np.zeros(len(ticks), np.int64), np.zeros(len(ticks), np.int64)
    for index, per_second in enumerate(units):
        chosen = unit == index
        count = ticks[chosen] if per_second <= _EXACT else ticks[chosen].astype(object)
        seconds[chosen] = np.minimum(count // per_second, _LATEST_S + 1)
        parts_ns[chosen] = count % per_second * NS_PER_S // per_second
    return seconds, parts_ns


# --------------------------------------------------------------------------------------------------------- interfaces


def _clocks_of(content: bytes | bytearray, section: _Section, name: str) -> _Clocks:
    begins = section.at[section.kind == _INTERFACE].tolist()
    if len(begins) > MAX_INTERFACES:
        raise refusal(name, f"a section has more than {MAX_INTERFACES:,} interfaces", CHECK_IT)
    found = [_clock(content, at, section.order, number, name) for number, at in enumerate(begins)]
    units = tuple(dict.fromkeys(per_second for per_second, _ in found))
    return _Clocks(
        units,
        np.array([units.index(per_second) for per_second, _ in found], np.int64),
        np.array([offset_s for _, offset_s in found], np.int64),
        frozenset(struct.unpack_from(f"{section.order}H", content, at + 8)[0] for at in begins),
    )


def _clock(content: bytes | bytearray, at: int, order: str, number: int, name: str) -> tuple[int, int]:
    """Return the ticks a second of the interface described at `at`, and the seconds to be added to them."""
    (length,) = struct.unpack_from(f"{order}I", content, at + 4)
    try:
        options = dict(_options(content[at + 16 : at + length - 4], order))
        (exponent,) = struct.unpack("B", options.get(_TSRESOL, b"\x06"))
        (offset_s,) = struct.unpack(f"{order}q", options.get(_TSOFFSET, bytes(8)))
    except struct.error as error:
        raise refusal(name, f"interface {number} is damaged: an option has another length", CHECK_IT) from error
    if abs(offset_s) > _LATEST_S:
        raise refusal(name, f"the times of interface {number} have an offset of {offset_s} s (if_tsoffset)", CHECK_IT)
    return 2 ** (exponent & 0x7F) if exponent & 0x80 else 10**exponent, offset_s


def _options(field: bytes | bytearray, order: str) -> Iterator[tuple[int, bytes | bytearray]]:
    """Yield the options of a block.  Raises: struct.error where one does not fit into it."""
    at = 0
    while at < len(field):
        code, length = struct.unpack_from(f"{order}HH", field, at)
        if code == _END_OF_OPTIONS:
            return
        yield code, bytes(struct.unpack_from(f"{length}s", field, at + 4)[0])
        at += 4 + length + -length % 4
