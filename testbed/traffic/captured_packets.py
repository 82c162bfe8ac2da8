"""The packets of a capture one by one, for `replay: packets`: when each was seen, how long it was, and whose it was.

A packet is of the flow that its five-tuple names: addresses, protocol and ports.  The five-tuples are numbered in the
order of their first packets, and each becomes a flow of the plan, with an address and port of the testbed's own; more
five-tuples than a source has `flows` share them in turn.  A fragment that is not the first has no ports, a frame that
is no IP has no addresses: those of one kind are one flow.

What is not as it was: every packet becomes a UDP datagram from the source's client to the VIP, in both directions of
the capture.  TCP does, too: it does not answer to loss, since the capture has fixed what is sent.  Frames shorter than
a planned packet's headers are lengthened to these.

Memory: the capture itself and 32 bytes a packet; five-tuples are read in blocks, and `MAX_TUPLES` of them are the most.

Source: RFC 791, 8200 (headers), IEEE 802.1Q (tags).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.records.events import Ints
from testbed.traffic.capture import Capture, refuse_where
from testbed.traffic.trace_file import refusal

MAX_TUPLES = 1_000_000
_BLOCK_PKTS = 1 << 16
_ETHERNET = 1
_READ_BYTES = 14 + 2 * 4 + 60 + 4  # Ethernet, two tags, the longest IPv4 header, ports
_KEY_BYTES = 38  # version, protocol, two addresses, two ports
_TAGS = (0x8100, 0x88A8)
_WITH_PORTS = (6, 17, 132)  # TCP, UDP, SCTP

Bytes2D = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class CapturedPackets:
    """The packets of a capture, in order of time.

    Attributes:
        t_ns: int64 [n], from the first packet.
        n_bytes: int64 [n], lengths of the frames.
        tuple_of: int32 [n], number of the five-tuple.
        tuples: how many five-tuples there are.
        notes: what was mended, each a line.
    """

    t_ns: Ints
    n_bytes: Ints
    tuple_of: NDArray[np.int32]
    tuples: int
    notes: tuple[str, ...]

    def refuse_longer(self, most_bytes: int, name: str) -> None:
        """Refuse the first frame that is longer than a source may send.

        Raises:
            InputError: names the packet.
        """
        if self.n_bytes.max() > most_bytes:
            at = int(np.argmax(self.n_bytes > most_bytes))
            happened = (
                f"frame {at + 1} (in time order) has {int(self.n_bytes[at]):,} bytes, but `packet` is {most_bytes}B"
            )
            remedy = "raise `packet` (3500B at most), capture with offloads off, or use replay: bytes"
            raise refusal(name, happened, remedy)

    def words(self, least_bytes: int, flows: int) -> tuple[str, ...]:
        """Return how the capture is replayed, a line each."""
        short = int(np.count_nonzero(self.n_bytes < least_bytes))
        lengthened = f", {short:,} of them lengthened to {least_bytes} bytes" if short else ""
        said = f"replay: packets: {len(self.t_ns):,} frames as UDP datagrams of their sizes{lengthened}"
        if self.tuples <= flows:
            return (f"{said}; {self.tuples:,} five-tuples, a flow each",)
        return (f"{said}; {self.tuples:,} five-tuples share {flows:,} flows (`flows`)",)


def packets_in(content: bytes | bytearray, found: Capture, notes: tuple[str, ...], name: str) -> CapturedPackets:
    """Return the packets of a capture whose frames are Ethernet's, with their five-tuples.

    Raises:
        InputError: other frames, or more than `MAX_TUPLES` five-tuples.
    """
    others = sorted(found.link_types - {_ETHERNET})
    if others:
        happened = f"its frames have link type {others[0]}, but five-tuples are read only from Ethernet (1)"
        raise refusal(name, happened, "capture at an Ethernet interface (not `any`), or use replay: bytes")
    refuse_where(name, found.n_bytes <= 0, "has no length")
    numbers: dict[bytes, int] = {}
    tuple_of = np.zeros(len(found.t_ns), np.int32)
    source = np.frombuffer(content, np.uint8)
    for first in range(0, len(tuple_of), _BLOCK_PKTS):
        chosen = slice(first, first + _BLOCK_PKTS)
        tuple_of[chosen] = _numbered(_keys(_heads(source, found.at[chosen], found.held[chosen])), numbers)
        if len(numbers) > MAX_TUPLES:
            raise refusal(name, f"more than {MAX_TUPLES:,} five-tuples", "keep fewer packets: `editcap -r`")
    return CapturedPackets(found.t_ns - found.t_ns[0], found.n_bytes, tuple_of, len(numbers), notes)


def _numbered(keys: Bytes2D, numbers: dict[bytes, int]) -> NDArray[np.int32]:
    """Return the numbers of five-tuples [p, key], new ones in the order of their first packets."""
    whole = np.ascontiguousarray(keys).view(f"V{_KEY_BYTES}")[:, 0]
    kinds, first, kind_of = np.unique(whole, return_index=True, return_inverse=True)
    for kind in np.argsort(first):
        numbers.setdefault(kinds[kind].tobytes(), len(numbers))
    return np.array([numbers[kind.tobytes()] for kind in kinds], np.int32)[kind_of]


def _heads(source: NDArray[np.uint8], at: Ints, held: Ints) -> Bytes2D:
    """Return the first bytes of packets [p, `_READ_BYTES`], zeros behind what the capture holds of them."""
    offset = np.arange(_READ_BYTES)
    place = np.minimum(at[:, None] + offset, len(source) - 1)
    heads: Bytes2D = np.where(offset < held[:, None], source[place], 0).astype(np.uint8)
    return heads


def _keys(heads: Bytes2D) -> Bytes2D:
    """Return the five-tuple of each packet: uint8 [p, `_KEY_BYTES`], zeros where it has none."""
    rows, behind = np.arange(len(heads)), np.full(len(heads), 12)
    for _ in range(2):
        behind += 4 * np.isin(_pair(heads, rows, behind), _TAGS)
    kind, ip = _pair(heads, rows, behind), behind + 2
    keys = np.zeros((len(heads), _KEY_BYTES), np.uint8)
    _of_ip4(heads, rows[kind == 0x0800], ip, keys)
    _of_ip6(heads, rows[kind == 0x86DD], ip, keys)
    return keys


def _of_ip4(heads: Bytes2D, rows: Ints, ip: Ints, keys: Bytes2D) -> None:
    at = ip[rows]
    keys[rows, 0], keys[rows, 1] = 4, heads[rows, at + 9]
    keys[rows[:, None], np.arange(2, 6)] = heads[rows[:, None], at[:, None] + np.arange(12, 16)]
    keys[rows[:, None], np.arange(18, 22)] = heads[rows[:, None], at[:, None] + np.arange(16, 20)]
    whole = rows[_pair(heads, rows, at + 6) & 0x1FFF == 0]
    _ports(heads, whole, ip[whole] + 4 * (heads[whole, ip[whole]] & 15), keys)


def _of_ip6(heads: Bytes2D, rows: Ints, ip: Ints, keys: Bytes2D) -> None:
    at = ip[rows]
    keys[rows, 0], keys[rows, 1] = 6, heads[rows, at + 6]
    keys[rows[:, None], np.arange(2, 34)] = heads[rows[:, None], at[:, None] + np.arange(8, 40)]
    _ports(heads, rows, at + 40, keys)


def _ports(heads: Bytes2D, rows: Ints, at: Ints, keys: Bytes2D) -> None:
    chosen = np.isin(keys[rows, 1], _WITH_PORTS)
    rows, at = rows[chosen], at[chosen]
    keys[rows[:, None], np.arange(34, 38)] = heads[rows[:, None], at[:, None] + np.arange(4)]


def _pair(heads: Bytes2D, rows: Ints, at: Ints) -> Ints:
    """Return the 16-bit numbers that begin at byte `at` of each row."""
    high: Ints = heads[rows, at].astype(np.int64) << 8
    return high | heads[rows, at + 1]
