"""A small trial of a scenario: few nodes, known traffic, measured from outside.

    idle (control only) ─ single packets ─ packets close together ─ more than the switch can forward ─ idle

All parameters except the number of nodes and the traffic are those of the scenario: policies, interval, mesh, balancer,
packet size.  The emulation engine itself runs it, with a run directory as recorder, so that its costs are those of a
run. The service rate of the nodes is high, so that the queues are empty at the end.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from testbed import topologies
from testbed.capacity.spent import AGENTS, MESH, ProcessTree, Spent, name_of
from testbed.emulation.entering import children
from testbed.emulation.processes.status_table import TRAFFIC
from testbed.emulation.sandbox import GUARD
from testbed.emulation.supervisor import emulate
from testbed.errors import ToolError
from testbed.records.events import Ints
from testbed.results.run_directory import RunDirectory
from testbed.scenario.model import Scenario
from testbed.scenario.sources import OnOffSpec
from testbed.scenario.topology import TopologySpec
from testbed.system import kernel
from testbed.traffic.plan import make_plan
from testbed.trials.run import trial_plan
from testbed.units import NS_PER_MS

QUIET_MS, REST_MS = 400, 150


class Phase(NamedTuple):
    """A time of packets at one rate: from when, for how long (ms), how many a second."""

    from_ms: int
    for_ms: int
    pps: int


# The switch comes to rest between two packets; it does not always; it cannot take them all.
PHASES = (Phase(QUIET_MS, 300, 2_000), Phase(700, 150, 10_000), Phase(850, 100, 100_000))
DURATION_MS = PHASES[-1].from_ms + PHASES[-1].for_ms + REST_MS
LONGEST_INTERVAL_NS = 10 * NS_PER_MS  # samples tell when packets arrived, and of each tick's cost there are to be many
_FLOWS = 50
_LOOK_NS = 20 * NS_PER_MS
_LEAST_LOOKS = 10  # of some fifty
_TAKEN = ("t_ns", "arrived_pkts", "lateness_ns", "loop_ns")
_RATE_BPS = 10**9
_PRIORITY = 13  # before all of the trial: looks that come when packets leave time for them miss the densest


@dataclass
class Watched:
    """What was seen of a small trial.

    Attributes:
        scenario: what was run.
        t0_ns: when its traffic began (CLOCK_MONOTONIC), to some ms.
        looks: what had been spent, at instants one after the other.
        ours_ns: processor time of this process (the supervisor), at the same instants.
        arrivals: pairs of time since the start (ns) and packets that had arrived at a node since its last sample.
        late_ns, loop_ns: how late each sample was, and how long its turn took.
        node_bytes, fixed_bytes: memory of the processes of all nodes, and of all others.
    """

    scenario: Scenario
    t0_ns: int = 0
    looks: list[Spent] = field(default_factory=list)
    ours_ns: list[int] = field(default_factory=list)
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    late_ns: list[int] = field(default_factory=list)
    loop_ns: list[int] = field(default_factory=list)
    node_bytes: int = 0
    fixed_bytes: int = 0

    def arrived(self, from_ns: int, until_ns: int) -> int:
        """Return the packets that arrived at nodes between two times of the run."""
        return sum(count for t_ns, count in self.arrivals if from_ns < t_ns <= until_ns)


def in_small(scenario: Scenario, nodes: int, clients: int) -> Scenario:
    """Return the scenario with so few nodes and clients, and the traffic of the phases."""
    topology = TopologySpec.model_validate(
        {"family": "cluster", "nodes": nodes, "clients": clients, "node_rate": f"{_RATE_BPS}bit"}
    )
    packet_bytes = max(source.packet_bytes for source in scenario.planned)
    traffic = tuple(_source(number, phase, packet_bytes) for number, phase in enumerate(PHASES))
    interval_ns = min(scenario.buffer.sample_interval_ns, LONGEST_INTERVAL_NS)
    buffer = scenario.buffer.model_copy(
        update={"pool_bytes": None, "deflect": False, "sample_interval_ns": interval_ns}
    )
    changed = {
        "name": "probe", "topology": topology, "traffic": traffic, "duration_ns": DURATION_MS * NS_PER_MS, "faults": (),
        "expect": (), "buffer": buffer,
    }  # fmt: skip
    return scenario.model_copy(update=changed)


def _source(number: int, phase: Phase, packet_bytes: int) -> OnOffSpec:
    """Return a source that sends in one phase alone, by flows of its own."""
    return OnOffSpec.model_validate(
        {
            "name": f"phase{number}", "from": "c1", "shape": "on-off", "packet": f"{packet_bytes}B",
            "off": {"constant": f"{phase.from_ms}ms"}, "on": {"constant": f"{phase.for_ms}ms"},
            "peak": f"{phase.pps * packet_bytes * 8}bit", "flows": _FLOWS, "burst_flows": _FLOWS,
        }
    )  # fmt: skip


def watch(scenario: Scenario) -> Watched:
    """Run a small trial and return what was seen of it.

    Raises:
        TestbedError: it failed.
    """
    network = topologies.describe(scenario.topology)
    plan = make_plan(scenario, network, Path.cwd())
    watched = Watched(scenario)
    with tempfile.TemporaryDirectory(prefix="testbed-capacity-") as folder:
        logs = Path(folder, "logs")
        logs.mkdir()
        recorder = _Watcher(watched, RunDirectory.create(Path(folder, "run"), {}))
        try:
            with kernel.in_real_time(_PRIORITY):
                emulate(trial_plan(scenario, network, plan, logs), recorder)
        except _SeenEnough as seen:
            os.waitpid(seen.guard_pid, 0)  # the sandbox is gone with it
    _check(watched)
    return watched


def _check(watched: Watched) -> None:
    """Refuse what says nothing: the packets were not seen to arrive, or the processes not while they did."""
    arrived = sum(count for _, count in watched.arrivals)
    planned = sum(phase.pps * phase.for_ms // 1000 for phase in PHASES)
    if len(watched.looks) < _LEAST_LOOKS or arrived < planned / 4:
        happened = f"{arrived:,} of {planned:,} packets of a small trial were counted, in {len(watched.looks)} readings"
        raise ToolError("measuring this machine", happened, "end other work on this machine, and try again")


class _SeenEnough(Exception):
    """All that is looked for was seen: how the trial ends is of no interest, and takes as long as all before."""

    def __init__(self, guard_pid: int) -> None:
        super().__init__()
        self.guard_pid = guard_pid


class _Watcher:
    """A recorder that writes the run down, as any does, and looks at the processes on the way."""

    def __init__(self, watched: Watched, directory: RunDirectory) -> None:
        self._watched, self._directory = watched, directory
        self._tree: ProcessTree | None = None
        self._flowing = False
        self._due_ns = self._guard_pid = self._seen_ns = 0

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """Write rows of samples, and take in when they were taken."""
        self._directory.append_columns(columns)
        self._take({name: np.asarray(columns[name]) for name in _TAKEN})

    def append_event(self, t_ns: int, record: Mapping[str, Any]) -> None:
        """Write an event."""
        self._directory.append_event(t_ns, record)

    def waiting(self, what: str, for_ns: int) -> None:
        """Take note that traffic flows: from then on the processes are looked at."""
        self._flowing = self._flowing or what == TRAFFIC

    def checkpoint(self) -> None:
        """Write what is due, and look at the processes if that is.

        Raises:
            _SeenEnough: the last phase is over.
        """
        self._directory.checkpoint()
        now_ns = time.monotonic_ns()
        if self._flowing and now_ns >= self._due_ns:
            self._due_ns = now_ns + _LOOK_NS
            self._look()
            if self._seen_ns > DURATION_MS * NS_PER_MS:  # who is late on a busy machine is waited for
                raise _SeenEnough(self._guard_pid)

    def _look(self) -> None:
        if self._tree is None:
            self._guard_pid = next(pid for pid in children(os.getpid()) if name_of(pid) == GUARD)
            self._tree = ProcessTree(self._guard_pid)
            self._watched.node_bytes = self._tree.pss_bytes({AGENTS, MESH})
            self._watched.fixed_bytes = self._tree.pss_bytes() - self._watched.node_bytes
        self._watched.looks.append(self._tree.spent())
        self._watched.ours_ns.append(time.process_time_ns())

    def _take(self, columns: Mapping[str, Ints]) -> None:
        seen, now_ns = self._watched, time.monotonic_ns()
        t_ns, arrived, late_ns, loop_ns = (columns[name] for name in _TAKEN)
        if len(t_ns):
            began_ns = now_ns - int(t_ns.max())  # the last of a batch is handed over at once
            seen.t0_ns = min(seen.t0_ns or began_ns, began_ns)
            self._seen_ns = max(self._seen_ns, int(t_ns.max()))
        seen.arrivals += list(zip(t_ns.tolist(), arrived.tolist(), strict=True))
        seen.late_ns += late_ns.tolist()
        seen.loop_ns += loop_ns.tolist()
