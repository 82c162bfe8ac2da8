"""Cohorts: the nodes that tick together and share a brain, and the names of the brains.

A brain decides for a *cohort* of consecutive nodes with arrays, which costs little more than deciding for one node.
The cohorts tick one after the other within the sample interval. Both engines use the same cohorts, so a simulated node
ticks at the same time as the emulated one.

With up to `OWN_TICKS` nodes, each node is a cohort.  More nodes form `SHARED_TICKS` cohorts, so that the fixed cost of
a tick is paid only this often per interval, whatever the number of nodes.  This changes when in the interval a node
samples, not how often.  It matters to a balancer that uses the state of the nodes: if all nodes notify at the same
time, it never sees a new state of one node together with older states of the others.  Example: five seeds of
``burst.yaml`` under static-min and ready-first lose 20.2 % with separate ticks, 18.9 % with a common tick, and 20.6 %
in the emulation.

A node that has its own processes (`scenario.apart`) is always a cohort of its own.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from testbed.policies.brain import NodeBrain
from testbed.policies.forecast import MakeForecaster
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.network import Network

BRAIN = "brain"  # beginning of the name of every brain in the history
RESTARTED = "restart"  # the reason in the first record of a new brain
OWN_TICKS = 8
SHARED_TICKS = 1


@dataclass(frozen=True, slots=True)
class Cohort:
    """Nodes that tick together and share a brain.

    Attributes:
        policy: the name of the brain in the history: ``brain``, ``brain:n1`` or ``brain:n1-n8``.
        rows: the nodes among all nodes.
        phase_ns: they tick at phase + k × interval, for k = 1, 2, …
        apart: whether it is a node with its own processes.
    """

    policy: str
    rows: slice
    phase_ns: int
    apart: bool = False


def default_cohorts(nodes: int) -> int:
    """Return the default number of cohorts of a cluster."""
    return nodes if nodes <= OWN_TICKS else SHARED_TICKS


def divided(
    nodes: tuple[str, ...], interval_ns: int, count: int | None = None, apart: frozenset[str] = frozenset()
) -> list[Cohort]:
    """Return the cohorts of a cluster, in the order of its nodes.

    Args:
        nodes: all of them.
        interval_ns: between two ticks.
        count: how many cohorts, at most one a node; default as above.
        apart: nodes that are a cohort each, beside the others.
    """
    count = min(default_cohorts(len(nodes)) if count is None else count, len(nodes))
    edges = {len(nodes) * k // count for k in range(count + 1)}
    edges |= {row + after for row, name in enumerate(nodes) if name in apart for after in (0, 1)}
    parts = [slice(begin, end) for begin, end in itertools.pairwise(sorted(edges))]
    return [
        Cohort(_name(nodes, rows), rows, interval_ns * k // len(parts), nodes[rows.start] in apart)
        for k, rows in enumerate(parts)
    ]


def make_brain(rows: slice, spec: BufferSpec, network: Network, make_forecaster: MakeForecaster) -> NodeBrain:
    """Return a new brain for some of the network's nodes."""
    nodes = tuple(node.name for node in network.nodes)
    rates = np.array([network.node_rate_bps(node) for node in nodes[rows]], dtype=np.int64)
    return NodeBrain(nodes[rows], spec, rates, make_forecaster(nodes[rows], rates), pool_members=len(nodes))


def rows_of(policy: str, nodes: tuple[str, ...]) -> slice:
    """Return the rows of the nodes that the brain with this name decides for.

    Raises:
        ValueError: no brain of these nodes has this name.
    """
    kind, _, ends = policy.partition(":")
    first, _, last = ends.partition("-")
    if kind != BRAIN or (ends and not {first, last or first} <= set(nodes)):
        raise ValueError(f"{policy} is no brain of these nodes")
    return slice(nodes.index(first), nodes.index(last or first) + 1) if ends else slice(0, len(nodes))


def _name(nodes: tuple[str, ...], rows: slice) -> str:
    """Return a brain's name: its first and last node, one if they are one, none where it has all of several."""
    own = nodes[rows]
    return BRAIN if own == nodes and len(nodes) > 1 else f"{BRAIN}:{'-'.join(dict.fromkeys((own[0], own[-1])))}"
