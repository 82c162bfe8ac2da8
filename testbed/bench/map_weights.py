"""Does the map hang on the weights of the cost?  The pairs of each cell ranked again under other weights.

The loss is the unit of the cost, so two weights are free: those of delay and memory.  Each is taken at a quarter, at
once and at four times what the scenario says, the other at once.  The parts of the cost are known from the runs, so no
run is repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

Pair = tuple[str, str]
Parts = Mapping[str, float]

FACTORS = {
    "as they are": (1.0, 1.0),
    "delay × 1/4": (0.25, 1.0),
    "delay × 4": (4.0, 1.0),
    "memory × 1/4": (1.0, 0.25),
    "memory × 4": (1.0, 4.0),
}


def weighed(parts: Parts, delay: float = 1.0, memory: float = 1.0) -> float:
    """Return the cost of a run with the weights of delay and memory multiplied."""
    return parts["loss"] + delay * parts["delay"] + memory * parts["memory"]


def rankings(costs: Mapping[Pair, Sequence[Parts]]) -> dict[str, list[dict[str, Any]]]:
    """Return, for each change of the weights, the pairs from the lowest mean cost on, each with that cost in MB."""
    found = {}
    for name, factors in FACTORS.items():
        mean = {pair: float(np.mean([weighed(one, *factors) for one in runs])) for pair, runs in costs.items()}
        ordered = sorted(mean, key=mean.__getitem__)
        found[name] = [{"pair": " + ".join(pair), "cost": mean[pair]} for pair in ordered]
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """Yield the head and a line for each cell and change of the weights."""
    yield ("cell", "weights", "best", "second", "third", "rank of ours", "its cost over the best")
    for row in rows:
        for name, ranked in row["rankings"].items():
            places = [one["pair"] for one in ranked]
            place = places.index(row["ours"])
            ratio = ranked[place]["cost"] / ranked[0]["cost"] if ranked[0]["cost"] else 1.0
            head = (str(row["name"]).removeprefix("map."), name, *(*places, "", "")[:3])
            yield (*head, f"{place + 1} of {len(places)}", f"{ratio:.2f}")
