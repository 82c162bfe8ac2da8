"""How fast a node that fails loses its traffic to the others: silent crashes and links that go down, many of each.

In every run nodes fail and come back one after the other, at seeded times that fall on any phase of the heartbeats, of
the agents' ticks and of the balancer's turns.  All times count from the command of the fault (see `results.failover`):

    detected    the balancer took the node for gone
    rerouted    the switch confirmed by barrier that new packets go elsewhere
    recovered   the last packet that was lost was to be sent
    lost        packets of the node's flows that were delivered nowhere

The rival is the same cluster without the mesh: heartbeats are silenced, so that only missing notifications tell the
balancer of a silent node.  It cannot see a link to the clients go down, since notifications take another way; there the
rival is the silent crash.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from testbed.bench.rows import Row, percentile, row
from testbed.bench.trials import BenchTrials
from testbed.errors import ToolError
from testbed.results.failover import Failure, failures, false_suspicions

COUNT = 100  # of each kind
NODES = 6
_FAULTS = 20  # a run, half of them of each kind
_FIRST_MS, _PHASE_MS, _AFTER_MS = 700, 100, 500
_LASTS_MS, _GAP_MS = 500, 800  # the balancer takes a node back 100 ms after it is heard again
_RIVAL_COUNT, _RIVAL_LASTS_MS, _RIVAL_GAP_MS = 10, 800, 1300
_RESTS = 3  # a node is hit again after so many others
_NO_MESH = {"heartbeat": "1h"}
_MOST_LEFT_OUT = 0.5
_FIGURES = {"detected_ms": "ms", "rerouted_ms": "ms", "recovered_ms": "ms", "lost_pkts": "packets"}
_PARTS = {"p50": 0.5, "p99": 0.99, "max": 1.0}
_BARS = {
    ("crash", "rerouted_ms", "p50"): "<= 60",
    ("crash", "rerouted_ms", "max"): "<= 100",
    ("link_down", "rerouted_ms", "p99"): "<= 10",
}


@dataclass(slots=True)
class Collected:
    """What many runs gave.

    Attributes:
        failures: all of them, in order.
        suspected: nodes that were declared dead without a cause.
    """

    failures: list[Failure] = field(default_factory=list)
    suspected: int = 0

    def of(self, what: str) -> list[Failure]:
        """Return the failures of one kind."""
        return [failure for failure in self.failures if failure.what == what]

    def figures(self, what: str, name: str) -> list[float]:
        """Return a figure of every failure of a kind that has it."""
        found = (getattr(failure, name) for failure in self.of(what))
        return [float(value) for value in found if value is not None]


def run(count: int = COUNT) -> list[Row]:
    """Measure `count` silent crashes and as many links that go down, and return the rows.

    Raises:
        ToolError: the machine disturbs more runs than it leaves alone.
    """
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        trials, rivals = BenchTrials(Path(folder)), BenchTrials(Path(folder))
        ours = collect(trials, count)
        theirs = _collect_rival(rivals, min(count, _RIVAL_COUNT))
    rows = [made for what in ("crash", "link_down") for made in _rows_of(what, ours, theirs, trials.note)]
    bound = f"none in {len(ours.failures)} failures" if not ours.suspected else ""
    missed = sum(failure.rerouted_ms is None for failure in ours.failures)
    return [
        *rows,
        row("failover.not_rerouted", missed, "failures", "<= 0", note=f"of {len(ours.failures)}"),
        row("failover.false_suspicions", ours.suspected, "nodes", "<= 0", note=bound),
        row("failover.runs_left_out", len(trials.left_out), "runs", note=trials.note),
    ]


def collect(trials: BenchTrials, count: int, nodes: int = NODES) -> Collected:
    """Run trials until `count` failures of each kind were seen.

    Raises:
        ToolError: the machine disturbs more runs than it leaves alone.
    """
    found = Collected()
    for seed in _seeds(trials):
        done = min(len(found.of("crash")), len(found.of("link_down")))
        if done >= count:
            break
        said = f"{len(found.of('crash'))} of {count} crashes, {len(found.of('link_down'))} of {count} links down"
        each = min(_FAULTS // 2, count - done)
        faults = plan_faults(random.Random(seed), nodes, ["crash", "link_down"] * each, _LASTS_MS, _GAP_MS)
        _take(found, trials, _scenario(nodes, faults), seed, said)
    return found


def _collect_rival(trials: BenchTrials, count: int) -> Collected:
    found = Collected()
    for seed in _seeds(trials):
        if len(found.of("crash")) >= count:
            break
        faults = plan_faults(random.Random(seed), NODES, ["crash"] * count, _RIVAL_LASTS_MS, _RIVAL_GAP_MS)
        said = f"without the mesh: {len(found.of('crash'))} of {count} crashes"
        _take(found, trials, {**_scenario(NODES, faults), "mesh": _NO_MESH}, seed, said)
    return found


def _take(found: Collected, trials: BenchTrials, scenario: dict[str, Any], seed: int, said: str) -> None:
    trial = trials.run(scenario, seed, said)
    if trial is not None:
        found.failures += failures(trial.lines)
        found.suspected += false_suspicions(trial.lines)


def _seeds(trials: BenchTrials) -> Iterator[int]:
    """Yield 1, 2, … as long as most runs may be believed."""
    seed = 0
    while True:
        if len(trials.left_out) > 2 + _MOST_LEFT_OUT * (trials.kept + len(trials.left_out)):
            happened = f"{trials.note}, the last one for: {trials.left_out[-1]}"
            raise ToolError("measuring failover", happened, "stop other work on this machine")
        seed += 1
        yield seed


def plan_faults(rng: random.Random, nodes: int, kinds: list[str], lasts_ms: int, gap_ms: int) -> list[dict[str, str]]:
    """Return faults in random order, on random nodes, at random phases; each is over before the next begins.

    Args:
        rng: the randomness.
        nodes: how many there are.
        kinds: of fault, one each.
        lasts_ms: how long each lasts.
        gap_ms: at least so far apart.
    """
    faults: list[dict[str, str]] = []
    victims: list[int] = []
    for number, kind in enumerate(rng.sample(kinds, len(kinds))):
        resting = victims[-min(_RESTS, nodes - 1) :]
        victims.append(rng.choice([node for node in range(1, nodes + 1) if node not in resting]))
        at_ms = _FIRST_MS + number * (gap_ms + _PHASE_MS) + rng.uniform(0, _PHASE_MS)
        target = f"s1-n{victims[-1]}" if kind == "link_down" else f"n{victims[-1]}"
        faults.append({"at": f"{at_ms:.3f}ms", kind: target, "for": f"{lasts_ms}ms"})
    return faults


def _scenario(nodes: int, faults: list[dict[str, str]]) -> dict[str, Any]:
    """Return a steady load, light and dense: one node less carries it, and the end of a loss is seen to 1 ms."""
    last_ms = max(float(fault["at"].removesuffix("ms")) for fault in faults)
    return {
        "name": "bench-failover",
        "duration": f"{last_ms + _RIVAL_LASTS_MS + _AFTER_MS:.3f}ms",
        "topology": {"family": "cluster", "nodes": nodes, "clients": 2, "node_rate": "40Mbit"},
        "buffer": {"policy": "reactive", "min": "0.5MB", "max": "4MB"},
        "traffic": [
            {"name": "base", "from": "c1", "shape": "constant", "rate": "12Mbit", "flows": 100, "packet": "500B"},
            {"name": "more", "from": "c2", "shape": "poisson", "rate": "12Mbit", "flows": 100, "packet": "500B"},
        ],
        "faults": faults,
    }


def _rows_of(what: str, ours: Collected, theirs: Collected, note: str) -> Iterator[Row]:
    rival, of = ("without the mesh", theirs.figures) if what == "crash" else ("the silent crash", ours.figures)
    for name, unit in _FIGURES.items():
        values, others = ours.figures(what, name), of("crash", name)
        for part, ratio in _PARTS.items():
            other = percentile(others, ratio) if others else None
            title = f"failover.{what}.{name.removesuffix('_ms').removesuffix('_pkts')}.{part}"
            bar, stands_on = _BARS.get((what, name, part), ""), f"{len(values)} of {note}"
            yield row(title, percentile(values, ratio), unit, bar, rival, other, stands_on)
