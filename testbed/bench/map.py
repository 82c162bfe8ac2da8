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

import numpy as np

from testbed import output
from testbed.bench import map_cells, map_emulated, map_simulated, map_weights
from testbed.bench.map_weights import Pair, Parts, weighed
from testbed.bench.rows import Row, row
from testbed.errors import InputError, ToolError
from testbed.records.engines import EMULATION, SIMULATION
from testbed.results.confidence import Estimate, estimate

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
        ToolError: no cell has valid runs.
    """
    if engine not in (SIMULATION, EMULATION):
        raise InputError(f"bench map --engine {engine}", "unknown engine", f"use {SIMULATION} or {EMULATION}")
    chosen = _cells_of(cells or ("five" if engine == EMULATION else "all"))
    names = [name for name in map_cells.cells() if name in chosen and only in name]
    seeds = range(1, (count or (map_emulated.SEEDS if engine == EMULATION else SEEDS)) + 1)
    pairs = zip(names, _costs(names, engine, seeds), strict=True)
    rows = [_row(name, costs, weights=weights) for name, costs in pairs if _has_runs(name, costs)]
    if names and not rows:
        happened = "no seed has a valid run under each pair of policies"
        raise ToolError("measuring the map", happened, "stop other work on this machine, and repeat the command")
    return rows


def _costs(names: Sequence[str], engine: str, seeds: Sequence[int]) -> Iterator[Mapping[Pair, Sequence[Parts]]]:
    """Return the parts of the cost of every pair under each seed, for each cell in order."""
    if engine == EMULATION:
        return map_emulated.costs(names, EMULATED, seeds)
    return map_simulated.costs(names, (OURS, *RIVALS, *ABLATIONS), seeds)


def _has_runs(name: str, costs: Mapping[Pair, Sequence[Parts]]) -> bool:
    if not costs[OURS]:
        output.note(f"{name} is left out: no seed has a valid run under each pair of policies")
    return bool(costs[OURS])


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
