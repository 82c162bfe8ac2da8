"""Processes that die unexpectedly are restarted while the trial continues: `run --restart`.

Without this option such a death ends the trial. For an experiment this is right, because after the death the trial is
not the one that the scenario describes.  A trial that runs for days (`serve`) treats the death as a fault: a successor
with the same name is started, the death is recorded and named in the verdict, and the packets are accounted as usual.

    agent     its nodes start again, as after a crash: a new policy, the initial limit, its memory back to the pool
    mesh      a member with the same keys joins; its monitors receive its heartbeats again
    balancer  a new one writes its pipeline; meanwhile the switch has forwarded by the old one
    standby, or a balancer that has one: the other one continues alone; there is no successor, because the switch knows
              a later generation id of controllers by then and would refuse it

A sender, or a daemon of the switch, gets no successor, because part of the experiment is lost with it.  Neither does a
process that dies too often.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from testbed.emulation.dataplane.node_buffers import NodeBuffers
from testbed.emulation.faults.act import FaultContext
from testbed.emulation.network.open_vswitch import OpenVSwitch
from testbed.emulation.processes.controller_process import CONTROLLERS
from testbed.emulation.processes.process_set import ProcessSet
from testbed.emulation.processes.status_table import Row
from testbed.emulation.processes.trial_process import LISTENING, TrialProcess, wait_all_ready
from testbed.records.processes import ProcessRestarted
from testbed.units import NS_PER_MS, NS_PER_S

MOST_RESTARTS = 10  # of one process within a trial
_REASON = "restart"


class Restarts:
    """Looks for processes that have ended, and starts successors.

    Attributes:
        fates: what became of each process that ended, in the order of time.
    """

    def __init__(
        self,
        processes: ProcessSet,
        buffers: NodeBuffers,
        switch: OpenVSwitch,
        faults: FaultContext,
        t0_ns: int,
        row: Row,
        write: Callable[[ProcessRestarted], None],
    ) -> None:
        """Take over the running processes; `faults` knows which of them an order has ended."""
        self._processes, self._buffers, self._switch, self._faults = processes, buffers, switch, faults
        self._t0_ns, self._row, self._write = t0_ns, row, write
        self._counts: Counter[str] = Counter()
        self.fates: list[str] = []

    def look(self) -> None:
        """Start a successor for each process that has ended unordered and may have one."""
        for process in list(self._processes.others):
            if process.name not in self._faults.counters.ended and process.ended():
                self._succeed(process)

    def _succeed(self, dead: TrialProcess) -> None:
        self._counts[dead.name] += 1
        if self._counts[dead.name] > MOST_RESTARTS:
            return
        began_ns = time.monotonic_ns()
        if self._is_carried(dead):
            self._faults.counters.ended.add(dead.name)
            self._note(dead, "the other controller continues alone", began_ns)
        elif (successors := self._started(dead)) is not None:
            self._processes.take_in(successors, self._t0_ns)
            self._faults.processes.update({process.name: process for process in successors})
            self._note(dead, "restarted", began_ns)

    def _is_carried(self, dead: TrialProcess) -> bool:
        """Return whether another controller lives that does the work of one that is dead."""
        others = self._faults.alive(*(name for name in CONTROLLERS if name != dead.name))
        return dead.name in CONTROLLERS and any(not process.ended() for process in others)

    def _started(self, dead: TrialProcess) -> list[TrialProcess] | None:
        for node in self._processes.nodes_of(dead.name):
            self._processes.release_memory(node, _REASON)
            self._buffers.restore_limit(node)
        successors = self._processes.fork_anew(dead.name, self._buffers, self._switch)
        if not successors:
            return None
        if dead.name in CONTROLLERS:
            wait_all_ready(successors, self._row, LISTENING)
        wait_all_ready(successors, self._row)
        return successors

    def _note(self, dead: TrialProcess, then: str, began_ns: int) -> None:
        now_ns = time.monotonic_ns()
        at_s, took_ms = (began_ns - self._t0_ns) / NS_PER_S, (now_ns - began_ns) / NS_PER_MS
        self.fates.append(f"{dead.fate()} at {at_s:.3f} s, {then} after {took_ms:.0f} ms")
        self._write(ProcessRestarted(process=dead.name, fate=dead.fate(), took_ms=took_ms))
