"""One node against a cluster of three: what the further nodes buy, and what they cost.

`burst.yaml` is run with three nodes, with one of them, and with one node of three times the rate, the same packets for
all.  The cluster's failover is measured by failures of its nodes (see `failover`), and the availability of each follows
from it and a failure model whose formulas stand in `results.availability`.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from testbed.bench import failover
from testbed.bench.rows import Row, percentile, row
from testbed.bench.trials import BenchTrials
from testbed.report.written import figure
from testbed.results.availability import (
    Failovers,
    FailureModel,
    bound_down_ratio,
    measured_down_ratio,
    nines,
    seconds_a_year,
)
from testbed.results.failover import Failure
from testbed.scenario.loading import load
from testbed.system import places
from testbed.units import NS_PER_MS, NS_PER_S

COUNT = 20
NODES = 3
_LOAD_RATIO = 0.6  # of all nodes: what the failure model has the cluster carry
_NEEDED = math.ceil(_LOAD_RATIO * NODES)
_RATE_MBIT = 40
_SINGLE, _LARGE = "1 node", f"1 node of {NODES * _RATE_MBIT} Mbit/s"
_HOUR_NS = 3600 * NS_PER_S
_FIGURES = {
    "goodput": ("Mbit/s", "traffic.goodput_bps", 1e-6),
    "loss": ("%", "buffer.loss_ratio", 100.0),
    "delay.p99": ("ms", "delay_ms.p99", 1.0),
    "reserved": ("MB s", "buffer.reserved_mb_s", 1.0),
}


def run(count: int = COUNT) -> list[Row]:
    """Measure, failover by `count` silent crashes, and return the rows: the cluster's value beside that of one node.

    Raises:
        ToolError: the machine disturbed every attempt at a run.
    """
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        trials = BenchTrials(Path(folder))
        cluster = _summary(trials, NODES, _RATE_MBIT)
        singles = {_SINGLE: _summary(trials, 1, _RATE_MBIT), _LARGE: _summary(trials, 1, NODES * _RATE_MBIT)}
        crashes = failover.collect(trials, count, NODES).of("crash")
    rows = [made for name, single in singles.items() for made in _traffic_rows(cluster, name, single)]
    return [*rows, *_availability_rows(crashes)]


def _traffic_rows(cluster: dict[str, Any], name: str, single: dict[str, Any]) -> Iterator[Row]:
    for title, (unit, path, scale) in _FIGURES.items():
        ours, theirs = (scale * float(figure(summary, path)) for summary in (cluster, single))
        yield row(f"cluster.{title}", ours, unit, "", name, theirs, "burst.yaml")
    cost = 1.0 if name == _SINGLE else float(NODES)
    yield row("cluster.cost", NODES, "nodes", "", name, cost, f"number of nodes of {_RATE_MBIT} Mbit/s")


def _availability_rows(crashes: list[Failure]) -> Iterator[Row]:
    """Yield failover and availability; one node has no failover, it is away for as long as its repair takes."""
    model, found = FailureModel(), _failovers(crashes)
    single = model.down_ratio
    measured, bound = (f(model, NODES, _NEEDED, found) for f in (measured_down_ratio, bound_down_ratio))
    recovered_ms = [failure.recovered_ms for failure in crashes if failure.recovered_ms is not None]
    of = f"{len(crashes)} crashes, {found.failed} without failover"
    repair_ms = model.mttr_ns / NS_PER_MS
    yield row("cluster.recovered.p50", percentile(recovered_ms, 0.5), "ms", "", _SINGLE, repair_ms, of)
    yield row("cluster.recovered.max", percentile(recovered_ms, 1.0), "ms", "", _SINGLE, repair_ms, of)
    stated = f"MTTF {model.mttf_ns / _HOUR_NS:.0f} h, MTTR {model.mttr_ns / _HOUR_NS:g} h, {_NEEDED} of {NODES} needed"
    at_most = f"at the 95 % upper bound of failed failovers, from {of}"
    for title, ratio, note in (("", measured, stated), (".bound", bound, at_most)):
        down_s, single_s = seconds_a_year(ratio), seconds_a_year(single)
        yield row(f"cluster.availability{title}", nines(ratio), "nines", "", _SINGLE, nines(single), note)
        yield row(f"cluster.downtime{title}", down_s, "s/year", "", _SINGLE, single_s, note)


def _failovers(crashes: list[Failure]) -> Failovers:
    moved = [failure for failure in crashes if failure.rerouted_ms is not None]
    times_ns = [failure.recovered_ms * NS_PER_MS for failure in moved if failure.recovered_ms is not None]
    return Failovers(len(crashes), len(crashes) - len(moved), fmean(times_ns))


def _summary(trials: BenchTrials, nodes: int, rate_mbit: int) -> dict[str, Any]:
    settings = (f"topology.nodes={nodes}", f"topology.node_rate={rate_mbit}Mbit")
    scenario = load(places.scenarios() / "burst.yaml", settings).scenario.resolved()
    said = f"{nodes} node{'s' if nodes > 1 else ''} of {rate_mbit} Mbit/s"
    return trials.believed({key: value for key, value in scenario.items() if key != "seed"}, 1, said).summary
