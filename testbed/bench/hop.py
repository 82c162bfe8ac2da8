"""What one switch more costs a packet, compared with the `hop_ns` of the simulation.

`scenarios/leaf-spine.yaml` is emulated.  Nodes of the balancer's leaf are no link between switches away from it, those
of other leaves two, and their packets pass everything else alike: a hop is the median delay from client to node of the
far ones, less that of the near ones, by two.  The delays are those that the node's program measured (stage `way`), so
nothing of queue or service is in it.  The verdict stands beside: on a busy machine a hop takes several times as long.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from testbed import topologies
from testbed.bench.rows import Row, row
from testbed.errors import ToolError
from testbed.records.histogram import Histogram, merged
from testbed.records.stages import Stage
from testbed.results.recorded_run import RecordedRun
from testbed.scenario.loading import load
from testbed.scenario.network import Network
from testbed.scenario.routing import routes_of
from testbed.simulation.network_model import NetworkModel
from testbed.system import places
from testbed.trials.run import RunOptions
from testbed.trials.run import run as run_trial
from testbed.units import NS_PER_US

_DURATION = "5s"
_MEDIAN = 0.5


def run() -> list[Row]:
    """Emulate the scenario and return the rows of the table."""
    loaded = load(places.scenarios() / "leaf-spine.yaml", (f"duration={_DURATION}",))
    with tempfile.TemporaryDirectory() as folder:
        result = run_trial(loaded, RunOptions(out=Path(folder) / "run", live=False, quiet=True))
        evidence = RecordedRun.open(result.path).evidence()
    if evidence is None:
        raise ToolError("measuring a hop", "the run left no evidence", "run the scenario with `run` to see why")
    return rows_of(evidence.stages, topologies.describe(loaded.scenario.topology), str(result.summary["verdict"]))


def rows_of(stages: Sequence[Stage], network: Network, verdict: str) -> list[Row]:
    """Return the rows: delay to the near and to the far nodes, and what a hop takes, in us.

    Raises:
        ToolError: nodes at one distance alone saw packets.
    """
    by_hops = _medians_us(stages, network)
    if len(by_hops) < 2:
        raise ToolError(
            "measuring a hop", "all nodes are at the same distance", "use a network with nodes at several distances"
        )
    near, far = min(by_hops), max(by_hops)
    hop_us = (by_hops[far] - by_hops[near]) / (far - near)
    return [
        *(row(f"hop.way_{hops}", by_hops[hops], "us", note=f"{hops} links between switches") for hops in (near, far)),
        row("hop.one", hop_us, "us", "", "simulation", NetworkModel().hop_ns / NS_PER_US, f"median, {verdict}"),
    ]


def _medians_us(stages: Sequence[Stage], network: Network) -> dict[int, float]:
    """Return the median delay from client to node, by how many links between switches the node is away."""
    hops = routes_of(network).hops
    parts: dict[int, list[Histogram | None]] = {}
    for stage in stages:
        if stage.kind == "way":
            away = hops[network.switch, network.switch_of(stage.place)]
            parts.setdefault(away, []).append(stage.delays)
    medians = {away: whole.quantile_ns(_MEDIAN) for away, part in parts.items() if (whole := merged(part)) is not None}
    return {away: median_ns / NS_PER_US for away, median_ns in medians.items() if median_ns is not None}
