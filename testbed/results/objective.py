"""The cost of a run: loss, delay and reserved memory in one number (`scenario.objective`).

**Byte-seconds beyond the target.**  Each byte counts with the part of its queueing time that exceeds the target T.  In
a FIFO queue with rate C and Q bytes, the bytes beyond C·T still have to wait longer than T.  A byte with total queueing
time W is among them for the time W − T.  So the sum over the bytes equals an integral over time,

    Σ max(0, W − T)  =  ∫ max(0, Q(t) − C·T) dt        byte-seconds, summed over the nodes

which needs no data about single packets.  Q is interpolated linearly between the samples (the integral of such a line
above C·T is exact); after the last sample of the traffic the queue drains at C.  A queue that is lost in a crash counts
until the crash.

Lost bytes are those dropped by the buffers; bytes lost to faults do not count, since no buffer could have kept them.
TCP segments are included in the backlogs but not in the losses, since lost segments are retransmitted.

Source: J. D. C. Little, "A proof for the queuing formula L = λW", Operations Research 9, 1961, for the exchange of the
sum over bytes and the integral over time, here for the part of both that is beyond T.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from testbed.records.events import Floats
from testbed.records.evidence import Evidence
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples
from testbed.results.reserved import Span
from testbed.units import NS_PER_S

_BYTES_PER_MB = 10**6
_BITS = 8


def objective_section(
    facts: RunFacts,
    evidence: Evidence,
    rows: Mapping[str, NodeSamples],
    down: Mapping[str, list[Span]],
    reserved: float,
) -> dict[str, float]:
    """Return the cost of a run and its parts, in MB.

    Args:
        facts: rates and weights.
        evidence: what the buffers dropped.
        rows: the samples of each node.
        down: when each node crashed and was restarted.
        reserved: MB·s that the nodes reserved.
    """
    late = late_mb_s(facts, rows, down, min(evidence.ran_ns, facts.duration_ns))
    parts = {
        "loss": facts.loss_weight * sum(node.dropped_bytes for node in evidence.nodes) / _BYTES_PER_MB,
        "delay": facts.delay_weight_per_s * late,
        "memory": facts.memory_weight_per_s * reserved,
    }
    return {"cost": sum(parts.values()), **parts, "late_mb_s": late}


def late_mb_s(facts: RunFacts, rows: Mapping[str, NodeSamples], down: Mapping[str, list[Span]], end_ns: int) -> float:
    """Return the MB·s that the bytes of all nodes were queued beyond the target."""
    late = (
        late_byte_s(rows[node], rate_bps, facts.delay_target_ns, down.get(node, ()), end_ns)
        for node, rate_bps in facts.node_rate_bps.items()
        if node in rows
    )
    return sum(late) / _BYTES_PER_MB


def late_byte_s(rows: NodeSamples, rate_bps: int, target_ns: int, down: Iterable[Span], end_ns: int) -> float:
    """Return the byte-seconds that the bytes of one node were queued beyond the target.

    Args:
        rows: its samples.
        rate_bps: the rate at which it serves.
        target_ns: the time in the queue that does not count.
        down: when it crashed and was restarted.
        end_ns: when the traffic ended; what is queued then drains.
    """
    rate = rate_bps / _BITS / NS_PER_S  # bytes a ns
    points = np.array([(0.0, 0.0), *_backlog(rows, rate, sorted(down), end_ns)])
    return _area_above(points[:, 0], points[:, 1], rate * target_ns) / NS_PER_S


def _backlog(rows: NodeSamples, rate: float, down: list[Span], end_ns: int) -> Iterator[tuple[float, float]]:
    """Yield the corners of the backlog, time in ns and bytes, until the queue has drained."""
    t_ns, backlog = 0, 0
    breaks = [span for span in down if span[0] < end_ns]
    for at_ns, bytes_then in zip(rows.t_ns.tolist(), rows.backlog_bytes.tolist(), strict=True):
        if at_ns > end_ns:
            break
        while breaks and breaks[0][0] <= at_ns:
            begin, healed = breaks.pop(0)
            yield from _thrown_away(t_ns, backlog, begin, rate)
            t_ns, backlog = min(at_ns, begin if healed is None else healed), 0
            yield t_ns, 0.0
        t_ns, backlog = at_ns, bytes_then
        yield t_ns, backlog
    if breaks:
        yield from _thrown_away(t_ns, backlog, breaks[0][0], rate)
    else:
        yield t_ns + backlog / rate, 0.0


def _thrown_away(t_ns: int, backlog: int, crash_ns: int, rate: float) -> Iterator[tuple[float, float]]:
    """Yield the corners of a backlog that drains from its last sample until the crash of its node."""
    left = max(0.0, backlog - rate * (crash_ns - t_ns))
    if not left:
        yield t_ns + backlog / rate, 0.0
    yield from ((crash_ns, left), (crash_ns, 0.0))


def _area_above(times: Floats, values: Floats, level: float) -> float:
    """Return the area between a polygon and the level below it; where a side crosses the level, its part above."""
    above = np.maximum(values - level, 0.0)
    low, high = np.minimum(values[:-1], values[1:]) - level, np.maximum(values[:-1], values[1:]) - level
    crosses = (low < 0) & (high > 0)
    share = np.where(crosses, high / np.where(crosses, high - low, 1.0), 1.0)
    return float(np.sum(np.diff(times) * share * (above[:-1] + above[1:]) / 2))
