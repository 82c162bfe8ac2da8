"""What a trial would do, before it does it: what is sent, how much of it the nodes serve, how long it takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from testbed import topologies
from testbed.scenario.loading import LoadedScenario
from testbed.traffic.plan import PacketPlan, make_plan
from testbed.traffic.traces import TraceFiles
from testbed.units import NS_PER_MS, NS_PER_S

WINDOW_NS = 10 * NS_PER_MS


def forecast_lines(loaded: LoadedScenario) -> Iterator[str]:
    """Yield what the scenario's plan holds, a line each: the sources, all of it against the service rate, the time.

    Raises:
        InputError: the traffic cannot be planned.
    """
    scenario, network = loaded.scenario, topologies.describe(loaded.scenario.topology)
    plan = make_plan(scenario, network, TraceFiles(loaded.path.parent))
    serves_bps = sum(network.node_rate_bps(node.name) for node in network.nodes)
    for index, name in enumerate(plan.sources):
        yield f"{name}: {_sent(plan, plan.source == index)}"
    yield f"total: {_sent(plan, np.ones(len(plan), bool))}; {_load(plan, serves_bps)}"
    if scenario.tcp:
        yield f"and {', '.join(source.name for source in scenario.tcp)}: TCP, at a rate set by congestion control"
    drain_s = scenario.topology.all_nodes * scenario.buffer.max_bytes * 8 / serves_bps if serves_bps else 0.0
    yield (
        f"emulated: {scenario.duration_ns / NS_PER_S:g} s of traffic, set-up, and up to {drain_s:.1f} s until "
        "full buffers have drained; simulated: depends only on the number of packets"
    )


def _sent(plan: PacketPlan, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str:
    size_bytes = plan.size_bytes[chosen]
    mean_bps = float(size_bytes.sum(dtype=np.int64)) * 8 * NS_PER_S / plan.duration_ns
    bins = np.bincount(plan.t_ns[chosen] // WINDOW_NS, size_bytes) if len(size_bytes) else np.zeros(1)
    peak_bps = float(bins.max()) * 8 * NS_PER_S / WINDOW_NS
    flows = len(np.unique(plan.flow[chosen]))
    return f"{len(size_bytes):,} packets of {flows:,} flows, mean {_mbit(mean_bps)}, busiest 10 ms {_mbit(peak_bps)}"


def _load(plan: PacketPlan, serves_bps: int) -> str:
    if not serves_bps:
        return "the nodes have no rate limit"
    ratio = plan.total_bytes * 8 * NS_PER_S / plan.duration_ns / serves_bps
    return f"the nodes serve {_mbit(serves_bps)}: load {ratio:.0%}"


def _mbit(rate_bps: float) -> str:
    return f"{rate_bps / 10**6:.4g} Mbit/s"
