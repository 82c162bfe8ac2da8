"""Where does cooperation pay?  Every cell of `map_cells` under pairs of balancer and buffer, with the same packets.

The figure is the cost of a run (`scenario.objective`: lost bytes, late byte-seconds and reserved byte-seconds in MB),
in the simulation.  A row compares `OURS` with the best of `RIVALS` in that cell, none of which predicts: the best one
is chosen by its mean over the same seeds, so the comparison favours the rivals.  The interval is that of the mean of
the differences seed by seed (Student t, 95 %).  `ABLATIONS` say what the parts of ours are worth: without the state of
the nodes (`turns`), with forecasts (`lstm`), and what was the default before.

All nodes sample at the same time here (one cohort), which takes half the time of samples that are spread over the
interval, as `simulate` has them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from testbed import output, topologies
from testbed.bench import map_cells, map_emulated, map_weights
from testbed.bench.map_weights import Parts, weighed
from testbed.bench.rows import Row, row
from testbed.errors import InputError
from testbed.records.engines import EMULATION, SIMULATION
from testbed.records.facts import RunFacts
from testbed.records.samples import by_node, table_of
from testbed.results.confidence import Estimate, estimate
from testbed.results.objective import objective_section
from testbed.results.reserved import reserved_byte_ns
from testbed.scenario.model import Scenario
from testbed.simulation.engine import simulate
from testbed.system import places
from testbed.traffic.plan import PacketPlan, make_plan
from testbed.trials.run import trial_plan
from testbed.units import NS_PER_S

Pair = tuple[str, str]  # balancer, buffer

SEEDS = 10
OURS: Pair = ("cooperative", "reactive")
RIVALS: tuple[Pair, ...] = (
    ("round-robin", "reactive"),
    ("by-rate", "reactive"),
    ("two-choices", "reactive"),
    ("least-loaded", "reactive"),
    ("by-rate", "bdp"),
)
ABLATIONS: tuple[Pair, ...] = (("turns", "reactive"), ("cooperative", "lstm"), ("ready-first", "lstm"))
# In the emulation a run takes seconds of real time: there ours meets the rivals that are the best of most cells.
EMULATED: tuple[Pair, ...] = (OURS, RIVALS[0], RIVALS[2], RIVALS[4])
BETTER_RATIO = 0.15  # of the rival's cost: what a row has to save to be better
_MB = 10**6


class _Samples:
    """Keeps the samples of a run, as a writer of the engine."""

    def __init__(self) -> None:
        self.columns: list[Mapping[str, Any]] = []

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """Keep rows."""
        self.columns.append(columns)

    def append_event(self, t_ns: int, record: Mapping[str, Any]) -> None:
        """Keep nothing: the cost is that of samples and counts."""

    def checkpoint(self) -> None:
        """Do nothing: no file is written."""


def run(
    count: int | None = None,
    only: str = "",
    engine: str = SIMULATION,
    cells: str = "",
    weights: bool = False,
) -> list[Row]:
    """Measure and return a row for each cell.

    Args:
        count: seeds of each cell; default `SEEDS`, in the emulation `map_emulated.SEEDS`.
        only: cells whose names contain this text.
        engine: which engine carries the runs out; the emulation takes fewer pairs.
        cells: ``five`` for the cells `map_emulated.FIVE`, the default in the emulation; ``all`` for all.
        weights: also rank the pairs under other weights of the cost.

    Raises:
        InputError: there is no such set of cells, or no such engine.
    """
    if engine not in (SIMULATION, EMULATION):
        raise InputError(f"bench map --engine {engine}", "unknown engine", f"use {SIMULATION} or {EMULATION}")
    names = _cells_of(cells or ("five" if engine == EMULATION else "all"))
    emulated = map_emulated.EmulatedCosts() if engine == EMULATION else None
    seeds = range(1, (count or (map_emulated.SEEDS if emulated else SEEDS)) + 1)
    rows = []
    for name, data in map_cells.cells().items():
        if name in names and only in name:
            output.note(f"{name} …")
            costs = emulated.of_cell(name, data, EMULATED, seeds) if emulated else _costs(data, seeds)
            if costs[OURS]:
                rows.append(_row(name, costs, weights=weights))
    return rows


def _cells_of(chosen: str) -> Collection[str]:
    sets: dict[str, Collection[str]] = {"all": list(map_cells.cells()), "five": map_emulated.FIVE}
    if chosen not in sets:
        raise InputError(f"bench map --cells {chosen}", "unknown set", f"use {' or '.join(sets)}")
    return sets[chosen]


def table(rows: Iterable[Row]) -> Iterator[Sequence[str]]:
    """Yield the head and a line for each row."""
    rows = list(rows)
    if rows and "rankings" in rows[0]:
        yield from map_weights.table(rows)
        return
    ablations = [name for pair in ABLATIONS if (name := " + ".join(pair)) in (rows[0]["costs"] if rows else ())]
    yield ("cell", "cost of ours", "best other pair", "its cost", "saved", "difference", "finding", *ablations)
    for found in rows:
        saved = "" if found["ratio"] is None else f"{1 - found['ratio']:.0%}"
        others = [f"{found['costs'][name]:.3g}" for name in ablations]
        name = str(found["name"]).removeprefix("map.")
        ours, rival = f"{found['value']:.3g}", f"{found['rival_value']:.3g}"
        yield (name, ours, found["rival"], rival, saved, found["difference"], found["note"], *others)


def _row(name: str, parts: Mapping[Pair, Sequence[Parts]], *, weights: bool) -> Row:
    costs = {pair: [weighed(one) for one in found] for pair, found in parts.items()}
    mean = {pair: float(np.mean(found)) for pair, found in costs.items()}
    best = min((pair for pair in RIVALS if pair in mean), key=mean.__getitem__)
    apart = estimate([ours - theirs for ours, theirs in zip(costs[OURS], costs[best], strict=True)])
    finding, difference = _finding(apart, mean[best])
    return {
        **row(f"map.{name}", mean[OURS], "MB", "", " + ".join(best), mean[best], finding),
        "difference": difference,
        "costs": {" + ".join(pair): cost for pair, cost in mean.items()},
        "seeds": len(costs[OURS]),
        **({"ours": " + ".join(OURS), "rankings": map_weights.rankings(parts)} if weights else {}),
    }


def _finding(apart: Estimate | None, rival_cost: float) -> tuple[str, str]:
    """Return what a difference says, and how it is written; one seed says nothing."""
    if apart is None or apart.half_width is None:
        return "one seed", ""
    written = f"{apart.mean:+.3g} ± {apart.half_width:.2g}"
    if abs(apart.mean) <= apart.half_width:
        return "not significant", written
    if apart.mean > 0:
        return "worse", written
    return ("better" if -apart.mean >= BETTER_RATIO * rival_cost else "slightly better"), written


def _costs(data: Mapping[str, Any], seeds: Iterable[int]) -> dict[Pair, list[Parts]]:
    """Return the parts of the cost of every pair under each seed, in MB."""
    pairs = (OURS, *RIVALS, *ABLATIONS)
    costs: dict[Pair, list[Parts]] = {pair: [] for pair in pairs}
    for seed in seeds:
        plan: PacketPlan | None = None  # the same for all: policies change no packet
        for pair in pairs:
            scenario = _with_policies(data, pair, seed)
            if plan is None:
                plan = make_plan(scenario, topologies.describe(scenario.topology), places.scenarios())
            costs[pair].append(simulated_cost(scenario, plan))
    return costs


def _with_policies(data: Mapping[str, Any], pair: Pair, seed: int) -> Scenario:
    balancer, buffer = pair
    chosen = {"balancer": {"policy": balancer}, "buffer": {**data["buffer"], "policy": buffer}}
    return Scenario.model_validate({**data, **chosen, "seed": seed})


def simulated_cost(scenario: Scenario, plan: PacketPlan) -> Parts:
    """Return the cost of a simulated run without faults in its parts, as its summary has them, without writing it."""
    network, writer = topologies.describe(scenario.topology), _Samples()
    evidence = simulate(trial_plan(scenario, network, plan, Path("logs")), writer, cohorts=1)
    columns = {
        name: np.concatenate([part[name] for part in writer.columns]) for name in writer.columns[0] if name != "node"
    }
    nodes = [node for part in writer.columns for node in part["node"]]
    rows = by_node(table_of({"node": nodes, **columns}))
    facts = RunFacts.of(scenario, network, "simulation")
    end_ns = min(evidence.ran_ns, facts.duration_ns)
    reserved = sum(reserved_byte_ns(rows[node], (), facts.floor_bytes, end_ns) for node in rows) / _MB / NS_PER_S
    return objective_section(facts, evidence, rows, {}, reserved)
