"""A trial of the simulation whose samples stay in memory: for figures over many trials that nobody will open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from testbed import topologies
from testbed.records.engines import SIMULATION
from testbed.records.evidence import Evidence
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples, by_node, table_of
from testbed.results.objective import objective_section
from testbed.results.reserved import reserved_byte_ns
from testbed.scenario.model import Scenario
from testbed.simulation.engine import simulate
from testbed.traffic.plan import PacketPlan
from testbed.trials.run import trial_plan
from testbed.units import NS_PER_S

_MB = 10**6


@dataclass
class _Samples:
    """Keeps the samples of a run, as a writer of the engine."""

    columns: list[Mapping[str, Any]] = field(default_factory=list)

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """Keep rows."""
        self.columns.append(columns)

    def append_event(self, t_ns: int, record: Mapping[str, Any]) -> None:
        """Keep nothing: the figures are those of samples and counts."""

    def checkpoint(self) -> None:
        """Do nothing: no file is written."""


@dataclass(frozen=True)
class InMemory:
    """A simulated trial without faults.

    Attributes:
        facts: of its scenario.
        evidence: its counts.
        samples: by node.
    """

    facts: RunFacts
    evidence: Evidence
    samples: Mapping[str, NodeSamples]

    @property
    def reserved_mb_s(self) -> float:
        """Return the memory that all nodes reserved over the time of traffic, as `buffer.reserved_mb_s`."""
        end_ns = min(self.evidence.ran_ns, self.facts.duration_ns)
        rows = self.samples.values()
        return sum(reserved_byte_ns(row, (), self.facts.floor_bytes, end_ns) for row in rows) / _MB / NS_PER_S

    @property
    def cost(self) -> dict[str, float]:
        """Return the cost and its parts in MB, as `objective` in a summary."""
        return objective_section(self.facts, self.evidence, self.samples, {}, self.reserved_mb_s)


def simulated(scenario: Scenario, plan: PacketPlan, cohorts: int | None = None) -> InMemory:
    """Return a simulated trial of a scenario with the packets of `plan`; `cohorts` as for `simulate`."""
    network, writer = topologies.describe(scenario.topology), _Samples()
    evidence = simulate(trial_plan(scenario, network, plan, Path("logs")), writer, cohorts=cohorts)
    columns = {
        name: np.concatenate([part[name] for part in writer.columns]) for name in writer.columns[0] if name != "node"
    }
    nodes = [node for part in writer.columns for node in part["node"]]
    return InMemory(RunFacts.of(scenario, network, SIMULATION), evidence, by_node(table_of({"node": nodes, **columns})))
