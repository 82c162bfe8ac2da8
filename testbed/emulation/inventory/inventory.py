"""Everything that a trial relies on: networks, switch, processes and the settings of the buffers.

    snapshot at the start ─ watched while traffic flows ─ snapshot at the end ─ minus what faults changed ─ changes

Every change that the scenario did not order is named in the verdict, even if it was reverted before the end.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from testbed.emulation.dataplane.xdp import NodeProgram
from testbed.emulation.inventory.control_stock import ControlStock
from testbed.emulation.inventory.difference import Difference
from testbed.emulation.inventory.grouping import changes_of
from testbed.emulation.inventory.namespace import NamespaceStock
from testbed.emulation.inventory.ordered import not_ordered
from testbed.emulation.inventory.processes import Demand, ProcessStock, Watched
from testbed.emulation.inventory.switch_stock import SWITCH, SwitchStock
from testbed.emulation.network.mininet import EmulatedNetwork
from testbed.emulation.network.open_vswitch import RUNDIR
from testbed.records.changes import Change
from testbed.traffic.carried_out import Fault


class Inventory:
    """The stock of a running trial, seen from its PID 1."""

    def __init__(
        self, network: EmulatedNetwork, programs: Mapping[str, NodeProgram], logs: Path, now_ns: Callable[[], int]
    ) -> None:
        """Take stock of networks, switch and buffers; what changes from now on is heard.

        Args:
            network: the running network.
            programs: of every node.
            logs: where the switch's daemon writes.
            now_ns: the run's clock.
        """
        self._described, self._now_ns = network.network, now_ns
        self._switch = SwitchStock(network.network.data_switches, RUNDIR / "conf.db", logs / "ovs-vswitchd.log")
        pids = {SWITCH: os.getpid(), **{host.name: network.pid(host.name) for host in network.network.hosts}}
        self._namespaces = {}
        self._heard = select.epoll()
        for name, pid in pids.items():
            stock = NamespaceStock(name, pid)
            self._namespaces[stock.fileno()] = stock
            self._heard.register(stock.fileno(), select.EPOLLIN)
        self._processes = ProcessStock(now_ns)
        self._control = ControlStock(programs)
        self._switch.settled()

    def fileno(self) -> int:
        """Return a descriptor that is readable when a namespace has news."""
        return self._heard.fileno()

    @property
    def demand(self) -> Demand:
        """Return the largest demand for a core of a real-time process."""
        return self._processes.demand

    def look(self, processes: Sequence[Watched]) -> None:
        """Process what has changed; to be called several times a second, and when there are news."""
        now_ns = self._now_ns()
        for descriptor, _ in self._heard.poll(0):
            self._namespaces[descriptor].hear(now_ns)
        self._switch.look(now_ns)
        self._processes.look(processes, now_ns)
        self._control.look(now_ns)

    def changes(
        self, processes: Sequence[Watched], faults: Iterable[Fault], beside: Iterable[Difference]
    ) -> tuple[Change, ...]:
        """Take stock once more and return what changed that no fault ordered; call it when the queues are drained.

        Args:
            processes: those that run.
            faults: the faults that were carried out.
            beside: what others have seen.
        """
        now_ns = self._now_ns()
        found = [*self._switch.differences(now_ns), *self._processes.differences(processes, now_ns), *beside]
        found += self._control.look(now_ns)
        for stock in self._namespaces.values():
            found += stock.differences(now_ns)
        return changes_of(not_ordered(found, faults, self._described))
