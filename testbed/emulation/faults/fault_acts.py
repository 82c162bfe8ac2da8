"""What each fault does to the running trial, how that is undone, and how either is seen to have happened.

    crash       the node falls silent, its links stay up: its program lets nothing pass, its processes are killed, what
                lies in its queue is thrown away.  Over: an empty queue, and processes that begin a new life
    link_down   the link between node and switch is cut, then the node's end goes down, as the switch is to see.
                Over: up, with the addresses that went with it
    flap        the same, once a period
    loss        packets on their way to the node are lost at random, drawn from the scenario's seed
    partition   mesh messages between the groups reach nobody (a permanent neighbour entry that points nowhere; the
                sender notices nothing); the balancer is reached from everywhere
    kill        the controller that steers is killed, or all controllers
    pause       the node's processes are stopped
    cpu_hog     processes burn CPU beside the trial

Whoever is to notice a fault is not told of it, nor of its end.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from testbed.emulation.dataplane.node_buffers import NodeBuffers
from testbed.emulation.faults.failing_link import FailingLink
from testbed.emulation.faults.hogs import Hogs
from testbed.emulation.network.mininet import EmulatedNetwork, mesh_ip
from testbed.emulation.processes.crew import CONTROLLERS
from testbed.emulation.processes.members import Member
from testbed.errors import ToolError
from testbed.scenario.fault import FaultKind, FaultSpec
from testbed.system import kernel
from testbed.traffic.numbers import Words

_NOWHERE_MAC = "02:ff:ff:ff:ff:ff"
_SETTLE_S = 0.001  # a packet the program let pass before is in the queue by then
_SEEN_WITHIN_S = 1.0
_NUD_PERMANENT = 0x80
_CARRIER_LOST = ("DOWN", "LOWERLAYERDOWN")


Measured = dict[str, Any]
Act = Callable[[FaultSpec], Measured | None]


@dataclass(frozen=True, slots=True)
class Ground:
    """What faults act on.

    Attributes:
        network: the running network.
        buffers: of every node.
        seed_of: derives the seed of a named stream.
        members: every process of the trial that a fault may hit, by name.
        release: takes back the memory that a node held.
        revive: starts the processes of a node anew and returns them, running.
    """

    network: EmulatedNetwork
    buffers: NodeBuffers
    seed_of: Callable[[str], int]
    members: dict[str, Member]
    release: Callable[[str], None]
    revive: Callable[[str], list[Member]]


@dataclass(slots=True)
class Books:
    """What the acts cost, as counted at the place.

    Attributes:
        ended: names of members that are dead by command.
        discarded_pkts: frames thrown away with the queue of a crashed node, by node; planned or not.
        discarded_planned_pkts: those of them that are planned packets, of the crashes that are over.
    """

    ended: set[str] = field(default_factory=set)
    discarded_pkts: Counter[str] = field(default_factory=Counter)
    discarded_planned_pkts: Counter[str] = field(default_factory=Counter)


class Acts:
    """Begins and ends faults.

    Each returns what was measured of it, to be recorded, and raises `ToolError` when it is not seen to happen.
    """

    def __init__(self, ground: Ground, specs: Iterable[FaultSpec]) -> None:
        """Get ready for these faults; before traffic, as counting begins on the links they take down."""
        self._ground = ground
        self._netlink = IPRoute()
        failing = sorted({spec.node for spec in specs if spec.link_down or spec.flap})
        self._links = {node: FailingLink(ground.network, ground.buffers, node) for node in failing}
        self._loss_before: dict[str, tuple[int, int]] = {}
        self._hogs: dict[FaultSpec, list[Hogs]] = {}
        self._crashed: set[str] = set()
        self.books = Books()

    def begin(self, spec: FaultSpec) -> Measured:
        """Break what the fault says."""
        return self._acts(spec)[0](spec) or {}

    def end(self, spec: FaultSpec) -> Measured:
        """Heal it."""
        return self._acts(spec)[1](spec) or {}

    def close(self) -> None:
        """Count what the nodes that have crashed and not come back threw away; call it when the queues are drained."""
        for node in self._crashed:
            self._count_discarded(node)

    def toll(self, spec: FaultSpec) -> int:
        """Return how many planned packets faults of that kind and node have cost so far, the present one excepted."""
        if spec.kind == "crash":
            return self._ground.buffers.crashed_pkts(spec.node) + self.books.discarded_planned_pkts[spec.node]
        return self._links[spec.node].lost_pkts()

    def link_pkts(self, node: str) -> int:
        """Return how many planned packets a link that fails has swallowed while it was down; 0 for other links."""
        return self._links[node].lost_pkts() if node in self._links else 0

    def swallowed_frames(self) -> int:
        """Return how many frames of any kind went nowhere on links that were down."""
        return sum(link.swallowed_frames() for link in self._links.values())

    def swallowed_by_links(self) -> dict[str, Words]:
        """Return which packets those are, of each link that fails, by node."""
        return {node: link.swallowed() for node, link in self._links.items()}

    def _count_discarded(self, node: str) -> None:
        """Count the planned packets among the frames that a node which has crashed threw away so far.

        Behind it nothing is under way by now, so what its program let in and its sink has not seen was lost there, and
        no more of it was thrown away than there were frames.
        """
        books, behind = self.books, self._ground.buffers.behind_pkts(node)
        books.discarded_planned_pkts[node] = min(books.discarded_pkts[node], behind)

    def _acts(self, spec: FaultSpec) -> tuple[Act, Act]:
        """Return what breaks and what heals."""
        pairs: dict[FaultKind, tuple[Act, Act]] = {
            "crash": (self._crash, self._restart),
            "link_down": (self._link_down, self._link_up),
            "flap": (self._link_down, self._link_up),
            "loss": (self._lose, self._keep),
            "partition": (lambda s: self._divide(s, apart=True), lambda s: self._divide(s, apart=False)),
            "kill": (self._kill, lambda _: None),
            "pause": (self._pause, self._go_on),
            "cpu_hog": (self._burn, self._rest),
        }
        return pairs[spec.kind]

    # ------------------------------------------------------------------------------------------------------- nodes

    def _crash(self, spec: FaultSpec) -> None:
        ground, books, node = self._ground, self.books, spec.node
        ground.buffers.programs[node].set_crashed(True)
        self._end(f"mesh {node}", f"agent {node}")
        time.sleep(_SETTLE_S)
        books.discarded_pkts[node] += ground.buffers.discard_queue(node)
        self._crashed.add(node)
        ground.release(node)

    def _restart(self, spec: FaultSpec) -> None:
        ground, node = self._ground, spec.node
        self._count_discarded(node)
        self._crashed.discard(node)
        ground.buffers.renew_queue(node)
        ground.buffers.programs[node].set_crashed(False)
        for member in ground.revive(node):
            ground.members[member.name] = member
            self.books.ended.discard(member.name)

    def _pause(self, spec: FaultSpec) -> None:
        for member in self._processes(spec.node):
            member.suspend()
        for member in self._processes(spec.node):
            _see(f"stopping {member.name}", lambda pid=member.pid: _state(pid) == "T")  # type: ignore[misc]

    def _go_on(self, spec: FaultSpec) -> None:
        for member in self._processes(spec.node):
            member.resume()
        for member in self._processes(spec.node):
            _see(f"letting {member.name} go on", lambda pid=member.pid: _state(pid) != "T")  # type: ignore[misc]

    def _processes(self, node: str) -> list[Member]:
        return self._alive(f"agent {node}", f"mesh {node}")

    def _alive(self, *names: str) -> list[Member]:
        members = self._ground.members
        return [members[name] for name in names if name in members and name not in self.books.ended]

    def _burn(self, spec: FaultSpec) -> None:
        assert spec.cpu_hog is not None
        hogs = Hogs(spec.cpu_hog)
        self._hogs.setdefault(spec, []).append(hogs)
        _see(f"burning CPU with {spec.cpu_hog} processes", lambda: all(hogs.burnt_s()))

    def _rest(self, spec: FaultSpec) -> Measured:
        hogs = self._hogs[spec].pop()
        burnt_s = sum(hogs.burnt_s())
        hogs.end()
        return {"burnt_s": burnt_s}

    def _kill(self, spec: FaultSpec) -> None:
        alive = [member.name for member in self._alive(*CONTROLLERS)]
        self._end(*(alive if spec.kill == "controllers" else alive[:1]))

    def _end(self, *names: str) -> None:
        members = self._alive(*names)
        for member in members:
            self.books.ended.add(member.name)
            os.kill(member.pid, signal.SIGKILL)
        for member in members:
            _see(f"killing {member.name}", member.ended)

    # ------------------------------------------------------------------------------------------------------- links

    def _link_down(self, spec: FaultSpec) -> None:
        self._links[spec.node].down()
        _see(f"taking {spec.link} down", lambda: self._port_state(spec.node) in _CARRIER_LOST)

    def _link_up(self, spec: FaultSpec) -> None:
        self._links[spec.node].up()
        _see(f"taking {spec.link} up", lambda: self._port_state(spec.node) == "UP")
        self._links[spec.node].mend()

    def _port_state(self, node: str) -> str:
        """Return how the switch's end of the node's link is."""
        index = socket.if_nametoindex(self._ground.network.network.interface("s1", node))
        state: str = self._netlink.get_links(index)[0].get_attr("IFLA_OPERSTATE")
        return state

    def _lose(self, spec: FaultSpec) -> None:
        assert spec.ratio is not None
        program = self._ground.buffers.programs[spec.node]
        self._loss_before[spec.node] = program.loss()
        program.set_loss(spec.ratio, self._ground.seed_of(f"loss {spec.link}"))

    def _keep(self, spec: FaultSpec) -> Measured:
        program = self._ground.buffers.programs[spec.node]
        program.set_loss(0.0)
        before = self._loss_before.pop(spec.node)
        met, lost = (after - old for after, old in zip(program.loss(), before, strict=True))
        if not met:
            raise ToolError(f"losing packets on {spec.link}", "no packet came while it was to lose some")
        return {"met_pkts": met, "lost_pkts": lost}

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
