"""Receives the monitors' reports in the balancer; returns which nodes left and which returned.

Datagrams of the mesh come to the same port as notifications and are distinguished by their channel (`concerns`).  When
the reports suffice to remove a node is decided by `policies.agreement`.  A report is recorded only if it differs from
that monitor's last one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from testbed.policies.agreement import Agreement
from testbed.policies.base import require_progress
from testbed.policies.lifecycle import meshed
from testbed.records.events import NodeJoined, NodeLeft, StagesAnnounced, SuspicionsHeard, recast
from testbed.records.processes import SuspicionsChanged
from testbed.records.written import written
from testbed.scenario.mesh import MeshSpec
from testbed.wire.mesh_messages import Codec
from testbed.wire.sealing import LONG_AGO_NS, Channel, Keyring, is_on

Emit = Callable[[int, dict[str, Any]], None]
Conclusion = NodeLeft | NodeJoined | StagesAnnounced


@dataclass(frozen=True, slots=True)
class MeshAccess:
    """What is needed to read the messages of the mesh.

    Attributes:
        members: every node of the mesh, the same list everywhere.
        spec: how many monitors each node has, and how often they report.
        absent: members that may be added later.
    """

    members: tuple[str, ...]
    spec: MeshSpec
    absent: tuple[str, ...] = ()


class MeshReceiver:
    """Receives only; sends nothing to the mesh.  Its only I/O is `emit`."""

    def __init__(self, access: MeshAccess, ring: Keyring, emit: Emit, since_ns: int = LONG_AGO_NS) -> None:
        """Receive with the keys of `ring`; messages sent before `since_ns` are ignored."""
        self._codec = Codec(ring, _silent, since_ns)
        self._agreement = Agreement(access.members, access.spec.watchers, access.spec.sync_interval_ns)
        self._agreement.announce([member for member in access.members if member not in access.absent], 0)
        self._emit = emit
        self._announced: StagesAnnounced | None = None
        self._reports: dict[str, SuspicionsHeard] = {}  # monitor → its last report

    @property
    def ignored(self) -> dict[str, int]:
        """Return how many datagrams were ignored, by reason."""
        return dict(self._codec.ignored)

    @staticmethod
    def concerns(datagram: bytes) -> bool:
        """Return whether a datagram claims to be a message of the mesh."""
        return is_on(Channel.MESH, datagram)

    def hear(self, datagram: bytes, now_ns: int) -> list[Conclusion]:
        """Return which nodes left and returned because of a datagram, and an announcement if it is new.

        States and heartbeats are not used by the balancer.
        """
        concluded: list[Conclusion] = []
        for event in self._codec.decode(datagram):
            if isinstance(event, SuspicionsHeard):
                concluded += self._consider(event, now_ns)
            elif isinstance(event, StagesAnnounced) and event != self._announced:
                self._announced = event
                self._agreement.announce(meshed(event), now_ns)
                concluded.append(event)
        return concluded

    def _consider(self, report: SuspicionsHeard, now_ns: int) -> list[NodeLeft | NodeJoined]:
        last = self._reports.get(report.monitor)
        if last is not report and last != report:  # usually the same object: equal bodies are decoded once
            self._reports[report.monitor] = report
            self._emit(now_ns, written(recast(report, SuspicionsChanged), "mesh"))
        return self._agreement.hear(report, now_ns)

    def on_time(self, now_ns: int) -> list[NodeLeft | NodeJoined]:
        """Return which nodes left and returned because time has passed."""
        due_ns = self._agreement.next_deadline_ns()
        if due_ns is None or now_ns < due_ns:
            return []
        conclusions = self._agreement.conclude(now_ns)
        require_progress("agreement", self._agreement, now_ns)
        return conclusions

    def next_deadline_ns(self) -> int | None:
        """Return when `on_time` is due."""
        return self._agreement.next_deadline_ns()


def _silent() -> int:
    """Return 0: this side sends no messages."""
    raise AssertionError("the balancer sends nothing to the mesh")
