"""Prediction of the verdict: the CPU demand of a scenario, and the values of the checks that follow from it.

    load × costs ─▶ shares of a core, by kind of process ─▶ waiting times ─▶ values of the checks of the verdict

**Demand.**  Each kind of process takes a share of a core: agents per tick, the mesh per message, senders and the switch
per packet, all others per node.  The cost of a packet depends on the density of the packets (a switch that wakes up for
one packet polls all its ports; with fifty packets waiting it still polls once), so the cost is interpolated between
measured rates.

**Capacity of the switch.**  It forwards in one thread, with a lower priority than senders and a higher one than agents
and controllers; the mesh has the same one and is counted as higher.  So in each millisecond it has the rest of the
cores, at most one core.  Its work is the cost of the packets at the highest density plus that of setting up new flows;
work that does not fit waits (Lindley's recursion, over milliseconds).  The backlog divided by the capacity is the delay
of a packet that arrives then.  Its percentile over packets and its maximum are what the verdict measures as *way from
client to node*.

**Waiting for a core.**  A process that wakes up while all c cores run processes of its own or a higher priority waits.
In a queue with c servers and utilisation ρ, the waiting time exceeds t with probability C e^(-t / w), where C is
Erlang's probability that all servers are busy and w = s V / (c (1 - ρ)) with the mean service time s; V is half the sum
of the squared coefficients of variation of inter-arrival and service times (Allen and Cunneen).  Hence the quantile
w ln(C / (1 - q)); the longest of N waiting times is about the quantile 1 - 1/N.  Wake-ups of many processes arrive like
a Poisson process, with coefficient 1; those of one process that serves its nodes one after the other arrive evenly,
with coefficient 0, and use at most one core.

**Bounds** are those of the verdict itself (`results.fidelity`), imported from there.  A value without a bound (ρ ≥ 1)
is infinite, and INVALID.

Source: Kleinrock, *Queueing Systems* I (1975), 3.5, 5.12; Lindley (1952); Allen, *Probability, Statistics, and Queueing
Theory* (1990), 5.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from testbed.capacity.costs import Costs
from testbed.capacity.load import Load
from testbed.records.events import Floats
from testbed.results.fidelity.agents import AGENT_LATENESS_GOOD_MS
from testbed.results.fidelity.check import Bound, Verdict
from testbed.results.fidelity.judge import SEVERITY
from testbed.results.fidelity.machine import CPU_BUSY_RATIO, CPU_BUSY_WORST_RATIO, CPU_DEMAND_RATIO
from testbed.results.fidelity.senders import SEND_LATENESS_MS
from testbed.results.fidelity.stalls import STALL_MS
from testbed.results.fidelity.way import WAY_P99_MS
from testbed.units import NS_PER_MS, NS_PER_S

# Windows: of a burst; of the looks that the verdict takes at processes, and at cores.
_PEAK_MS, _TURN_MS, _SECOND_MS = 100, 500, 1000
_P99 = 0.99


@dataclass(frozen=True, slots=True)
class Expected:
    """A value that the verdict is expected to measure.

    Attributes:
        name: the check, or what stands behind it, in the words of the verdict.
        resource: what there is too little of when the value is past its bound.
        value: in `unit`; infinite where the machine can never catch up.
        bound: of the verdict.
        unit: of both.
    """

    name: str
    resource: str
    value: float
    bound: Bound
    unit: str

    @property
    def verdict(self) -> Verdict:
        """Return what this value alone would say."""
        return self.bound.verdict(self.value)

    @property
    def excess(self) -> tuple[int, float]:
        """Return how far it is past its bound, to be compared."""
        return SEVERITY[self.verdict], self.value / self.bound.good if self.bound.good else self.value


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of a run.

    Attributes:
        values: every value looked at, the one furthest past its bound first.
        cores_ratio: cores that it takes in the mean, by kind of process.
    """

    values: tuple[Expected, ...]
    cores_ratio: dict[str, float]

    @property
    def verdict(self) -> Verdict:
        """Return the verdict that is expected."""
        return self.values[0].verdict

    @property
    def limit(self) -> Expected:
        """Return what limits it most."""
        return self.values[0]


def forecast(load: Load, costs: Costs) -> Forecast:
    """Return what the verdict of a run of `load` is expected to be where things cost `costs`."""
    demand = _Demand(load, costs)
    values = [*_cores(demand), *_switch(demand), *_senders(demand), *_loops(demand)]
    values.sort(key=lambda expected: expected.excess, reverse=True)
    return Forecast(tuple(values), demand.means())


