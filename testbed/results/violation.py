"""Violation time: for how many seconds the service missed its objective.

A node misses it while a byte that arrives is dropped by its buffer, or has to wait longer than `objective.delay.target`
behind those that wait already: its backlog takes longer to serve than that.  This is decided for each sample, and holds
for the interval that ends there.  The service misses its objective while any node does: the figure is the length of the
union of these intervals over the nodes, until the traffic ends.

The other definition in the literature, demand beyond capacity, needs no objective but sees no queue.  It is
`autoscaler.overload_s`, by the loads that the autoscaler measured: the time in which they exceeded what the serving
nodes can serve together.

Source: A. Beloglazov, R. Buyya, "Optimal online deterministic algorithms and adaptive heuristics for energy and
performance efficient dynamic consolidation of virtual machines in Cloud data centers", Concurrency and Computation
24(13), 2012 (SLA violation time per active host: time at full utilisation).  Ours adds up time of the service, not of
hosts, and takes the delay of the objective.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from testbed.records.events import Ints
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples
from testbed.units import NS_PER_S

_BITS = 8
_LONGEST_INTERVALS = 2  # a row after a longer pause, such as the first of a new life, stands for no more than that


def violation_s(facts: RunFacts, rows: Mapping[str, NodeSamples], end_ns: int) -> float:
    """Return the seconds in which packets were dropped or waited longer than the target at any node.

    Args:
        facts: the rates of the nodes, the target, and the interval of samples.
        rows: the samples of each node.
        end_ns: when the traffic ended.
    """
    spans = [_missed(rows[node], rate_bps, facts) for node, rate_bps in facts.node_rate_bps.items() if node in rows]
    if not spans:
        return 0.0
    begin_ns, until_ns = np.concatenate(spans, axis=1)
    return _union_ns(np.minimum(begin_ns, end_ns), np.minimum(until_ns, end_ns)) / NS_PER_S


def _missed(rows: NodeSamples, rate_bps: int, facts: RunFacts) -> Ints:
    """Return begin and end of the intervals in which a node missed the objective, int64 [2, k]."""
    most_bytes = rate_bps * facts.delay_target_ns // (_BITS * NS_PER_S)
    missed = (rows.dropped_bytes > 0) | (rows.backlog_bytes > most_bytes)
    t_ns = rows.t_ns[missed]
    lasted_ns = np.minimum(rows.interval_ns()[missed], _LONGEST_INTERVALS * facts.sample_interval_ns)
    return np.array((t_ns - lasted_ns, t_ns))


def _union_ns(begin_ns: Ints, end_ns: Ints) -> int:
    """Return how long at least one of the intervals lasts."""
    order = np.argsort(begin_ns, kind="stable")
    begin_ns, end_ns = begin_ns[order], end_ns[order]
    covered_ns = np.concatenate(([0], np.maximum.accumulate(end_ns)[:-1]))
    return int(np.maximum(end_ns - np.maximum(begin_ns, covered_ns), 0).sum())
