"""What each part of the predictive buffer is worth: a scenario without it, in the simulation, with the same packets.

`PARTS` names the settings that leave a part out, or add the one that is left out by default.  Every trial of a seed
has the same packets.  A figure of an ablation is compared with that of the complete buffer seed by seed
(`results.differences`); Holm's correction is over all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from testbed import topologies
from testbed.records.engines import SIMULATION
from testbed.records.histogram import merged
from testbed.results.differences import Difference, difference, holm
from testbed.scenario import loading
from testbed.scenario.overrides import Setting
from testbed.traffic.plan import PacketPlan, make_plan
from testbed.trials import checks
from testbed.trials.in_memory import InMemory, simulated
from testbed.units import NS_PER_MS

COMPLETE = "complete (`lstm`)"
PARTS: Mapping[str, Mapping[str, Any]] = {
    COMPLETE: {},
    "no gate": {"buffer.options": {"gate": False}},
    "with calibration (`coverage: adaptive`)": {"buffer.options": {"coverage": "adaptive"}},
    "no precursors": {"buffer.precursor_gain": 0.0},
    "no precursors of peers": {"buffer.peers": False},
    "no LSTM: `holt` instead": {"buffer.policy": "holt"},
    "no LSTM, no forecast: `reactive`": {"buffer.policy": "reactive"},
}
FIGURES = ("loss, %", "p99 delay, ms", "reserved, MB·s", "cost, MB")
SEEDS = 10

Figures = tuple[float, ...]  # as `FIGURES`


def ablated(path: Path, seeds: int = SEEDS, note: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Return the figures of a scenario without each of `PARTS`, as JSON data.

    Args:
        path: of the scenario.
        seeds: how many, from 1 on.
        note: gets what is being done.

    Raises:
        InputError: on anything wrong with the scenario under one of the settings.
    """
    found: dict[str, list[Figures]] = {part: [] for part in PARTS}
    for seed in range(1, seeds + 1):
        note(f"{path.name}: seed {seed} of {seeds}")
        plan: PacketPlan | None = None  # the same for all: policies change no packet
        for part, settings in PARTS.items():
            trial = loading.load(path, _settings(settings), seed)
            checks.check(trial, SIMULATION)
            plan = plan or make_plan(trial.scenario, topologies.describe(trial.scenario.topology), path.parent)
            found[part].append(_figures(simulated(trial.scenario, plan)))
    return {
        "scenario": path.name if path.is_absolute() else path.as_posix(),
        "seeds": seeds,
        "figures": list(FIGURES),
        "parts": _compared(found),
    }


def _settings(settings: Mapping[str, Any]) -> list[Setting]:
    return [Setting("--ablations", key, value) for key, value in ({"buffer.policy": "lstm"} | dict(settings)).items()]


def _figures(trial: InMemory) -> Figures:
    nodes = trial.evidence.nodes
    arrived = sum(node.arrived_pkts - (node.deflected_in_pkts or 0) for node in nodes)
    delay = merged(node.delay for node in nodes)
    p99_ns = None if delay is None else delay.quantile_ns(0.99)
    loss = 100 * sum(node.dropped_pkts for node in nodes) / max(arrived, 1)
    return loss, (p99_ns or 0.0) / NS_PER_MS, trial.reserved_mb_s, trial.cost["cost"]


def _compared(found: Mapping[str, Sequence[Figures]]) -> list[dict[str, Any]]:
    """Return a row for each part: means, and differences to the complete buffer."""
    complete = found[COMPLETE]
    apart = {part: _differences(rows, complete) for part, rows in found.items() if part != COMPLETE}
    every = [one for differences in apart.values() for one in differences if one and one.p is not None]
    p_holm = dict(zip(map(id, every), holm([one.p or 0.0 for one in every]), strict=True))
    return [
        {
            "part": part,
            "means": [fmean(column) for column in zip(*rows, strict=True)],
            "differences": [_row(one, p_holm.get(id(one))) for one in apart.get(part, ())],
        }
        for part, rows in found.items()
    ]


def _differences(rows: Sequence[Figures], complete: Sequence[Figures]) -> list[Difference | None]:
    pairs = zip(zip(*rows, strict=True), zip(*complete, strict=True), strict=True)
    return [difference([a - b for a, b in zip(own, theirs, strict=True)]) for own, theirs in pairs]


def _row(found: Difference | None, p_holm: float | None) -> dict[str, float | None]:
    if found is None:
        return {"mean": None, "half_width": None, "p_holm": None}
    return {"mean": found.mean, "half_width": found.half_width, "p_holm": p_holm}
