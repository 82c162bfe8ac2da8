"""Which nodes tick together and share a brain.

In the emulation every node has an agent of its own, and the agents wake one after the other within the sample interval.
Here a brain decides for a *cohort* of neighbouring nodes with arrays, which costs little more than deciding for one;
the cohorts tick one after the other within the interval.

Up to `OWN_TICKS` nodes each are a cohort, with the very ticks of the emulation; more are one cohort of all, for speed.
That changes when in the interval a node samples, not how often.  It matters to a balancer that feeds back: where all
nodes notify at one instant, it never decides by a new state of one node and older ones of the others.  Five seeds of
``burst.yaml`` under static-min and ready-first lose 20.2 % with separate ticks, 18.9 % with a common one, and 20.6 % in
the emulation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from testbed.policies.brain import NodeBrain
from testbed.policies.forecast import MakeForecaster
from testbed.records.events import Floats, Ints
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.network import Network
from testbed.simulation.agenda import Do
from testbed.simulation.network_model import service_rates_bps

OWN_TICKS = 8
BRAIN = "brain"  # begins the name of every brain in the history


@dataclass(slots=True)
class Cohort:
    """Nodes that share a brain.

    Attributes:
        policy: the name of the brain in the history: ``brain``, ``brain:n1`` or ``brain:n1-n8``.
        rows: the nodes among all nodes.
        brain: decides for them.
        phase_ns: it ticks at phase + k × interval, k from 1.
        ticked_ns: when it did last.
        heard: what its brain was last told that the peers announce, shape [n].
        deflected: bytes and packets handed to siblings up to then.
        make_brain: gives a fresh brain, for another life.
        life, alive: how often it was killed, and whether it lives.
        stopped: it does nothing for now; `missed` is what fell due meanwhile.
    """

    policy: str
    rows: slice
    brain: NodeBrain
    phase_ns: int
    make_brain: Callable[[], NodeBrain]
    ticked_ns: int = 0
    heard: Floats = field(init=False)
    deflected: tuple[Ints, ...] = ()
    life: int = 0
    alive: bool = True
    stopped: bool = False
    missed: list[Do] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with peers that announce nothing."""
        self.heard = np.zeros(len(self.brain.nodes))


def make_brain(rows: slice, spec: BufferSpec, network: Network, make_forecaster: MakeForecaster) -> NodeBrain:
    """Return a fresh brain for some of the network's nodes."""
    nodes = tuple(node.name for node in network.nodes)
    rates = service_rates_bps(network)[rows]
    return NodeBrain(nodes[rows], spec, rates, make_forecaster(nodes[rows], rates), pool_members=len(nodes))


def default_cohorts(nodes: int) -> int:
    """Return how many cohorts a cluster has unless told otherwise."""
    return nodes if nodes <= OWN_TICKS else 1


def make_cohorts(
    spec: BufferSpec,
    network: Network,
    make_forecaster: MakeForecaster,
    count: int,
    apart: frozenset[str] = frozenset(),
) -> list[Cohort]:
    """Return `count` cohorts (at most one a node) in the order of the nodes, and one of its own for each of `apart`."""
    names = [node.name for node in network.nodes]
    count = min(count, len(names))
    edges = {len(names) * k // count for k in range(count + 1)}
    edges |= {row + after for row, name in enumerate(names) if name in apart for after in (0, 1)}
    parts = [slice(begin, end) for begin, end in itertools.pairwise(sorted(edges))]
    cohorts = []
    for k, rows in enumerate(parts):
        fresh = partial(make_brain, rows, spec, network, make_forecaster)
        policy = BRAIN if len(parts) == 1 and len(names) > 1 else f"{BRAIN}:{'-'.join(_ends(names[rows]))}"
        phase_ns = spec.sample_interval_ns * k // len(parts)
        cohorts.append(Cohort(policy, rows, fresh(), phase_ns, fresh))
    return cohorts


def rows_of(policy: str, nodes: tuple[str, ...]) -> slice:
    """Return which of all nodes the brain of that name decides for.

    Raises:
        ValueError: when no brain of these nodes has the name.
    """
    kind, _, ends = policy.partition(":")
    first, _, last = ends.partition("-")
    if kind != BRAIN or (ends and not {first, last or first} <= set(nodes)):
        raise ValueError(f"{policy} is no brain of these nodes")
    return slice(nodes.index(first), nodes.index(last or first) + 1) if ends else slice(0, len(nodes))


def _ends(names: list[str]) -> list[str]:
    """Return the first and the last name, once if they are one."""
    return list(dict.fromkeys((names[0], names[-1])))
