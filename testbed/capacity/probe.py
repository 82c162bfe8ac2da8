"""The costs of a machine for a scenario, from small trials of it.

Two trials of different size separate the fixed costs from the costs of each node, message and port; for a scenario as
small as the smaller trial, that one is enough.  If the nodes of the scenario tick together, those of the larger trial
do, too.  The agents of the larger trial then give the cost of a common wake-up, those of the smaller trial, which tick
one by one, the cost of a tick.  A cost within a trial is the CPU time of a kind of process between two readings,
divided by what it did meanwhile.

The larger trial runs first.  If it takes most of the available time, it is the only one: then the cost is assumed to be
proportional, which overestimates the costs that many nodes share.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence

import numpy as np

from testbed.capacity.costs import Costs, Slope
from testbed.capacity.load import messages_per_s, ticks_per_s
from testbed.capacity.small_trial import PHASES, QUIET_MS, Phase, Watched, in_small, watch
from testbed.capacity.spent import AGENTS, CONTROL, MESH, REST, SENDERS, SWITCH, Spent
from testbed.emulation.machine import cpu_times
from testbed.policies.cohorts import OWN_TICKS
from testbed.records.events import Floats
from testbed.scenario.model import Scenario
from testbed.units import NS_PER_MS, NS_PER_S

SMALL_NODES, SMALL_CLIENTS = 3, 2
MORE_NODES, MORE_CLIENTS = 7, 9
TOGETHER_NODES = OWN_TICKS + 1  # the fewest that tick together
WITHIN_S = 9.0
_WITH_THE_SMALLER = 1.8  # times as long as the larger trial alone
_SETTLED_MS = 100  # after which a phase is what it is for


def measure(scenario: Scenario, within_s: float = WITHIN_S) -> Costs:
    """Return what things cost on this machine under the settings of a scenario.  Takes about 6 s.

    Raises:
        TestbedError: a trial failed.
    """
    began, other = time.monotonic(), other_ratio()
    large, small = _sizes(scenario)
    seen = [watch(in_small(scenario, *large))]
    took = time.monotonic() - began
    if small != large and took * _WITH_THE_SMALLER < within_s:
        seen.append(watch(in_small(scenario, *small)))
    return _costs(seen, other)


def _sizes(scenario: Scenario) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the nodes and clients of the two trials; they are equal for a scenario that is as small."""
    nodes, clients = scenario.topology.all_nodes, scenario.topology.clients
    small = min(SMALL_NODES, nodes), SMALL_CLIENTS
    many = TOGETHER_NODES if _tick_together(scenario) else min(MORE_NODES, nodes)
    ports = min(MORE_NODES + MORE_CLIENTS, nodes + clients)  # clients that do not send stand for nodes
    return (many, max(SMALL_CLIENTS, ports - many)), small


def other_ratio() -> float:
    """Return how many cores other work takes now."""
    before = cpu_times()
    time.sleep(0.2)
    after = cpu_times()
    total = after.total - before.total
    return (1 - (after.idle - before.idle) / total) * (os.cpu_count() or 1) if total else 0.0


def _costs(seen: list[Watched], other: float) -> Costs:
    def line(
        units: Callable[[Scenario], float], cost: Callable[[Watched], float], among: Sequence[Watched] = seen
    ) -> Slope:
        points = [(units(watched.scenario), cost(watched)) for watched in among]
        return Slope.through(points[0], points[-1])

    alone = [watched for watched in seen if not _tick_together(watched.scenario)]
    large, small = seen[0], seen[-1]
    fixed_bytes, node_bytes = line(_nodes, lambda w: w.node_bytes)
    return Costs(
        cores=len(os.sched_getaffinity(0)),
        other_ratio=other,
        agents_ratio=line(ticks_per_s, lambda w: _quiet(w, AGENTS), alone or seen),
        cohort_ratio=line(_intervals_per_s, lambda w: _quiet(w, AGENTS), seen[:1]),
        mesh_ratio=line(messages_per_s, lambda w: _quiet(w, MESH)),
        control_ratio=line(_nodes, lambda w: _quiet(w, CONTROL)),
        rest_ratio=line(_nodes, lambda w: _quiet(w, REST)),
        record_ratio=line(ticks_per_s, _ours),
        agent_processes=_processes(seen, AGENTS),
        mesh_processes=_processes(seen, MESH),
        paces_pps=tuple(float(phase.pps) for phase in PHASES),
        switch_ns=tuple(line(_ports, lambda w, p=phase: _switch_packet_ns(w, p)) for phase in PHASES),  # type: ignore[misc]
        send_ns=tuple(float(np.mean([_send_packet_ns(w, phase) for w in seen])) for phase in PHASES),
        flow_ns=float(np.mean([_flow_ns(w) for w in seen])),
        late_ns=float(np.median(np.array(small.late_ns))),
        turn_variation=_variation(np.array(small.loop_ns, dtype=np.float64)),
        node_bytes=node_bytes,
        fixed_bytes=large.fixed_bytes + fixed_bytes,
    )


