"""Checks of the agents: samples were taken on time and in every interval."""

from __future__ import annotations

import numpy as np

from testbed.records.engines import is_real_time
from testbed.records.evidence import NodeEvidence
from testbed.records.histogram import Histogram, merged
from testbed.results.fidelity.check import A_QUIETER_MACHINE, Bound, BoundOfRun, Measured, Question, Run
from testbed.units import NS_PER_MS

# A tick that is 2 ms late reduces the lead time by a fifth of a 10 ms interval.
AGENT_LATENESS_GOOD_MS = 2.0
# In an interval without a sample the agent does not react; with a tenth of them missing it is another policy.
MISSING_SAMPLES_RATIO = Bound(0.02, 0.10)
# An agent delivers its samples in blocks of ten; a block that is not full is lost when a fault kills the agent. The
# interval in which it restarts is not complete.
SAMPLES_LOST_BY_A_CRASH = 11


def _lateness_bound(run: Run) -> Bound:
    interval_ms = run.facts.sample_interval_ns / NS_PER_MS
    return Bound(min(AGENT_LATENESS_GOOD_MS, interval_ms / 2), interval_ms)


AGENT_LATENESS_MS = BoundOfRun(
    _lateness_bound, f"{AGENT_LATENESS_GOOD_MS:g}, or half a sample interval if that is less", "a sample interval"
)


def _agent_lateness(run: Run) -> Measured | None:
    kept = merged(node.lateness for node in run.evidence.nodes)
    sampled = [rows.optional["lateness_ns"] for rows in run.samples.values() if "lateness_ns" in rows.optional]
    if kept is None and sampled:
        values = np.concatenate(sampled)
        kept = Histogram.of(values[~np.isnan(values)])
    if kept is None or not kept.total:
        return None
    p99, largest = kept.quantile_ns(0.99) or 0.0, kept.largest_ns or 0
    return Measured(p99 / NS_PER_MS, {"max_ms": largest / NS_PER_MS})


def _missing_samples(run: Run) -> Measured | None:
    if not is_real_time(run.evidence.engine):
        return None
    nodes = {node.node: node for node in run.evidence.nodes}
    missing: dict[str, float] = {}
    counts = {node: len(run.samples[node].t_ns) if node in run.samples else 0 for node in run.facts.node_rate_bps}
    for node, count in counts.items():
        lived_ns = run.evidence.ran_ns - _excused_ns(nodes.get(node), run.facts.sample_interval_ns)
        if lived_ns >= run.facts.sample_interval_ns:
            missing[node] = max(0.0, 1 - count / (lived_ns // run.facts.sample_interval_ns))
    if not missing:
        return None
    worst = max(missing, key=lambda node: missing[node])
    seen = {"node": worst, "samples": counts[worst]}
    return Measured(missing[worst], seen)


def _excused_ns(node: NodeEvidence | None, interval_ns: int) -> int:
    """Return for how long a node is not expected to have left samples: a fault kept it from it."""
    if node is None:
        return 0
    return (node.absent_ns or 0) + (node.crashes or 0) * SAMPLES_LOST_BY_A_CRASH * interval_ns


CHECKS = (
    Question(
        "agent loop lateness p99",
        "agents took their samples later than planned, so forecasts were made later",
        A_QUIETER_MACHINE,
        _agent_lateness,
        AGENT_LATENESS_MS,
        "ms",
    ),
    Question(
        "missing samples",
        "an agent took no sample in some intervals",
        A_QUIETER_MACHINE,
        _missing_samples,
        MISSING_SAMPLES_RATIO,
        "of a node's samples",
    ),
)
