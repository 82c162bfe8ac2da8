"""What is read from a capture, whatever its format: when each packet was seen and how long it was.

Nothing is taken on trust: every length is held against the bytes that are there, and the end of the file is an end only
where a packet or block ends, too.  What counts is the *original* length (a capture may hold less of a packet, down to
nothing) and the time, in whole nanoseconds since 1970.  Packets count from 1, as in Wireshark, and remedies name its
tools.  Classic pcap is read in ``pcap.py``, pcapng in ``pcapng.py``; ``capture_order.py`` puts packets in order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.errors import InputError
from testbed.records.events import Ints
from testbed.traffic.trace_file import refusal

MAX_PACKETS = 5_000_000
CHECK_IT = "check it with `capinfos`"
_OTHERS = {
    b"snoop\0\0\0": "a snoop file of Solaris",
    b"GMBU": "a Network Monitor file",
    b"RTSS": "a Network Monitor file",
    b"TRSNIFF data    \x1a": "a Sniffer file",
    b"XCP\0": "a file of Sniffer for Windows",
    b"\x01\x10\x4c\x00": "a LANalyzer file",
    b"iptrace ": "an iptrace file of AIX",
    b"\xaa\xaa\xaa\xaa": "a 5View file",
    b"ObserverPktBuffe": "an Observer file",
    b"\x05VNF": "a Visual Networks file",
}


@dataclass(frozen=True, eq=False)
class Capture:
    """The packets of a capture, in the order of the file.

    Attributes:
        t_ns: int64 [n], since 1970.
        n_bytes: int64 [n], original lengths, captured in full or not.
        timed: bool [n], whether the packet has a time at all.
        link_types: what the frames are, as pcap numbers it: 1 is Ethernet.
        at, held: int64 [n], where in the file the bytes of the packet begin, and how many of them it holds.
    """

    t_ns: Ints
    n_bytes: Ints
    timed: NDArray[np.bool_]
    link_types: frozenset[int]
    at: Ints
    held: Ints


def foreign(content: bytes | bytearray) -> str:
    """Return which kind of capture that is read by Wireshark, and not here, `content` begins as; "" for none."""
    return next((words for magic, words in _OTHERS.items() if content.startswith(magic)), "")


def words(content: bytes | bytearray, order: str = "<") -> NDArray[np.uint32]:
    """Return the 32-bit words that begin at every byte of `content`, aligned or not."""
    count = max(0, len(content) - 3)
    found: NDArray[np.uint32] = np.ndarray((count,), f"{order}u4", content, 0, (1,))
    return found


def cut_off(name: str, number: int) -> InputError:
    """Return the error of a file that ends within packet `number`."""
    whole = f"`editcap -r IN OUT 1-{number - 1}` keeps the whole packets" if number > 1 else CHECK_IT
    return refusal(name, f"packet {number} cannot be read (the file is cut off within it)", whole)


def too_many(name: str) -> InputError:
    """Return the error of a capture that is too long."""
    return refusal(name, f"more than {MAX_PACKETS:,} packets", f"keep the first: `editcap -r IN OUT 1-{MAX_PACKETS}`")


def refuse_where(name: str, bad: NDArray[np.bool_], happened: str, row: Ints | None = None) -> None:
    """Refuse the first packet that is `bad` [n], of those at the rows of the capture (None: all of them)."""
    if bad.any():
        first = int(np.argmax(bad))
        number = (first if row is None else int(row[first])) + 1
        raise refusal(name, f"packet {number} {happened}", f"remove it: `editcap IN OUT {number}`")
