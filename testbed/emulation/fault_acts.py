"""What each fault does to the running trial, how that is undone, and how either is seen to have happened.

    crash       the node falls silent, its links stay up: its program lets nothing pass, its processes are killed, what
                lies in its queue is thrown away.  Over: an empty queue, and processes that begin a new life
    link_down   the node's end of its link to the switch goes down.  Over: up, with the addresses that went with it
    partition   mesh messages between the groups reach nobody (a permanent neighbour entry that points nowhere; the
                sender notices nothing); the balancer is reached from everywhere
    kill        the controller that steers is killed, or all controllers
    pause       the node's processes are stopped

Whoever is to notice a fault is not told of it, nor of its end.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pyroute2 import IPRoute

from testbed.emulation import kernel
from testbed.emulation.crew import CONTROLLERS
from testbed.emulation.members import Member
from testbed.emulation.network import EmulatedNetwork, NodeLink, mesh_ip
from testbed.emulation.node_buffers import NodeBuffers
from testbed.errors import ToolError
from testbed.spec.scenario import FaultSpec

_NOWHERE_MAC = "02:ff:ff:ff:ff:ff"
_SETTLE_S = 0.001  # a packet the program let pass before is in the queue by then
_SEEN_WITHIN_S = 1.0
_NUD_PERMANENT = 0x80
_CARRIER_LOST = ("DOWN", "LOWERLAYERDOWN")


@dataclass(frozen=True, slots=True)
class Ground:
    """What faults act on.

    Attributes:
        network: the running network.
        buffers: of every node.
        members: every process of the trial that a fault may hit, by name.
        release: takes back the memory that a node held.
        revive: starts the processes of a node anew and returns them, running.
    """

    network: EmulatedNetwork
    buffers: NodeBuffers
    members: dict[str, Member]
    release: Callable[[str], None]
    revive: Callable[[str], list[Member]]


@dataclass(slots=True)
class Books:
    """What the acts cost, as counted at the place.

    Attributes:
        ended: names of members that are dead by command.
        discarded_pkts: packets thrown away with the queue of a crashed node, by node.
        dead_link_pkts: packets the switch sent into a link that was down, by node.
    """

    ended: set[str] = field(default_factory=set)
    discarded_pkts: dict[str, int] = field(default_factory=dict)
    dead_link_pkts: dict[str, int] = field(default_factory=dict)


class Acts:
    """Begins and ends faults.  Each raises `ToolError` when it is not seen to happen."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._drops_at_down: dict[str, int] = {}
        self._links: dict[str, NodeLink] = {}
        self._netlink = IPRoute()
        self.books = Books()

    def prepare(self, spec: FaultSpec) -> None:
        """Do all of it that takes time and breaks nothing, so that `begin` is one stroke."""
        if spec.kind == "link_down":
            self._drops_at_down[spec.node] = self._port(spec.node)[1]
            self._link_of(spec.node)

    def begin(self, spec: FaultSpec) -> None:
        """Break what the fault says."""
        if spec.partition is not None:
            self._divide(spec.partition, apart=True)
        elif spec.kind == "kill":
            alive = [member.name for member in self._alive(*CONTROLLERS)]
            self._end(*(alive if spec.kill == "controllers" else alive[:1]))
        else:
            {"crash": self._crash, "link_down": self._link_down, "pause": self._pause}[spec.kind](spec.node)

    def end(self, spec: FaultSpec) -> None:
        """Heal it."""
        if spec.partition is not None:
            self._divide(spec.partition, apart=False)
        else:
            {"crash": self._restart, "link_down": self._link_up, "pause": self._go_on}[spec.kind](spec.node)

    def close(self) -> None:
        """Count what is still being lost; call it when the queues are drained."""
        for node in list(self._drops_at_down):
            self._count_dead_link(node)

    # ------------------------------------------------------------------------------------------------------- nodes

    def _crash(self, node: str) -> None:
        ground, books = self._ground, self.books
        ground.buffers.programs[node].set_crashed(True)
        self._end(f"mesh {node}", f"agent {node}")
        time.sleep(_SETTLE_S)
        books.discarded_pkts[node] = books.discarded_pkts.get(node, 0) + ground.buffers.discard_queue(node)
        ground.release(node)

    def _restart(self, node: str) -> None:
        ground = self._ground
        ground.buffers.renew_queue(node)
        ground.buffers.programs[node].set_crashed(False)
        for member in ground.revive(node):
            ground.members[member.name] = member
            self.books.ended.discard(member.name)

    def _pause(self, node: str) -> None:
        self._signal(node, signal.SIGSTOP)
        for member in self._processes(node):
            _see(f"stopping {member.name}", lambda pid=member.pid: _state(pid) == "T")  # type: ignore[misc]

    def _go_on(self, node: str) -> None:
        self._signal(node, signal.SIGCONT)
        for member in self._processes(node):
            _see(f"letting {member.name} go on", lambda pid=member.pid: _state(pid) != "T")  # type: ignore[misc]

    def _signal(self, node: str, number: signal.Signals) -> None:
        for member in self._processes(node):
            os.kill(member.pid, number)

    def _processes(self, node: str) -> list[Member]:
        return self._alive(f"agent {node}", f"mesh {node}")

    def _alive(self, *names: str) -> list[Member]:
        members = self._ground.members
        return [members[name] for name in names if name in members and name not in self.books.ended]

    def _end(self, *names: str) -> None:
        members = self._alive(*names)
        for member in members:
            self.books.ended.add(member.name)
            os.kill(member.pid, signal.SIGKILL)
        for member in members:
            _see(f"killing {member.name}", member.ended)

    # ------------------------------------------------------------------------------------------------------- links

    def _link_of(self, node: str) -> NodeLink:
        if node not in self._links:
            self._links[node] = NodeLink(self._ground.network, node)
        return self._links[node]

    def _link_down(self, node: str) -> None:
        self._link_of(node).down()
        _see(f"taking the link of {node} down", lambda: self._port(node)[0] in _CARRIER_LOST)

    def _link_up(self, node: str) -> None:
        self._link_of(node).up()
        _see(f"taking the link of {node} up", lambda: self._port(node)[0] == "UP")
        self._count_dead_link(node)

    def _count_dead_link(self, node: str) -> None:
        lost = self._port(node)[1] - self._drops_at_down.pop(node)
        self.books.dead_link_pkts[node] = self.books.dead_link_pkts.get(node, 0) + lost

    def _port(self, node: str) -> tuple[str, int]:
        """Return the state of the switch's end of the node's link, and what it has dropped."""
        (port,) = self._netlink.get_links(socket.if_nametoindex(self._ground.network.network.interface("s1", node)))
        stats = port.get_attr("IFLA_STATS64")
        return port.get_attr("IFLA_OPERSTATE"), stats["rx_dropped"] + stats["tx_dropped"]

    def _divide(self, groups: tuple[tuple[str, ...], ...], *, apart: bool) -> None:
        """Point the neighbour entries across the groups nowhere, or back to where they belong."""
        described = self._ground.network.network
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
