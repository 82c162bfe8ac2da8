"""Reserved memory: the limits of the buffers of all nodes, integrated over the time of the traffic.

A node reserves its limit, from the time at which it takes effect until the next one does; the first limit of a sample
also applies to the time before it.  A crashed node reserves its initial limit (or its last one, if that is lower) until
it is restarted, because the pool keeps this memory for its return and grants the rest to others.  A restarted node
begins with its initial limit.  A node that is paused or disconnected reserves its previous limit.

The time after the traffic is excluded, since the time until the queues are empty depends on the policy.  Both engines
record the same samples and faults, so the metric has the same meaning in both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from testbed.records.faults import FaultCommanded, FaultHealed
from testbed.records.samples import NodeSamples
from testbed.records.written import is_a
from testbed.scenario.fault_kinds import kind_of

Line = Mapping[str, Any]
Span = tuple[int, int | None]  # a crash, and the restart after it, if any


def crashes(lines: Iterable[Line]) -> dict[str, list[Span]]:
    """Return when each node crashed and was restarted, by the lines about faults."""
    found: dict[str, list[Span]] = {}
    lines = list(lines)
    healed_ns = {line["fault"]: line["t_ns"] for line in lines if is_a(line, FaultHealed)}
    for line in lines:
        if is_a(line, FaultCommanded) and kind_of(line["what"]).ends_processes:
            span = line["t_commanded_ns"], healed_ns.get(line["fault"])
            found.setdefault(line["nodes"][0], []).append(span)
    return found


def reserved_byte_ns(rows: NodeSamples | None, down: Iterable[Span], first_bytes: int, end_ns: int) -> int:
    """Return the integral of what one node reserves from the start of the run to `end_ns`.

    Args:
        rows: its samples; None for a node that crashed before it handed over any.
        down: when it crashed and was restarted.
        first_bytes: its first limit where there are no samples.
        end_ns: when the traffic ended.
    """
    changes = sorted(_changes(rows, list(down), first_bytes))
    times = np.minimum([t_ns for t_ns, _, _ in changes], end_ns)
    lasted_ns = np.diff(times, append=end_ns)
    return int(np.dot(lasted_ns, np.array([held for _, _, held in changes], dtype=np.int64)))


def _changes(rows: NodeSamples | None, down: list[Span], first_bytes: int) -> Iterator[tuple[int, int, int]]:
    """Yield when the reserved bytes change and to what; of changes at one time the last in order counts."""
    limits = [] if rows is None else list(zip(rows.t_ns.tolist(), rows.limit_bytes.tolist(), strict=True))
    first = limits[0][1] if limits else first_bytes
    yield 0, 0, first
    for t_ns, limit in limits:
        if not any(begin <= t_ns and (end is None or t_ns < end) for begin, end in down):
            yield t_ns, 1, limit
    for begin, end in down:
        before = [limit for t_ns, limit in limits if t_ns <= begin]
        yield begin, 2, min(first, before[-1] if before else first)
        if end is not None:
            yield end, 0, first
