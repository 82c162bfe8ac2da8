"""Do more nodes carry more?  And how evenly does each balancer policy load them?

**Efficiency.**  Clusters of n equal, rate-limited nodes are offered half as much again as all of them can serve, so
that every node is busy although the hash deals flows unevenly.  With T(n) the goodput, the efficiency is
T(n) / (n · T(1)): 1 when nothing but the nodes' own rate limits.  The rival is one node with n times the rate, which
has nothing to balance.

**What this machine carries.**  The largest cluster is given faster and faster nodes until a run's verdict, or its
efficiency, says that it was the machine (the userspace switch, the processors) and no longer the nodes that limited it.

**Imbalance.**  200 flows that last and 100 new ones a burst, at 60 % load under every policy, the same packets for all.
Imbalance is the bytes of the busiest node over the mean of all; 1 is even.  Flows that last were placed by the hash
before anything was known of them: 200 on four nodes are off by 12 % of a node's share (one standard deviation of the
binomial distribution), 400 by 9 %, and a policy can only make up for it with new flows.  Hence `headroom` at 400, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from testbed.bench.rows import Row, row
from testbed.bench.trials import BenchTrials
from testbed.scenario.tables import BALANCER_POLICIES

SIZES = (1, 2, 3, 4, 6)
SEEDS = 3
EFFICIENT = 0.97
_RATE_MBIT = 20
_OVERLOAD = 1.5
_FASTER = 1.5
_FASTEST_MBIT = 400
_BALANCED_NODES, _FLOWS = 4, 200


def run(seeds: int = SEEDS) -> list[Row]:
    """Measure, the imbalance under `seeds` seeds, and return the rows.

    Raises:
        ToolError: the machine disturbed every attempt at a run.
    """
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        trials = BenchTrials(Path(folder))
        return [*_efficiency(trials), *_carried(trials), *_imbalance(trials, seeds)]


def _efficiency(trials: BenchTrials) -> Iterator[Row]:
    one_bps = _goodput_bps(trials, 1, _RATE_MBIT)
    for nodes in SIZES:
        many_bps = one_bps if nodes == 1 else _goodput_bps(trials, nodes, _RATE_MBIT)
        large_bps = one_bps if nodes == 1 else _goodput_bps(trials, 1, nodes * _RATE_MBIT)
        rival = f"one node of {nodes * _RATE_MBIT} Mbit/s"
        yield row(f"scale.goodput.{nodes}", many_bps / 1e6, "Mbit/s", "", rival, large_bps / 1e6)
        yield row(
            f"scale.efficiency.{nodes}", many_bps / nodes / one_bps, "ratio", f">= {EFFICIENT}", rival,
            large_bps / nodes / one_bps,
        )  # fmt: skip


def _carried(trials: BenchTrials) -> Iterator[Row]:
    """Yield what the largest cluster carries on this machine, and what ended it."""
    nodes, carried_bps, rate_mbit = SIZES[-1], 0.0, float(_RATE_MBIT)
    ended = f"no limit found up to {_FASTEST_MBIT} Mbit/s per node"
    while (rate_mbit := rate_mbit * _FASTER) < _FASTEST_MBIT:
        trial = trials.run(_overloaded(nodes, rate_mbit), 1, f"{nodes} nodes of {rate_mbit:g} Mbit/s")
        if trial is None:
            ended = f"at {nodes} x {rate_mbit:g} Mbit/s INVALID: {trials.left_out[-1]}"
            break
        goodput_bps = float(trial.summary["traffic"]["goodput_bps"])
        if goodput_bps < EFFICIENT * nodes * rate_mbit * 1e6:
            ended = f"at {nodes} x {rate_mbit:g} Mbit/s goodput is {goodput_bps / 1e6:.0f} Mbit/s"
            break
        carried_bps = goodput_bps
    yield row(f"scale.carried.{nodes}", carried_bps / 1e6, "Mbit/s", note=ended)


def _imbalance(trials: BenchTrials, seeds: int) -> Iterator[Row]:
    loads = {policy: _loads(trials, policy, _FLOWS, seeds) for policy in BALANCER_POLICIES.names}
    ours = median(loads["headroom"])
    for policy, values in loads.items():
        rival, other = ("", None) if policy == "headroom" else ("headroom", ours)
        yield _imbalance_row(policy, values, rival, other)
    yield _imbalance_row("headroom.400_flows", _loads(trials, "headroom", 2 * _FLOWS, seeds))


def _imbalance_row(name: str, values: list[float], rival: str = "", other: float | None = None) -> Row:
    note = f"median of {len(values)} seeds; worst {max(values):.3f}"
    bar = "<= 1.1" if name.startswith("headroom") else ""
    return row(f"scale.imbalance.{name}", median(values), "max/mean", bar, rival, other, note)


def _loads(trials: BenchTrials, policy: str, flows: int, seeds: int) -> list[float]:
    """Return the imbalance under each seed."""
    runs = [
        trials.believed(_bursty(policy, flows), seed, f"{policy}, {flows} long-lived flows, seed {seed}")
        for seed in range(1, seeds + 1)
    ]
    return [float(run.summary["balancer"]["max_over_mean_load"]) for run in runs]


def _goodput_bps(trials: BenchTrials, nodes: int, rate_mbit: float) -> float:
    said = f"{nodes} node{'s' if nodes > 1 else ''} of {rate_mbit:g} Mbit/s"
    return float(trials.believed(_overloaded(nodes, rate_mbit), 1, said).summary["traffic"]["goodput_bps"])


def _overloaded(nodes: int, rate_mbit: float) -> dict[str, Any]:
    """Return small buffers under constant overload: what they hold at the end is a small part of what was served."""
    half = f"{nodes * rate_mbit * _OVERLOAD / 2:.3f}Mbit"
    return {
        "name": "bench-scale",
        "duration": "4s",
        "topology": {"family": "cluster", "nodes": nodes, "clients": 2, "node_rate": f"{rate_mbit:g}Mbit"},
        "buffer": {"policy": "static-min", "min": "0.1MB", "max": "0.1MB"},
        "balancer": {"policy": "headroom"},
        "traffic": [
            {"name": f"half{k}", "from": f"c{k}", "shape": "constant", "rate": half, "flows": 200, "packet": "1400B"}
            for k in (1, 2)
        ],
    }


def _bursty(policy: str, flows: int) -> dict[str, Any]:
    """Return `flows` that last and 100 new ones a burst, half of the load each, together 60 % of what is served."""
    total_mbit = 0.6 * _BALANCED_NODES * _RATE_MBIT
    span = {"exponential": {"mean": "50ms"}}
    fresh = {
        "name": "fresh",
        "from": "c2",
        "shape": "on-off",
        "on": span,
        "off": span,
        "flows": 4000,
        "burst_flows": 20,
    }
    return {
        "name": "bench-imbalance",
        "duration": "6s",
        "topology": {
            "family": "cluster", "nodes": _BALANCED_NODES, "clients": 2, "node_rate": f"{_RATE_MBIT}Mbit",
        },
        "buffer": {"policy": "reactive", "min": "0.5MB", "max": "4MB"},
        "balancer": {"policy": policy},
        "traffic": [
            {"name": "base", "from": "c1", "shape": "poisson", "rate": f"{total_mbit / 2:g}Mbit", "flows": flows},
            {**fresh, "peak": f"{total_mbit:g}Mbit"},
        ],
    }  # fmt: skip
