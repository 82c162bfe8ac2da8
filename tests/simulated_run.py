"""Simulated runs for tests: a scenario in few words, and its run directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testbed import topologies
from testbed.records.evidence import Evidence
from testbed.records.facts import RunFacts
from testbed.records.samples import by_node, table_of
from testbed.results.fidelity import judge
from testbed.results.run_directory import RunDirectory
from testbed.results.summary import summarise
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.simulation.engine import simulate
from testbed.traffic import plan_file
from testbed.traffic.plan import PacketPlan, make_plan
from testbed.traffic.streams import derived_seed
from testbed.trials.run import trial_plan


def scenario(
    policy: str = "reactive",
    *,
    balancer: str = "ready-first",
    nodes: int = 3,
    duration: str = "2s",
    seed: int = 1,
    node_rate: str = "20Mbit",
    base: str = "8Mbit",
    peak: str = "60Mbit",
    **buffer: Any,
) -> Scenario:
    """Return a base load and bursts that overload some node now and then; rates are those of the whole cluster."""
    bursts = {
        **{"name": "bursts", "from": "c2", "shape": "on-off", "peak": peak, "flows": 300},
        **{"on": {"pareto": {"mean": "80ms", "alpha": 1.5}}, "off": {"exponential": {"mean": "200ms"}}},
        "precursor": {"lead": "40ms", "strength": 0.3},
    }
    return Scenario.model_validate(
        {
            "version": 1,
            "name": "simulated",
            "seed": seed,
            "duration": duration,
            "topology": {"family": "cluster", "nodes": nodes, "clients": 2, "node_rate": node_rate},
            "buffer": {"policy": policy, "min": "0.05MB", "max": "1MB", **buffer},
            "balancer": {"policy": balancer, "affinity_idle": "1s"},
            "traffic": [{"name": "base", "from": "c1", "shape": "poisson", "rate": base, "flows": 60}, bursts],
        }
    )


class Recorded:
    """A recorder that keeps everything in memory."""

    def __init__(self) -> None:
        self.columns: list[dict[str, object]] = []
        self.events: list[dict[str, Any]] = []
        self.told: list[tuple[str, int]] = []

    def append_columns(self, columns: Any) -> None:
        self.columns.append(dict(columns))

    def append_event(self, t_ns: int, record: Any) -> None:
        self.events.append({"t_ns": t_ns, **record})

    def checkpoint(self) -> None:
        pass

    def waiting(self, what: str, for_ns: int) -> None:
        self.told.append((what, for_ns))

    def column(self, name: str) -> list[Any]:
        return [value for part in self.columns for value in part[name]]  # type: ignore[attr-defined]


@dataclass
class Simulated:
    scenario: Scenario
    network: Network
    plan: PacketPlan
    evidence: Evidence
    recorded: Recorded


def run(spec: Scenario, plan: PacketPlan | None = None, **options: Any) -> Simulated:
    """Simulate in memory."""
    network = topologies.describe(spec.topology)
    plan = plan or make_plan(spec, network, Path())
    recorded = Recorded()
    evidence = _simulate(spec, network, plan, recorded, **options)
    return Simulated(spec, network, plan, evidence, recorded)


def summary(run: Simulated) -> dict[str, Any]:
    """Return the summary of a run in memory."""
    facts = RunFacts.of(run.scenario, run.network, "simulation")
    rows = by_node(table_of({name: run.recorded.column(name) for name in run.recorded.columns[0]}))
    return summarise(facts, run.evidence, rows, run.recorded.events, judge(run.evidence, rows, facts))


def write(spec: Scenario, path: Path, **options: Any) -> Path:
    """Simulate into a run directory."""
    network = topologies.describe(spec.topology)
    plan = make_plan(spec, network, Path())
    manifest = {
        "facts": RunFacts.of(spec, network, "simulation").to_record(),
        "seeds": {"balancer": derived_seed(spec.seed, "balancer")},
    }
    directory = RunDirectory.create(path, manifest)
    directory.write_text("scenario.yaml", yaml.safe_dump(spec.resolved(), sort_keys=False))
    plan_file.write(plan, path / "plan.parquet")
    _simulate(spec, network, plan, directory, **options)
    directory.finish("completed")
    return path


def _simulate(spec: Scenario, network: Network, plan: PacketPlan, recorder: Any, **options: Any) -> Evidence:
    return simulate(trial_plan(spec, network, plan, Path("logs")), recorder, **options)
