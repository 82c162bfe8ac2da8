"""A cohort in virtual time: nodes that tick together, their brain, and the number of their present life.

`policies.cohorts` defines which nodes share a cohort.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from testbed.policies.brain import NodeBrain
from testbed.policies.cohorts import divided, make_brain
from testbed.policies.forecast import MakeForecaster
from testbed.records.events import Floats, Ints
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.network import Network
from testbed.simulation.agenda import Do


@dataclass(slots=True)
class Cohort:
    """Nodes that share a brain.

    Attributes:
        policy: the name of the brain in the history: ``brain``, ``brain:n1`` or ``brain:n1-n8``.
        rows: the nodes among all nodes.
        brain: decides for them.
        phase_ns: it ticks at phase + k × interval, k from 1.
        ticked_ns: when it did last.
        heard: the severity of the peers that its brain received last, shape [n].
        edition: of the peers' severities that was in.
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
    edition: int = -1
    deflected: tuple[Ints, ...] = ()
    life: int = 0
    alive: bool = True
    stopped: bool = False
    missed: list[Do] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with peers that announce nothing."""
        self.heard = np.zeros(len(self.brain.nodes))


def make_cohorts(
    spec: BufferSpec,
    network: Network,
    make_forecaster: MakeForecaster,
    count: int | None = None,
    apart: frozenset[str] = frozenset(),
) -> list[Cohort]:
    """Return the cohorts of a network with fresh brains; `count` and `apart` as in `policies.cohorts.divided`."""
    names = tuple(node.name for node in network.nodes)
    cohorts = []
    for part in divided(names, spec.sample_interval_ns, count, apart):
        fresh = partial(make_brain, part.rows, spec, network, make_forecaster)
        cohorts.append(Cohort(part.policy, part.rows, fresh(), part.phase_ns, fresh))
    return cohorts