class _Demand:
    """What the kinds of processes ask of the cores.

    Attributes:
        agents, mesh, control, beside: shares of a core that hold all the time; `beside` is all without fixed priority.
        sending, switching: shares in each millisecond, float64 [ms].
    """

    def __init__(self, load: Load, costs: Costs) -> None:
        self.load, self.costs = load, costs
        self.agents = costs.agents_at(load)
        self.mesh = costs.mesh_ratio.at(load.messages_per_s) if load.nodes > 1 else 0.0
        self.control = costs.control_ratio.at(load.nodes)
        self.beside = costs.rest_ratio.at(load.nodes) + costs.record_ratio.at(load.ticks_per_s) + costs.other_ratio
        self.sending: Floats = np.minimum(1.0, _share_ms(load.sent_ms, costs.send_packet_ns)).sum(axis=0)
        self.switching: Floats = np.minimum(1.0, self._switch_share_ms() + self.new_flows_ms)

    def _switch_share_ms(self) -> Floats:
        ports = self.load.ports
        row: Floats = _share_ms(self.load.arrived_ms[None], lambda pps: self.costs.switch_packet_ns(pps, ports))[0]
        return row

    @property
    def new_flows_ms(self) -> Floats:
        """Return the share of a core that setting up flows takes of the switch in each millisecond."""
        share: Floats = self.load.begun_ms * self.costs.flow_ns / NS_PER_MS
        return share

    @property
    def ahead_ms(self) -> Floats:
        """Return the cores that processes of a higher priority than the switch take in each millisecond."""
        ahead: Floats = self.sending + self.mesh
        return ahead

    @property
    def cores_ms(self) -> Floats:
        """Return all cores asked for in each millisecond, never more than there are."""
        asked = self.ahead_ms + self.switching + self.agents + self.control + self.beside + self.load.hogs
        return np.minimum(asked, self.costs.cores)

    def means(self) -> dict[str, float]:
        """Return the cores that each kind takes in the mean."""
        return {
            "agents": self.agents, "mesh": self.mesh, "control": self.control, "beside": self.beside,
            "senders": float(self.sending.mean()), "switch": float(self.switching.mean()),
        }  # fmt: skip


