"""Node-time: how long nodes were in each stage of life, what they cost, and how soon a new node serves.

Every change of a stage is a record (`StagesChanged`), so node-seconds are exact: the sum over the nodes of the time
that each was joining (*booting*), serving, or draining and leaving (*draining*), until the traffic ends.  A run whose
nodes do not change has no such records; all its nodes serve throughout.  A node that has crashed or is unreachable
counts: whoever rents it pays for it.

**Cost.**  A node is paid for from its order until it has gone, so all three stages cost `autoscaler.price`.

**Ready.**  From the order of a node (`StartNode`) to the first sample that shows a packet served by it.  It is late by
one sample interval at most.  It includes `boot` and `warm_up`, the announcement of the new stage, the change of the
slots, and the wait for the first new flow.  A node that is taken back before it served a packet does not count.

Source: for node-time as what an autoscaler spends, A. Ilyushkin et al., "An Experimental Performance Evaluation of
Autoscaling Policies for Complex Workflows", ICPE 2017 (there charged CPU time).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from testbed.records.events import LoadMeasured, ScaleDecided, StageOfLife, StagesChanged, StartNode, StopNode
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples
from testbed.records.written import is_a
from testbed.units import NS_PER_MS, NS_PER_S

Line = Mapping[str, Any]

_KINDS = (StagesChanged, StartNode, StopNode, LoadMeasured, ScaleDecided)
_FIGURES = {  # in which stages a node counts
    "serving_s": (StageOfLife.SERVING,),
    "booting_s": (StageOfLife.JOINING,),
    "draining_s": (StageOfLife.DRAINING, StageOfLife.LEAVING),
}
_S_PER_H = 3600


class ClusterLines:
    """Keeps the lines about the number of nodes while others read the events."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def passing(self, events: Iterable[Line]) -> Iterator[Line]:
        """Yield every line and keep those that matter here."""
        for line in events:
            if is_a(line, *_KINDS):
                self.lines.append(line)
            yield line


def node_time(lines: Iterable[Line], facts: RunFacts, end_ns: int) -> dict[str, float] | None:
    """Return node-seconds by stage and what they cost.

    Args:
        lines: what `ClusterLines` kept.
        facts: the nodes, and their price.
        end_ns: when the traffic ended.

    Returns:
        The figures by name; those of booting and draining only where nodes change.  None for a run of an earlier
        version whose nodes change, since it does not say when.
    """
    lines = list(lines)
    changes = [line for line in lines if is_a(line, StagesChanged)]
    if changes:
        lasted = _lasted_ns(changes, end_ns)
        found = {name: sum(lasted[stage] for stage in stages) / NS_PER_S for name, stages in _FIGURES.items()}
    elif lines:
        return None
    else:
        found = {"serving_s": len(facts.node_rate_bps) * end_ns / NS_PER_S}
    return {**found, "cost_usd": sum(found.values()) / _S_PER_H * facts.node_price_usd}


def _lasted_ns(changes: Iterable[Line], end_ns: int) -> dict[int, int]:
    """Return the node-time in each stage; the first record says what every node was in from the start."""
    lasted = dict.fromkeys(map(int, StageOfLife), 0)
    since: dict[str, tuple[int, int]] = {}
    for line in changes:
        at_ns = min(line["t_ns"], end_ns) if since else 0
        for node, stage in zip(line["nodes"], line["stage"], strict=True):
            before, since_ns = since.get(node, (stage, at_ns))
            lasted[before] += at_ns - since_ns
            since[node] = stage, at_ns
    for stage, since_ns in since.values():
        lasted[stage] += end_ns - since_ns
    return lasted


def ready_ms(lines: Iterable[Line], rows: Mapping[str, NodeSamples]) -> dict[str, float] | None:
    """Return from a node's order to its first packet served: median and 99th percentile; None where none served."""
    lines = list(lines)
    waits = [
        wait
        for line in lines
        if is_a(line, StartNode) and (wait := _wait_ns(line, lines, rows.get(line["node"]))) is not None
    ]
    if not waits:
        return None
    quantiles = np.quantile(waits, (0.5, 0.99), method="higher") / NS_PER_MS
    return dict(zip(("p50", "p99"), quantiles.tolist(), strict=True))


def _wait_ns(start: Line, lines: Iterable[Line], rows: NodeSamples | None) -> int | None:
    """Return from an order of a node to the first sample of that life that shows a packet served."""
    delivered = None if rows is None else rows.optional.get("delivered_bytes")
    if rows is None or delivered is None:
        return None
    ordered_ns = start["t_ns"]
    stops = (line["t_ns"] for line in lines if is_a(line, StopNode) and line["node"] == start["node"])
    ended_ns = min((t_ns for t_ns in stops if t_ns > ordered_ns), default=math.inf)
    first = int(np.searchsorted(rows.t_ns, ordered_ns, side="right"))
    before = float(delivered[first - 1]) if first else 0.0
    served = first + np.flatnonzero(delivered[first:] > before)
    if not len(served) or rows.t_ns[served[0]] > ended_ns:
        return None
    return int(rows.t_ns[served[0]]) - int(ordered_ns)
