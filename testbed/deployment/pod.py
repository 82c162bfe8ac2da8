"""The processes of a pod: how they are forked, monitored, read and stopped.

    main process ─ fork ─▶ members (agent, mesh; balancer, standby)        each with a row in the status table
         │  ◀─ records ──┘
         └ loop: records → metrics and log · whatever the role does · a member that ended ends the pod

If one of the processes ends, the pod ends, and the platform restarts it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any

from testbed.controllers.process import LONGEST_WAIT_NS
from testbed.deployment.clock import ClusterClock
from testbed.emulation.processes.channel import EventRecord, Failure, RecordWriter, channel
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.sample_block import SampleBlock
from testbed.emulation.processes.status_table import StatusTable
from testbed.emulation.processes.trial_process import Body, TrialConnection, TrialProcess, join_all
from testbed.errors import ToolError
from testbed.openmetrics.live import LiveMetrics
from testbed.records import events, processes
from testbed.records.written import direction_of
from testbed.system import kernel, waiting
from testbed.units import NS_PER_S

LATE_NS = NS_PER_S  # a loop that has not come round for so long is stuck
_ROWS = 8
_LOGGED = {
    record.__name__
    for record in (
        events.NodeLeft, events.NodeJoined, events.RemoveNode, events.RestoreNode, events.AddOrdered,
        events.DrainOrdered, events.StopNode, events.RefuseOrder, processes.MemberDied, processes.MemberReturned,
        processes.MeshStopped, processes.BalancerReady, processes.BalancerStopped, processes.ControllerTookOver,
        processes.StandbyLost, processes.StandbyReady, processes.SwitchLost,
    )
}  # fmt: skip


class Pod:
    """The processes of this pod.

    Attributes:
        metrics: what the members report, for scrapes.
        kinds: how often each kind of record was reported.
    """

    def __init__(self, metrics: LiveMetrics, clock: ClusterClock) -> None:
        self.metrics, self._clock = metrics, clock
        self._table = StatusTable(_ROWS)
        self._records, self._records_end = channel()
        self.members: list[TrialProcess] = []
        self.kinds: dict[str, int] = {}

    def fork(self, name: str, body: Body) -> TrialProcess:
        """Fork a process that ends with this one; before any thread is started."""
        parent = os.getpid()

        def live(trial: TrialConnection, records: RecordWriter) -> None:
            kernel.die_with_parent(parent)
            body(trial, records)

        self.members.append(TrialProcess(name, live, self._records_end, self._table.row(name)))
        return self.members[-1]

    def pulse(self, name: str, period_ns: int = LONGEST_WAIT_NS) -> Pulse:
        """Return the pulse of a process that is about to be forked."""
        return self._table.row(name).pulse(period_ns)

    def start(self) -> None:
        """Wait until all are ready, and let them begin."""
        for member in self.members:
            member.take()
            member.start(self._clock.t0_ns)

    def late_ns(self) -> int:
        """Return for how long the process that was silent longest has given no sign."""
        now_ns = time.monotonic_ns()
        return max((self._table.row(member.name).seen(now_ns).silent_ns for member in self.members), default=0)

    def turn(self, descriptors: Sequence[int], within_ns: int) -> None:
        """Wait for one of the descriptors, or for records, and take the records in.

        Raises:
            ToolError: a process of the pod has ended.
        """
        waiting.readable([self._records.fileno(), *descriptors], max(0, within_ns))
        for message in self._records.read():
            if isinstance(message, SampleBlock):
                self.metrics.append_columns(message.columns())
            elif isinstance(message, EventRecord):
                self._take(message)
            elif isinstance(message, Failure):
                raise message.error

    def refuse_loss(self) -> None:
        """Check that all processes are running.

        Raises:
            ToolError: one has ended.
        """
        lost = next((member for member in self.members if member.ended()), None)
        if lost is not None:
            raise ToolError("running the pod", lost.fate(), "the platform starts it again; its log says more")

    def stop(self) -> None:
        """Ask the processes that live to end, and wait for that."""
        alive = [member for member in self.members if not member.ended()]
        for member in alive:
            member.stop()
        join_all(alive)

    def note(self, policy: str, record: events.Event | events.Action) -> None:
        """Take in a record of the main process."""
        self._take(EventRecord.of(self._clock.now_ns(), record, policy, direction_of(record)))

    def _take(self, message: EventRecord) -> None:
        self.metrics.append_event(message.line)
        kind = str(message.line["kind"])
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        if kind in _LOGGED:
            log(message.t_ns, message.line)


def log(t_ns: int, line: dict[str, Any]) -> None:
    """Write a line of the pod's log: JSON, with the time of day."""
    shown = {key: value for key, value in line.items() if key != "slots"}
    sys.stdout.write(json.dumps({"t_ns": t_ns, **shown}, default=str) + "\n")
    sys.stdout.flush()


def bound(port: int) -> socket.socket:
    """Return a UDP socket at a port of every address of the pod."""
    line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    line.bind(("0.0.0.0", port))  # noqa: S104  # a pod has the addresses that its platform gives it
    return line
