"""Faults, carried out: each at its time, seen to have happened, and recorded as commanded and as observed.

    crash       the node falls silent, its links stay up: its program lets nothing pass, its processes are killed, what
                lies in its queue is thrown away
    link_down   the node's end of its link to the switch goes down
    partition   mesh messages between the groups reach nobody (a permanent neighbour entry that points nowhere; the
                sender notices nothing); the balancer is reached from everywhere
    kill        the balancer process is killed
    pause       the node's processes are stopped, and go on after `for`

Whoever is to notice a fault is not told of it.  A fault that cannot be seen to have happened fails the trial.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from testbed.emulation import kernel
from testbed.emulation.members import Member
from testbed.emulation.network import EmulatedNetwork, mesh_ip
from testbed.emulation.shaping import QdiscReader, discard_queue
from testbed.emulation.xdp import NodeProgram, SinkProgram
from testbed.errors import ToolError
from testbed.spec.scenario import FaultSpec
from testbed.traffic.fault_losses import FlowRows, PlannedTimes, loss_of
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS

_NOWHERE_MAC = "02:ff:ff:ff:ff:ff"
_SETTLE_S = 0.001  # a packet the program let pass before is in the queue by then
_SEEN_WITHIN_S = 1.0
_NUD_PERMANENT = 0x80

Tell = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Ground:
    """What faults act on.

    Attributes:
        network: the running network.
        programs, sinks, qdiscs: of every node.
        members: every process of the trial that a fault may hit, by name.
        plan: the packets.
        now_ns: the run's clock.
        tell: records a kind with its fields.
    """

    network: EmulatedNetwork
    programs: Mapping[str, NodeProgram]
    sinks: Mapping[str, SinkProgram]
    qdiscs: Mapping[str, QdiscReader]
    members: Mapping[str, Member]
    plan: PacketPlan
    now_ns: Callable[[], int]
    tell: Tell


@dataclass(slots=True)
class _Done:
    """A fault that was carried out."""

    number: int
    spec: FaultSpec
    commanded_ns: int
    flows: dict[str, FlowRows] = field(default_factory=dict)


class Faults:
    """The faults of a scenario in the order of their times.

    Attributes:
        ended: names of members that are dead by command.
        discarded_pkts: packets thrown away with the queue of a crashed node, by node.
    """

    def __init__(self, specs: tuple[FaultSpec, ...], ground: Ground) -> None:
        self._ground = ground
        steps = [(spec.at_ns, number, False) for number, spec in enumerate(specs)]
        steps += [(spec.at_ns + spec.for_ns, n, True) for n, spec in enumerate(specs) if spec.for_ns is not None]
        self._steps = sorted(steps)
        self._specs = specs
        self._done: dict[int, _Done] = {}
        self.ended: set[str] = set()
        self.discarded_pkts: dict[str, int] = {}

    def next_ns(self) -> int | None:
        """Return when the next step is due."""
        return self._steps[0][0] if self._steps else None

    def carry_out_due(self) -> None:
        """Do every step whose time has come."""
        while self._steps and self._steps[0][0] <= self._ground.now_ns():
            _, number, heals = self._steps.pop(0)
            if heals:
                self._heal(number)
            else:
                self._begin(number, self._specs[number])

    def finish(self) -> None:
        """Heal at the end of sending what was to heal later: stopped processes could not be ended."""
        for _, number, heals in self._steps:
            if heals and number in self._done:
                self._heal(number)
        self._steps = []

    @property
    def failed(self) -> frozenset[str]:
        """Return the nodes that a fault hit in a way that may move their flows."""
        return frozenset(node for done in self._done.values() for node in self._victims(done.spec))

    @property
    def crashed_ns(self) -> dict[str, int]:
        """Return when each crashed node was."""
        return {done.spec.node: done.commanded_ns for done in self._done.values() if done.spec.kind == "crash"}

    @property
    def links_down(self) -> frozenset[str]:
        """Return the nodes whose link was taken down."""
        return frozenset(done.spec.node for done in self._done.values() if done.spec.kind == "link_down")

    def report_losses(self, ran_ns: int) -> None:
        """Record what each fault cost; call it when the queues are drained."""
        after, times = self._flows(), PlannedTimes(self._ground.plan)
        for done in self._done.values():
            if done.flows:
                loss = loss_of(done.spec.node, done.flows, after, times, ran_ns)
                self._tell("FaultLosses", done, **asdict(loss))

    # ------------------------------------------------------------------------------------------------------- steps

    def _begin(self, number: int, spec: FaultSpec) -> None:
        done = self._done[number] = _Done(number, spec, self._ground.now_ns())
        if spec.kind in ("crash", "link_down"):
            done.flows = self._flows()
            done.commanded_ns = self._ground.now_ns()
        self._tell("FaultCommanded", done, t_commanded_ns=done.commanded_ns, for_ns=spec.for_ns)
        act = {"crash": self._crash, "link_down": self._link_down, "kill": self._kill, "pause": self._pause}
        if spec.partition is not None:
            self._divide(spec, apart=True)
        else:
            act[spec.kind](spec.node)
        self._tell("FaultObserved", done, took_ms=(self._ground.now_ns() - done.commanded_ns) / NS_PER_MS)

    def _heal(self, number: int) -> None:
        done = self._done[number]
        if done.spec.partition is not None:
            self._divide(done.spec, apart=False)
        else:
            self._go_on(done.spec.node)
        self._tell("FaultHealed", done)

    def _crash(self, node: str) -> None:
        ground = self._ground
        ground.programs[node].set_crashed(True)
        self._end(f"mesh {node}", f"agent {node}")
        time.sleep(_SETTLE_S)
        before = ground.qdiscs[node].read()
        with kernel.network_of(ground.network.pid(node)):
            described = ground.network.network
            discard_queue(described.interface(node, described.next_hop(node)))
        after = ground.qdiscs[node].read()
        self.discarded_pkts[node] = after.dropped_pkts - before.dropped_pkts
        if after.backlog_pkts:
            raise ToolError(f"crashing {node}", f"{after.backlog_pkts} packets are still in its queue")

    def _kill(self, _target: str) -> None:
        self._end("balancer")

    def _end(self, *names: str) -> None:
        members = [self._ground.members[name] for name in names if name in self._ground.members]
        for member in members:
            self.ended.add(member.name)
            os.kill(member.pid, signal.SIGKILL)
        for member in members:
            _see(f"killing {member.name}", member.ended)

    def _link_down(self, node: str) -> None:
        described = self._ground.network.network
        with kernel.network_of(self._ground.network.pid(node)), IPRoute() as netlink:
            netlink.link("set", index=socket.if_nametoindex(described.interface(node, "s1")), state="down")
        port = described.interface("s1", node)
        with IPRoute() as netlink:
            index = socket.if_nametoindex(port)
            _see(
                f"taking the link of {node} down",
                lambda: netlink.get_links(index)[0].get_attr("IFLA_OPERSTATE") in ("DOWN", "LOWERLAYERDOWN"),
            )

    def _divide(self, spec: FaultSpec, *, apart: bool) -> None:
        """Point the neighbour entries across the groups nowhere, or back to where they belong."""
        described, groups = self._ground.network.network, spec.partition or ()
        for group in groups:
            others = [described.host(node) for other in groups if other is not group for node in other]
            for node in group:
                with kernel.network_of(self._ground.network.pid(node)), IPRoute() as netlink:
                    index = socket.if_nametoindex(described.interface(node, "m1"))
                    for peer in others:
                        mac = _NOWHERE_MAC if apart else self._ground.network.mesh_mac(peer)
                        entry = {"dst": mesh_ip(peer), "lladdr": mac, "ifindex": index, "state": _NUD_PERMANENT}
                        netlink.neigh("replace", **entry)
                    known = {
                        n.get_attr("NDA_DST"): n.get_attr("NDA_LLADDR") for n in netlink.get_neighbours(ifindex=index)
                    }
                    wrong = [p.name for p in others if (known.get(mesh_ip(p)) == _NOWHERE_MAC) != apart]
                    if wrong:
                        raise ToolError("dividing the mesh", f"{node} and {wrong[0]} are not as commanded")

    def _pause(self, node: str) -> None:
        for member in self._processes(node):
            os.kill(member.pid, signal.SIGSTOP)
        for member in self._processes(node):
            _see(f"stopping {member.name}", lambda pid=member.pid: _state(pid) == "T")  # type: ignore[misc]

    def _go_on(self, node: str) -> None:
        for member in self._processes(node):
            os.kill(member.pid, signal.SIGCONT)

    def _processes(self, node: str) -> list[Member]:
        names = [name for name in (f"agent {node}", f"mesh {node}") if name not in self.ended]
        return [self._ground.members[name] for name in names if name in self._ground.members]

    # ----------------------------------------------------------------------------------------------------- records

    def _victims(self, spec: FaultSpec) -> tuple[str, ...]:
        if spec.partition is not None:
            largest = max(spec.partition, key=len)
            return tuple(node for group in spec.partition if group is not largest for node in group)
        return () if spec.kind == "kill" else (spec.node,)

    def _flows(self) -> dict[str, FlowRows]:
        return {node: sink.flows().copy() for node, sink in self._ground.sinks.items()}

    def _tell(self, kind: str, done: _Done, **fields: Any) -> None:
        victims = list(self._victims(done.spec))
        fault = {"fault": done.number, "what": done.spec.kind, "nodes": victims}
        self._ground.tell(kind, {**fault, **fields})


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]


def _see(attempted: str, happened: Callable[[], bool]) -> None:
    """Wait until it is seen to have happened.

    Raises:
        ToolError: it is not.
    """
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while not happened():
        if time.monotonic() > deadline:
            raise ToolError(attempted, f"nothing of it is seen after {_SEEN_WITHIN_S:g} s", "read logs/trial.log")
        time.sleep(0.0002)