def _share_ms(pkts_ms: Floats, packet_ns: Callable[[float], float]) -> Floats:
    """Return the share of a core that packets take in each millisecond, by how dense they are around it."""
    smooth = np.array([_mean_over(row, _PEAK_MS // 10) for row in pkts_ms])
    rates, where = np.unique(np.round(smooth * 1000, -2), return_inverse=True)
    cost_ns = np.array([packet_ns(float(rate)) for rate in rates])[where].reshape(smooth.shape)
    shares: Floats = pkts_ms * cost_ns / NS_PER_MS
    return shares


def _mean_over(values: Floats, window: int) -> Floats:
    """Return the mean of each value and its neighbours, as many values as were given."""
    window = max(1, min(window, len(values)))
    kernel = np.ones(window)
    mean: Floats = np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
    return mean


def _worst(values: Floats, window: int) -> float:
    """Return the largest mean of `window` values in a row."""
    window = min(window, len(values))
    sums = np.cumsum(np.concatenate(([0.0], values)))
    return float(np.max(sums[window:] - sums[:-window]) / window)


def _cores(demand: _Demand) -> list[Expected]:
    """Return what the cores of the machine will be seen to do."""
    cores = demand.costs.cores
    busy, worst = float(demand.cores_ms.mean()) / cores, _worst(demand.cores_ms, _SECOND_MS) / cores
    found = [Expected("CPU busy", "cores", busy, CPU_BUSY_RATIO, "of all cores")]
    if len(demand.cores_ms) > _SECOND_MS:
        name = "CPU busy in the worst second"
        found.append(Expected(name, "cores", worst, CPU_BUSY_WORST_RATIO, "of all cores"))
    return found


# ---------------------------------------------------------------------------------------------------------- switch


def _switch(demand: _Demand) -> list[Expected]:
    """Return how the switch will be seen to keep up."""
    left = np.clip(demand.costs.cores - demand.ahead_ms, 0.0, 1.0)
    waits_ms = _waits_ms(_work_ms(demand), left)
    ahead = min(float(demand.ahead_ms.mean()), demand.costs.cores)
    turns = len(left) * NS_PER_MS / max(_turn_ns(demand), 1.0)
    core = _worst(demand.switching / np.maximum(1 - ahead / demand.costs.cores, 1e-9), _TURN_MS)
    p99 = _quantile(waits_ms, demand.load.arrived_ms, _P99) + _wait_ms(demand, ahead, _P99)
    longest = max(float(waits_ms.max(initial=0.0)), _wait_ms(demand, ahead, 1 - 1 / max(turns, 2)))
    return [
        Expected("core time wanted by the switch", "the switch", core, CPU_DEMAND_RATIO, "of a core"),
        Expected("way from client to node p99", "the switch", p99, WAY_P99_MS, "ms"),
        Expected("longest stall of the way from client to node", "the switch", longest, STALL_MS, "ms"),
    ]


def _work_ms(demand: _Demand) -> Floats:
    """Return the milliseconds of work that come to the switch in each millisecond."""
    packet_ns = demand.costs.densest_ns(demand.load.ports)
    return demand.load.arrived_ms * packet_ns / NS_PER_MS + demand.new_flows_ms


def _waits_ms(work_ms: Floats, left: Floats) -> Floats:
    """Return how long what comes in each millisecond waits, when the server does `left` of its work in each."""
    summed = np.cumsum(work_ms - left)
    backlog = summed - np.minimum(np.minimum.accumulate(summed), 0.0)
    usual = float(left.mean())
    if usual > 0:
        waits: Floats = backlog / usual
        return waits
    return np.where(backlog > 0, math.inf, 0.0)


def _quantile(values: Floats, weights: Floats, ratio: float) -> float:
    """Return the value that so many of the weights do not exceed."""
    order = np.argsort(values)
    summed = np.cumsum(weights[order])
    if not len(summed) or not summed[-1]:
        return 0.0
    return float(values[order][np.searchsorted(summed, ratio * summed[-1])])


# ------------------------------------------------------------------------------------------------- senders and loops


def _senders(demand: _Demand) -> list[Expected]:
    """Return how late senders will be seen to be: each is a server of its own, ahead of all others."""
    dense_ns = demand.costs.send_ns[-1]
    latest = 0.0
    for sent_ms in demand.load.sent_ms:
        waits = _waits_ms(sent_ms * dense_ns / NS_PER_MS, np.ones(len(sent_ms)))
        latest = max(latest, _quantile(waits, sent_ms, _P99))
    cores = demand.costs.cores
    late = latest + _exceeded_ms(float(demand.sending.mean()) / cores, cores, dense_ns, _P99)
    return [Expected("sender lateness p99", "the senders", late, SEND_LATENESS_MS, "ms")]


def _loops(demand: _Demand) -> list[Expected]:
    """Return how the loops of agents and mesh will be seen to keep their times."""
    load, costs = demand.load, demand.costs
    interval_ms = load.interval_ns / NS_PER_MS
    late = Bound(min(AGENT_LATENESS_GOOD_MS, interval_ms / 2), interval_ms)
    agents = _of_one(demand.agents, costs.agent_processes.at(load.nodes))
    mesh = _of_one(demand.mesh, costs.mesh_processes.at(load.nodes))
    above = float((demand.ahead_ms + demand.switching).mean())
    waited = _wait_ms(demand, above + demand.agents, _P99) + costs.late_ns / NS_PER_MS
    alone = _behind_its_own_ms(demand, agents)
    return [
        Expected("agent loop lateness p99", "the agents", waited + alone, late, "ms"),
        Expected("core time wanted by an agent process", "the agents", agents, CPU_DEMAND_RATIO, "of a core"),
        Expected("core time wanted by a mesh process", "the mesh", mesh, CPU_DEMAND_RATIO, "of a core"),
    ]


def _behind_its_own_ms(demand: _Demand, share: float) -> float:
    """Return how long a tick waits for those of other nodes in one process that is busy for `share` of its time."""
    load, costs = demand.load, demand.costs
    if round(costs.agent_processes.at(load.nodes)) >= load.nodes and share < 1:
        return 0.0  # each node has a process of its own, which comes to its ticks one by one
    tick_ns = demand.agents / load.wake_ups_per_s * NS_PER_S
    return _exceeded_ms(share, 1, tick_ns * costs.turn_variation / 2, _P99)


def _of_one(share: float, processes: float) -> float:
    """Return the share of one of so many processes."""
    return share / max(1.0, round(processes))


def _turn_ns(demand: _Demand) -> float:
    """Return the mean time of a turn of the processes with fixed priorities: a tick, or a message."""
    turns = demand.load.wake_ups_per_s + demand.load.messages_per_s
    return (demand.agents + demand.mesh) / turns * NS_PER_S if turns else 0.0


def _wait_ms(demand: _Demand, cores: float, ratio: float) -> float:
    """Return the quantile of the wait for a core behind processes that take so many cores."""
    count = demand.costs.cores
    return _exceeded_ms(cores / count, count, _turn_ns(demand) * (1 + demand.costs.turn_variation) / 2, ratio)


def _exceeded_ms(share: float, servers: int, turn_ns: float, ratio: float) -> float:
    """Return the wait (ms) that the share 1 - `ratio` of all exceeds, where servers are busy for `share` of a time."""
    if share >= 1:
        return math.inf
    waiting = all_taken_ratio(share, servers)
    if waiting <= 1 - ratio:
        return 0.0
    return turn_ns * math.log(waiting / (1 - ratio)) / (servers * (1 - share)) / NS_PER_MS


def all_taken_ratio(share: float, servers: int) -> float:
    """Return the probability that all servers are taken when they are busy for `share` of the time (Erlang C)."""
    offered = share * servers
    blocked = 1.0
    for count in range(1, servers + 1):  # Erlang B, by its recursion
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1 - share * (1 - blocked))