def _tick_together(scenario: Scenario) -> bool:
    """Return whether the nodes of a scenario tick together; a tick of all is one an interval."""
    return scenario.topology.all_nodes > OWN_TICKS and scenario.agents == "shared"


def _intervals_per_s(scenario: Scenario) -> float:
    return NS_PER_S / scenario.buffer.sample_interval_ns


def _processes(seen: list[Watched], kind: str) -> Slope:
    """Return how many processes of a kind there are, by nodes: one that serves several serves all."""
    counts = [(_nodes(watched.scenario), watched.looks[-1].processes[kind]) for watched in seen]
    (nodes, processes), last = counts[0], counts[-1]
    return Slope(processes, 0.0) if processes < nodes and len(seen) == 1 else Slope.through(counts[0], last)


def _variation(values: Floats) -> float:
    """Return the squared coefficient of variation."""
    return float(np.var(values) / np.mean(values) ** 2) if values.size and values.any() else 0.0


def _nodes(scenario: Scenario) -> float:
    return scenario.topology.nodes


def _ports(scenario: Scenario) -> float:
    return scenario.topology.nodes + scenario.topology.clients


# ----------------------------------------------------------------------------------------------- costs within a trial


def _between(watched: Watched, from_ms: float, until_ms: float) -> tuple[int, int]:
    """Return the indices of the two looks that are nearest to the ends of a time of the run."""
    times_ms = np.array([(look.at_ns - watched.t0_ns) / NS_PER_MS for look in watched.looks])
    first = min(int(np.argmin(np.abs(times_ms - from_ms))), len(times_ms) - 2)
    last = int(np.searchsorted(times_ms, until_ms))
    return first, max(min(last, len(times_ms) - 1), first + 1)


def _share(watched: Watched, kind: str, from_ms: float, until_ms: float) -> float:
    """Return the share of a core that a kind of process took in a time of the run."""
    first, last = (watched.looks[k] for k in _between(watched, from_ms, until_ms))
    return _ran_ns(first, last, kind) / (last.at_ns - first.at_ns)


def _ran_ns(first: Spent, last: Spent, kind: str) -> int:
    return last.ran_ns.get(kind, 0) - first.ran_ns.get(kind, 0)


def _quiet(watched: Watched, kind: str) -> float:
    return _share(watched, kind, _SETTLED_MS, QUIET_MS)


def _ours(watched: Watched) -> float:
    first, last = _between(watched, _SETTLED_MS, QUIET_MS)
    elapsed_ns = watched.looks[last].at_ns - watched.looks[first].at_ns
    return (watched.ours_ns[last] - watched.ours_ns[first]) / elapsed_ns


def _steady(phase: Phase) -> tuple[float, float]:
    """Return the part of a phase in which the switch knows its flows; of the last one, until all has arrived."""
    if phase is PHASES[-1]:
        return phase.from_ms, math.inf
    return phase.from_ms + min(_SETTLED_MS, phase.for_ms / 3), phase.from_ms + phase.for_ms


def _packet_ns(watched: Watched, phase: Phase, kind: str) -> float:
    """Return what a packet of a phase cost a kind of process, beyond what that takes without any."""
    first, last = (watched.looks[k] for k in _between(watched, *_steady(phase)))
    pkts = watched.arrived(first.at_ns - watched.t0_ns, last.at_ns - watched.t0_ns)
    spent_ns = _ran_ns(first, last, kind) - _quiet(watched, kind) * (last.at_ns - first.at_ns)
    return max(0.0, spent_ns) / max(pkts, 1)


def _switch_packet_ns(watched: Watched, phase: Phase) -> float:
    return _packet_ns(watched, phase, SWITCH)


def _send_packet_ns(watched: Watched, phase: Phase) -> float:
    return _packet_ns(watched, phase, SENDERS)


def _flow_ns(watched: Watched) -> float:
    """Return what the first packet of a flow costs the switch, beyond what any packet does."""
    sparse = PHASES[0]
    first, last = (watched.looks[k] for k in _between(watched, sparse.from_ms - 30, sparse.from_ms + _SETTLED_MS + 30))
    pkts = watched.arrived(first.at_ns - watched.t0_ns, last.at_ns - watched.t0_ns)
    quiet_ns = _quiet(watched, SWITCH) * (last.at_ns - first.at_ns)
    known_ns = pkts * _switch_packet_ns(watched, sparse) + quiet_ns
    flows = min(watched.scenario.planned[0].flows, max(pkts, 1))
    return max(0.0, _ran_ns(first, last, SWITCH) - known_ns) / flows
