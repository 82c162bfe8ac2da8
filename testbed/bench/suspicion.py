"""How often a living node is declared dead: without disturbance, while nodes pause briefly, and on a busy machine.

Six nodes at 60 % load, watched for `count` minutes of node time (six nodes for one minute are six).  Nothing fails, so
whoever leaves was suspected falsely.  None in T minutes means at most 3 / T per node-minute at 95 % (Poisson), which is
what the note says.

The second row stops nodes (SIGSTOP) one after the other for less than 40 ms, at any phase of their heartbeats: a node
that was slow must not be declared dead.  The rival is the same mesh that lets only two heartbeats be missing, which
notices a crash sooner and pays with such suspicions.  In the third, twice as many processes as the machine has cores
burn CPU for more than half of the time.
"""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

from testbed.bench.rows import Row, row
from testbed.bench.trials import BenchTrials
from testbed.results.failover import false_suspicions

COUNT = 6  # minutes of node time
NODES = 6
_RATE_MBIT, _LOAD_RATIO = 20, 0.6
_RUN_MIN = 1.0  # the longest run: a machine that disturbs it costs no more
_PAUSES, _PAUSE_MS, _PAUSE_GAP_MS, _FIRST_MS = 60, 35, 200, 700
_HOGGED_MS, _HOG_MS = 10_000, 3000
_HASTY = {"misses": 2}


def run(count: int = COUNT) -> list[Row]:
    """Watch for `count` minutes of node time, and return the rows.

    Raises:
        ToolError: the machine disturbed every attempt at a run.
    """
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        trials = BenchTrials(Path(folder))
        calm, watched_min = _calm(trials, count)
        paused, hasty = (_paused(trials, mesh) for mesh in ({}, _HASTY))
        hogs = 2 * (os.cpu_count() or 1)
        hogged = _hogged(trials, hogs)
    bound = f"in {watched_min:.3g} node-minutes; at most {3 / watched_min:.2g} per node-minute at 95 %"
    note = f"in {_PAUSES} pauses of {_PAUSE_MS} ms"
    return [
        row("suspicion.calm", calm, "nodes", "<= 0", note=bound if not calm else bound.partition(";")[0]),
        row("suspicion.paused", paused, "nodes", "<= 0", "two heartbeats may be missing", hasty, note),
        row("suspicion.hogged", hogged, "nodes", "<= 0", note=f"{hogs} processes burning, {2 * _HOG_MS / 1000:g} s"),
    ]


def _calm(trials: BenchTrials, count: float) -> tuple[int, float]:
    """Return false suspicions, and the minutes of node time they were seen in."""
    suspected, left_min, seed = 0, float(count), 0
    while left_min > 0:
        seed += 1
        minutes = min(_RUN_MIN, left_min / NODES)
        said = f"calm, {count - left_min:.3g} of {count} node-minutes"
        suspected += false_suspicions(trials.believed(_scenario(minutes * 60_000), seed, said).lines)
        left_min -= minutes * NODES
    return suspected, count - left_min


def _paused(trials: BenchTrials, mesh: dict[str, int]) -> int:
    faults = plan_pauses(random.Random(1), NODES, _PAUSES)
    last_ms = _FIRST_MS + (_PAUSES + 1) * _PAUSE_GAP_MS
    scenario = {**_scenario(last_ms + 500), "mesh": mesh, "faults": faults}
    return false_suspicions(trials.believed(scenario, 1, f"{_PAUSES} pauses, {mesh or 'mesh as ever'}").lines)


def _hogged(trials: BenchTrials, hogs: int) -> int:
    starts_ms = (1000, 1000 + _HOGGED_MS // 2)
    faults = [{"at": f"{at_ms}ms", "cpu_hog": hogs, "for": f"{_HOG_MS}ms"} for at_ms in starts_ms]
    said = f"{hogs} processes burning CPU"
    return false_suspicions(trials.believed({**_scenario(_HOGGED_MS), "faults": faults}, 1, said).lines)


def plan_pauses(rng: random.Random, nodes: int, count: int) -> list[dict[str, str]]:
    """Return pauses of the nodes in turn, at random phases, one over before the next begins."""
    slack_ms = _PAUSE_GAP_MS - _PAUSE_MS
    times_ms = [_FIRST_MS + k * _PAUSE_GAP_MS + rng.uniform(0, slack_ms) for k in range(count)]
    return [
        {"at": f"{at_ms:.3f}ms", "pause": f"n{k % nodes + 1}", "for": f"{_PAUSE_MS}ms"}
        for k, at_ms in enumerate(times_ms)
    ]


def _scenario(duration_ms: float) -> dict[str, Any]:
    half = f"{NODES * _RATE_MBIT * _LOAD_RATIO / 2:g}Mbit"
    shapes = {"c1": "constant", "c2": "poisson"}
    return {
        "name": "bench-suspicion",
        "duration": f"{duration_ms:.3f}ms",
        "topology": {"family": "cluster", "nodes": NODES, "clients": 2, "node_rate": f"{_RATE_MBIT}Mbit"},
        "buffer": {"policy": "reactive", "min": "0.5MB", "max": "4MB"},
        "traffic": [
            {"name": shape, "from": client, "shape": shape, "rate": half, "flows": 200, "packet": "1000B"}
            for client, shape in shapes.items()
        ],
    }
