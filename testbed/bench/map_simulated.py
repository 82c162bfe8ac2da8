"""Cells of the map in the simulation: each cell and seed is a process of its own, so they run on all processors.

``python -m testbed.bench.map_simulated OUT CELL SEED PAIR…`` runs one of them: every pair of policies with the same
packets, and writes the parts of their costs to a file in the folder OUT, which it makes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml

from testbed import output, topologies
from testbed.bench.map_cells import cells
from testbed.bench.map_weights import Pair, Parts
from testbed.errors import EXIT_INTERRUPTED, ToolError
from testbed.files import json_text, writing
from testbed.files.reading import Source
from testbed.scenario import loading
from testbed.scenario.model import Scenario
from testbed.system import allowance, places
from testbed.traffic.plan import PacketPlan, make_plan
from testbed.trials.child import Ended
from testbed.trials.in_memory import simulated
from testbed.trials.process import TrialCall, TrialProcesses

_COSTS = "costs.json"
_MODULE = "testbed.bench.map_simulated"


def costs(names: Sequence[str], pairs: Sequence[Pair], seeds: Sequence[int]) -> Iterator[dict[Pair, list[Parts]]]:
    """Yield the parts of the cost of every pair under each seed, in MB, for each cell in order.

    Raises:
        ToolError: a process failed.
        KeyboardInterrupt: it was interrupted.
    """
    with tempfile.TemporaryDirectory(prefix="testbed-map-") as name:
        calls = [call for cell in names for call in _calls(Path(name), cell, pairs, seeds)]
        trials = TrialProcesses(lambda: None, allowance.cores())
        with trials, closing(trials.in_order(calls)) as made:
            for cell in names:
                output.note(f"{cell} …")
                found = [_costs_in(*next(made)) for _ in seeds]
                yield {pair: [one[_name(pair)] for one in found] for pair in pairs}


def _name(pair: Pair) -> str:
    return " + ".join(pair)


def _calls(folder: Path, cell: str, pairs: Sequence[Pair], seeds: Sequence[int]) -> Iterator[TrialCall]:
    """Yield the calls that run a cell, one a seed; its scenario says how much memory each takes."""
    file = folder / "cell.yaml"
    file.write_text(yaml.safe_dump(cells()[cell]), encoding="utf-8")
    loaded = loading.load(file)
    for seed in seeds:
        out = folder / f"{cell}-{seed}"
        words = (str(out), cell, str(seed), *map(_name, pairs))
        yield TrialCall(f"{cell}, seed {seed}", words, out, loaded, _MODULE)


def _costs_in(call: TrialCall, ended: Ended) -> dict[str, Parts]:
    if ended.exit_code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if ended.exit_code:
        raise ToolError(f"measuring {call.name}", ended.said or f"its process ended with {ended.exit_code}")
    return json_text.read_object(Source(call.out / _COSTS, "repeat the command"))


def with_policies(data: Mapping[str, Any], pair: Pair, seed: int) -> Scenario:
    """Return the scenario of a cell under a pair of policies."""
    balancer, buffer = pair
    chosen = {"balancer": {"policy": balancer}, "buffer": {**data["buffer"], "policy": buffer}}
    return Scenario.model_validate({**data, **chosen, "seed": seed})


def _measured(data: Mapping[str, Any], pairs: Iterable[Pair], seed: int) -> dict[str, Parts]:
    """Return the parts of the cost of every pair under a seed, in MB."""
    plan: PacketPlan | None = None  # the same for all: policies change no packet
    found = {}
    for pair in pairs:
        scenario = with_policies(data, pair, seed)
        if plan is None:
            plan = make_plan(scenario, topologies.describe(scenario.topology), places.scenarios())
        found[_name(pair)] = simulated_cost(scenario, plan)
    return found


def simulated_cost(scenario: Scenario, plan: PacketPlan) -> Parts:
    """Return the cost of a simulated run without faults in its parts, in MB."""
    return simulated(scenario, plan, cohorts=1).cost


def _main(folder: str, cell: str, seed: str, *names: str) -> None:
    pairs = [(balancer, buffer) for balancer, _, buffer in (name.partition(" + ") for name in names)]
    made = _measured(cells()[cell], pairs, int(seed))
    writing.replace_json(writing.folder(Path(folder)) / _COSTS, made, durable=False)


if __name__ == "__main__":
    _main(*sys.argv[1:])
