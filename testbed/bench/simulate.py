"""How fast virtual time passes: simulated node-seconds a second of wall time, beside SimPy's event loop.

A node-second is one node for one second of virtual time, its drain included.  The load is the same at every size: nodes
of 10 Mbit/s, 30 % of it steady, and bursts that overload some of them, about 300 packets of 1500 B a second and node.
Every figure is the best of `_REPEATS` runs, recorded into a run directory as any run is, on one core: a child process
keeps its linear algebra to one thread.  The plan is made before the clock starts.

The rival is the plainest SimPy programme that offers the same packets to the same queues: a process a node that waits
for the next arrival and does the queue's arithmetic, no policies, no metering, no record.  So it does less.

``simulate.1000x60`` is ``testbed simulate scenarios/thousand.yaml``, 1000 nodes for 60 s: the making of the plan, all
files, verdict, summary and report included, in a process of its own that tells its peak memory.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from testbed import installing
from testbed.bench import apart
from testbed.errors import MachineError
from testbed.results.run_directory import RunDirectory
from testbed.scenario import loading
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.simulation.engine import simulate
from testbed.simulation.network_model import NetworkModel, service_rates_bps
from testbed.simulation.switch import Switch, flow_hash
from testbed.system import places
from testbed.topologies import describe
from testbed.traffic.plan import PacketPlan, make_plan
from testbed.trials import run as trials
from testbed.units import NS_PER_S

SIZES = {3: 10, 30: 5, 300: 5, 1000: 5}  # nodes: seconds of virtual time
POLICIES = ("reactive", "lstm")
_REPEATS = 3
_NODES_A_SOURCE = 25
_RIVAL_NS = NS_PER_S
_LIMIT_BYTES = 500_000
_PACKET_BYTES = 1500
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")

Row = dict[str, Any]


def run() -> list[Row]:
    """Measure, and return rows of name, value, unit, rival, rival_value, ratio (value / rival_value) and bar.

    Raises:
        TestbedError: what went wrong in a measuring process.
    """
    return [row for what in ("speed", "large") for row in apart.rows("testbed.bench.simulate", what, env=_ONE_THREAD)]


def _row(name: str, value: float, unit: str, bar: str = "", rival: str = "", rival_value: float | None = None) -> Row:
    ratio = round(value / rival_value, 2) if rival_value else None
    rounded = None if rival_value is None else round(rival_value, 1)
    return {
        **{"name": name, "value": round(value, 2), "unit": unit, "rival": rival},
        **{"rival_value": rounded, "ratio": ratio, "bar": bar},
    }


# ------------------------------------------------------------------------------------------------------- the figures


def _speed(folder: Path) -> Iterator[Row]:
    """Yield node-seconds a second at every size, and what follows from them."""
    simpy_rate = {nodes: _simpy_rate(nodes) for nodes in SIZES}
    rate: dict[tuple[str, int], float] = {}
    for policy in POLICIES:
        for nodes, seconds in SIZES.items():
            spec = _scenario(nodes, policy, seconds)
            rate[policy, nodes] = max(
                _node_seconds_a_second(spec, folder / f"{policy}{nodes}-{k}") for k in range(_REPEATS)
            )
            bar = ">= 5000" if (policy, nodes) == ("lstm", 1000) else ""
            yield _row(
                f"simulate.{policy}.{nodes}",
                rate[policy, nodes],
                "node-s/s",
                bar,
                "SimPy, no policy",
                simpy_rate[nodes],
            )
    cost = rate["lstm", 30] / rate["lstm", 1000]
    yield _row("simulate.lstm.cost_a_node_1000_to_30", cost, "ratio", "<= 1.5")
    walls = [_timed(partial(_whole_run, "burst", folder / f"burst{k}")) for k in range(_REPEATS)]
    yield _row("simulate.burst_yaml.wall", min(walls), "s", "<= 3")


def _large(folder: Path) -> Iterator[Row]:
    """Yield wall time and peak memory of 1000 nodes for a minute."""
    wall_s = _timed(lambda: _whole_run("thousand", folder / "large"))
    yield _row("simulate.1000x60.wall", wall_s, "s", "< 60")
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield _row("simulate.1000x60.peak_memory", kilobytes * 1024 / 1e9, "GB", "<= 2")


def _timed(body: Callable[[], object]) -> float:
    """Return the seconds `body` takes."""
    start = time.perf_counter()
    body()
    return time.perf_counter() - start


def _scenario(nodes: int, policy: str, seconds: int) -> Scenario:
    traffic: list[dict[str, Any]] = []
    sources = max(1, nodes // _NODES_A_SOURCE)
    share = nodes / sources
    for k in range(1, sources + 1):
        base = {"name": f"base{k}", "from": f"c{k}", "shape": "poisson", "rate": f"{3 * share:.3f}Mbit", "flows": 200}
        bursts = {
            **{"name": f"bursts{k}", "from": f"c{k}", "shape": "on-off", "peak": f"{4 * share:.3f}Mbit"},
            **{"on": {"pareto": {"mean": "60ms", "alpha": 1.5}}, "off": {"exponential": {"mean": "400ms"}}},
            **{"flows": 2000, "burst_flows": 20, "precursor": {"lead": "50ms", "strength": 0.2}},
        }
        traffic += [{**source, "packet": f"{_PACKET_BYTES}B"} for source in (base, bursts)]
    topology = {"family": "cluster", "nodes": nodes, "clients": sources, "node_rate": "10Mbit"}
    return Scenario.model_validate(
        {
            **{"version": 1, "name": "bench", "duration": f"{seconds}s", "topology": topology, "traffic": traffic},
            "buffer": {"policy": policy},
        }
    )


def _prepared(scenario: Scenario) -> tuple[Network, PacketPlan]:
    network = describe(scenario.topology)
    return network, make_plan(scenario, network, places.scenarios())


def _node_seconds_a_second(scenario: Scenario, path: Path) -> float:
    network, plan = _prepared(scenario)
    directory = RunDirectory.create(path, {})
    wall_s = _timed(lambda: _simulated(scenario, network, plan, directory))
    last_ns = int(directory.samples().column("t_ns")[-1].as_py())
    directory.finish("completed")
    return len(network.nodes) * last_ns / NS_PER_S / wall_s


def _simulated(scenario: Scenario, network: Network, plan: PacketPlan, directory: RunDirectory) -> None:
    simulate(trials.trial_plan(scenario, network, plan, directory.path / "logs"), directory)


def _whole_run(scenario: str, path: Path) -> None:
    options = trials.RunOptions("simulation", path, live=False, quiet=True)
    trials.run(loading.load(places.scenarios() / f"{scenario}.yaml"), options)


# --------------------------------------------------------------------------------------------------------- the rival


def _simpy_rate(nodes: int) -> float:
    """Return SimPy's node-seconds a second on the packets of the first second."""
    try:
        import simpy
    except ImportError as error:
        raise MachineError("measuring SimPy", str(error), installing.optional("bench")) from error
    scenario = _scenario(nodes, "reactive", 1)
    network, plan = _prepared(scenario)
    rates = service_rates_bps(network).tolist()
    arrivals = list(_by_node(network, plan))
    environment = simpy.Environment()
    for t_ns, rate in zip(arrivals, rates, strict=True):
        environment.process(_rival_node(environment, t_ns, rate))
    return nodes * (_RIVAL_NS / NS_PER_S) / _timed(environment.run)


def _by_node(network: Network, plan: PacketPlan) -> Iterator[list[int]]:
    """Yield the arrivals at each node, flows spread by hash."""
    nodes = len(network.nodes)
    switch = Switch(flow_hash(plan.flows, plan.clients, network, 0), np.arange(nodes), nodes, 30 * NS_PER_S)
    node, _ = switch.route(plan.flow, plan.t_ns + NetworkModel().switch_ns)
    for row in range(nodes):
        yield plan.t_ns[node == row].tolist()


def _rival_node(environment: Any, arrivals_ns: list[int], rate_bps: int) -> Generator[Any, None, None]:
    """Offer packets to a fluid queue, one event a packet."""
    backlog, last_ns, dropped = 0.0, 0, 0
    for t_ns in arrivals_ns:
        yield environment.timeout(t_ns - environment.now)
        backlog = max(0.0, backlog - (t_ns - last_ns) * rate_bps / 8e9)
        last_ns = t_ns
        if backlog + _PACKET_BYTES > _LIMIT_BYTES:
            dropped += 1
        else:
            backlog += _PACKET_BYTES


if __name__ == "__main__":
    apart.answer({"speed": _speed, "large": _large}[sys.argv[1]])
