"""The balancer's ear on the mesh: report of the nodes in, which node left and which came back out.

Datagrams of the mesh come to the same port as notifications and are told apart by their channel (`concerns`).  What
the nodes' word is worth is decided by `policies.agreement`; only report that changed is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from testbed.policies.agreement import Agreement
from testbed.policies.base import require_progress
from testbed.records.events import NodeJoined, NodeLeft, SuspicionsHeard, recast
from testbed.records.processes import SuspicionsChanged
from testbed.records.written import written
from testbed.scenario.mesh import MeshSpec
from testbed.wire.mesh_messages import Codec
from testbed.wire.sealing import LONG_AGO_NS, Channel, Keyring, is_on

Emit = Callable[[int, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class MeshAccess:
    """What it takes to understand the mesh.

    Attributes:
        members: every node of the mesh, the same list everywhere.
        spec: how many watch each node, and how often they say what they hear.
    """

    members: tuple[str, ...]
    spec: MeshSpec


class MeshEar:
    """Listens; says nothing on the mesh.  No I/O of its own but `emit`."""

    def __init__(self, access: MeshAccess, ring: Keyring, emit: Emit, since_ns: int = LONG_AGO_NS) -> None:
        """Listen with the keys of `ring`; what was sent before `since_ns` is ignored."""
        self._codec = Codec(ring, _silent, since_ns)
        self._agreement = Agreement(access.members, access.spec.watchers, access.spec.sync_interval_ns)
        self._emit = emit
        self._said: dict[str, SuspicionsHeard] = {}  # monitor → its last report

    @property
    def ignored(self) -> dict[str, int]:
        """Return how many datagrams were ignored, by flaw."""
        return dict(self._codec.ignored)

    @staticmethod
    def concerns(datagram: bytes) -> bool:
        """Tell whether a datagram claims to be a message of the mesh."""
        return is_on(Channel.MESH, datagram)

    def hear(self, datagram: bytes, now_ns: int) -> list[NodeLeft | NodeJoined]:
        """Return what follows from a datagram; states and heartbeats are not for the balancer."""
        event = self._codec.decode(datagram)
        if not isinstance(event, SuspicionsHeard):
            return []
        if self._said.get(event.monitor) != event:
            self._said[event.monitor] = event
            self._emit(now_ns, written(recast(event, SuspicionsChanged), "mesh"))
        return self._agreement.hear(event, now_ns)

    def on_time(self, now_ns: int) -> list[NodeLeft | NodeJoined]:
        """Return what follows from nothing more than the time."""
        due_ns = self._agreement.next_deadline_ns()
        if due_ns is None or now_ns < due_ns:
            return []
        verdicts = self._agreement.conclude(now_ns)
        require_progress("agreement", self._agreement, now_ns)
        return verdicts

    def next_deadline_ns(self) -> int | None:
        """Return when `on_time` is due."""
        return self._agreement.next_deadline_ns()


def _silent() -> int:
    """Return no time: this end seals nothing."""
    raise AssertionError("the balancer says nothing on the mesh")
