"""The packets of a capture in order of time.

Packets of several interfaces or receive queues are written when their buffers are emptied, a few times a second: a
packet may stand behind later ones.  Up to `MAX_DISORDER_NS` that is mended by sorting, and said.  A larger step back is
a clock that was set, or two captures in one file, where sorting would mix what did not happen together.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from testbed.records.events import Ints
from testbed.traffic.capture import Capture
from testbed.traffic.trace_file import refusal
from testbed.units import NS_PER_MS, NS_PER_S

MAX_DISORDER_NS = 500 * NS_PER_MS
MAX_SPAN_NS = NS_PER_S * 10**9
_YEAR_NS = 365 * 86_400 * NS_PER_S
_MOST_NAMED = 5


def in_order(capture: Capture, name: str) -> tuple[Capture, tuple[str, ...]]:
    """Return the packets in order of time, and what was done to get there.

    Raises:
        InputError: packets without a time, or times that decrease further than buffers explain.
    """
    if not len(capture.t_ns):
        raise refusal(name, "it contains no packets", "use a capture with traffic")
    _refuse_timeless(capture, name)
    latest = np.maximum.accumulate(capture.t_ns)
    back_ns = latest - capture.t_ns
    _refuse_steps(capture.t_ns, latest, back_ns, name)
    count, worst_ns = int(np.count_nonzero(back_ns)), int(back_ns.max())
    if not count:
        return capture, ()
    order = np.argsort(capture.t_ns, kind="stable")
    packets = "1 packet" if count == 1 else f"{count:,} packets"
    note = f"{packets} out of order, by at most {worst_ns / NS_PER_MS:g} ms; sorted by time"
    sorted_columns = {key: getattr(capture, key)[order] for key in ("t_ns", "n_bytes", "timed", "at", "held")}
    return replace(capture, **sorted_columns), (note,)


def _refuse_timeless(capture: Capture, name: str) -> None:
    """Refuse packets that have no time, or 1970 as time in a capture of our days."""
    if not capture.timed.any():
        remedy = "capture again with dumpcap or tcpdump, which write times"
        raise refusal(name, "its packets have no times (Simple Packet Blocks)", remedy)
    unset = (capture.t_ns == 0) & (int(capture.t_ns.max()) > _YEAR_NS)
    numbers = np.flatnonzero(unset | ~capture.timed) + 1
    if not len(numbers):
        return
    listed = " ".join(map(str, numbers[:_MOST_NAMED].tolist()))
    others = len(numbers) - _MOST_NAMED
    happened = f"packet {numbers[0]} has no time" + (f", nor have {len(numbers) - 1:,} others" if others > 0 else "")
    more = " …, or keep the packets from 1971 on: `editcap -A '1971-01-01 00:00:00' IN OUT`" if others > 0 else ""
    raise refusal(name, happened, f"remove packets without a time: `editcap IN OUT {listed}`{more}")


def _refuse_steps(t_ns: Ints, latest: Ints, back_ns: Ints, name: str) -> None:
    """Refuse steps of the clock, back or far ahead."""
    if back_ns.max() > MAX_DISORDER_NS:
        at = int(np.argmax(back_ns > MAX_DISORDER_NS))
        before = int(np.argmax(t_ns[:at] == latest[at])) + 1
        happened = f"packet {at + 1}: the time goes back, to {back_ns[at] / NS_PER_S:g} s before packet {before}"
        raise refusal(name, happened, "sort it with `reordercap IN OUT`, or cut it there with `editcap`")
    gaps = np.diff(latest)
    if latest[-1] - latest[0] > MAX_SPAN_NS and len(gaps):
        number = int(np.argmax(gaps)) + 2
        happened = f"packet {number} is {gaps[number - 2] / NS_PER_S:.3g} s after the one before it"
        raise refusal(name, happened, f"remove what does not belong to it: `editcap IN OUT 1-{number - 1}`")
