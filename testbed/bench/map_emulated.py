"""Cells of the map in the emulation, with the same packets under every pair.

Every run is judged by its verdict; one that is INVALID is carried out a second time, and then left out.  Costs are kept
in a file as they are measured, so that a second call continues where the first one ended: with the runs that are
missing, and with those of cells that have changed since.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed import output
from testbed.bench.map_cells import cells
from testbed.bench.map_weights import Pair
from testbed.bench.trials import BenchTrials
from testbed.files import json_text, records, writing
from testbed.files.reading import Source
from testbed.trials.run import RUNS

FIVE = (
    "few flows, unequal",
    "elephants, unequal",
    "recurring, unequal",
    "heavy tail, unequal",
    "overload, unequal",
)
SEEDS = 5
KEPT = RUNS / "bench-map-emulation.json"
_ATTEMPTS = 2
_MAX_BYTES = 10**7
_PARTS = ("loss", "delay", "memory")

Parts = dict[str, float]


class _PartsForm(records.Form):
    loss: records.Figure
    delay: records.Figure
    memory: records.Figure


class _KeptForm(records.Form):
    runs: dict[records.Name, _PartsForm]


class EmulatedCosts:
    """The costs of emulated runs, those of earlier calls included.

    Args:
        path: the file that keeps them.

    Raises:
        InputError: the file is damaged.
    """

    def __init__(self, path: Path = KEPT) -> None:
        self._path = path
        source = Source(path, "delete it; its runs are then measured again", "resuming `bench map`")
        self._known: dict[str, Any] = json_text.read_object(source, _MAX_BYTES) if source.exists() else {}
        records.check({"runs": self._known}, _KeptForm, source)

    def of_cell(
        self, name: str, data: Mapping[str, Any], pairs: Sequence[Pair], seeds: Iterable[int]
    ) -> dict[Pair, list[Parts]]:
        """Return the parts of the cost of every pair, over the seeds under which each pair has a valid run."""
        found: dict[Pair, list[Parts]] = {pair: [] for pair in pairs}
        for seed in seeds:
            costs = [self._cost(name, _with_pair(data, pair), seed) for pair in pairs]
            if all(cost is not None for cost in costs):
                for pair, cost in zip(pairs, costs, strict=True):
                    found[pair].append(cost or {})
        return found

    def _cost(self, name: str, scenario: Mapping[str, Any], seed: int) -> Parts | None:
        key = key_of(scenario, seed)
        if key not in self._known:
            cost = _emulated(name, scenario, seed)
            if cost is None:
                return None
            self._known[key] = cost
            writing.folder(self._path.parent)
            writing.replace_json(self._path, self._known)
        return {part: float(self._known[key][part]) for part in _PARTS}


def costs(names: Sequence[str], pairs: Sequence[Pair], seeds: Sequence[int]) -> Iterator[dict[Pair, list[Parts]]]:
    """Yield the parts of the cost of every pair for each cell in order, as `EmulatedCosts.of_cell` has them.

    Raises:
        InputError: the file of costs is damaged.
    """
    kept = EmulatedCosts()
    for name in names:
        output.note(f"{name} …")
        yield kept.of_cell(name, cells()[name], pairs, seeds)


def key_of(scenario: Mapping[str, Any], seed: int) -> str:
    """Return what a run is kept under: everything that decides its packets and policies."""
    return hashlib.sha256(json.dumps([scenario, seed], sort_keys=True).encode()).hexdigest()


def _with_pair(data: Mapping[str, Any], pair: Pair) -> dict[str, Any]:
    balancer, buffer = pair
    return {**data, "balancer": {"policy": balancer}, "buffer": {**data["buffer"], "policy": buffer}}


def _emulated(name: str, scenario: Mapping[str, Any], seed: int) -> Parts | None:
    pair = f"{scenario['balancer']['policy']} + {scenario['buffer']['policy']}"
    with tempfile.TemporaryDirectory(prefix="testbed-map-") as folder:
        trials = BenchTrials(Path(folder))
        for _ in range(_ATTEMPTS):
            trial = trials.run(scenario, seed, f"{name}: {pair}, seed {seed}")
            if trial is not None:
                return {part: float(trial.summary["objective"][part]) for part in _PARTS}
    return None
