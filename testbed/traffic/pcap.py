"""Classic pcap: a header of 24 bytes, then packets one behind the other.

Each packet has seconds, parts of a second, captured and original length, and then its captured bytes.  The first four
bytes of the file say the byte order, whether the parts are micro- or nanoseconds, and whether each packet's header is
the longer one of a kernel patch.  Up to version 2.2 the two lengths stand the other way round.

Source: draft-ietf-opsawg-pcap (2024); libpcap 1.10 ``sf-pcap.c`` (versions, swapped lengths, longest packet);
Wireshark 4.0 ``wiretap/libpcap.c`` (the patched headers).
"""

from __future__ import annotations

import struct
from array import array

import numpy as np

from testbed.errors import InputError
from testbed.records.events import Ints
from testbed.traffic.capture import CHECK_IT, MAX_PACKETS, Capture, cut_off, refuse_where, too_many, words
from testbed.traffic.trace_file import refusal
from testbed.units import NS_PER_S

_HEADER_BYTES = 24
_NANO = 0xA1B23C4D
# Lengths of a packet's header by magic number: kernels of 1999 were patched so that more stood in it, with and without
# another magic number (ss990417 and ss991029: 24 bytes, ss990915: 28), and so did Nokia's (20).
_PACKET_HEADERS = {0xA1B2C3D4: (16, 24, 20), _NANO: (16,), 0xA1B2CD34: (24, 28)}
_MOST_HELD = 262_144  # bytes of a packet in any capture, as libpcap has it, unless its header says more


def is_pcap(content: bytes | bytearray) -> bool:
    """Return whether `content` begins as a classic pcap does."""
    return _order_of(content) != ""


def read_pcap(content: bytes | bytearray, name: str) -> Capture:
    """Return the packets of a classic pcap.

    Raises:
        InputError: names the packet with which the file is not what it says.
    """
    order = _order_of(content)
    if len(content) < _HEADER_BYTES:
        raise refusal(name, "the file is cut off within its header", CHECK_IT)
    magic, major, minor = struct.unpack_from(f"{order}IHH", content)
    if (major, minor) != (543, 0) and (major != 2 or minor > 4):
        raise refusal(name, f"pcap version {major}.{minor} is not known", "convert it: `editcap -F pcap IN OUT`")
    swapped = (major, minor) == (543, 0) or minor < 3
    at, header_bytes = _packets_at(content, order, _PACKET_HEADERS[magic], 12 if swapped else 8, name)
    word = words(content, order)
    seconds, parts = word[at].astype(np.int64), word[at + 4].astype(np.int64)
    per_second = NS_PER_S if magic == _NANO else 10**6
    refuse_where(name, parts >= per_second, "has a fraction of a second that exceeds one second")
    lengths = word[at + (8 if swapped else 12)].astype(np.int64)
    t_ns = seconds * NS_PER_S + parts * (NS_PER_S // per_second)
    held = word[at + (12 if swapped else 8)].astype(np.int64)
    link_types = frozenset({int(word[20]) & 0xFFFF})
    return Capture(t_ns, lengths, np.ones(len(at), np.bool_), link_types, at + header_bytes, held)


def _order_of(content: bytes | bytearray) -> str:
    """Return the byte order of a classic pcap as `struct` writes it, "" for anything else."""
    for order in "<>":
        if len(content) >= 4 and struct.unpack_from(f"{order}I", content)[0] in _PACKET_HEADERS:
            return order
    return ""


def _packets_at(
    content: bytes | bytearray, order: str, headers: tuple[int, ...], length_at: int, name: str
) -> tuple[Ints, int]:
    """Return where each packet begins, and the first length of their headers that leads to the end of the file."""
    refused: list[InputError] = []
    for header_bytes in headers:
        try:
            found = _walk(content, order, header_bytes, length_at, name)
        except InputError as error:
            refused.append(error)
        else:
            return (np.frombuffer(found, np.int64) if found else np.zeros(0, np.int64)), header_bytes
    raise refused[0]


def _walk(content: bytes | bytearray, order: str, header_bytes: int, length_at: int, name: str) -> array[int]:
    """Return where each packet begins: the captured length of one, `length_at` in its header, leads to the next."""
    length_of, found = struct.Struct(f"{order}I").unpack_from, array("q")
    most = max(_MOST_HELD, length_of(content, 16)[0])
    at, end = _HEADER_BYTES, len(content)
    while at < end:
        if len(found) >= MAX_PACKETS:
            raise too_many(name)
        if at + header_bytes > end:
            raise cut_off(name, len(found) + 1)
        found.append(at)
        held = length_of(content, at + length_at)[0]
        if held > most:
            raise _misread(name, len(found), held)
        at += header_bytes + held
    if at > end:
        raise cut_off(name, len(found))
    return found


def _misread(name: str, number: int, held: int) -> InputError:
    happened = f"packet {number} cannot be read (it declares {held:,} bytes)"
    before = f", or keep the packets before it: `editcap -r IN OUT 1-{number - 1}`" if number > 1 else ""
    return refusal(name, happened, f"the file is damaged; fetch it again{before}")
