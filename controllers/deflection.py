"""Names the siblings of nodes: feeds the notifications to `policies.deflection` and sends the names as datagrams.

The answer goes to the address that the last notification of the node came from.  A node receives only its own sibling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from testbed.policies.deflection import DEFLECTION, DeflectionPolicy
from testbed.policies.readiness import KEEPALIVE_NS
from testbed.records.events import Action, Event, NameSiblings
from testbed.records.processes import SiblingNameLost
from testbed.records.written import direction_of, written
from testbed.scenario.network import Host
from testbed.wire import notification

Address = tuple[str, int]
Send = Callable[[bytes, Address], None]
Seal = Callable[[bytes, Sequence[str]], list[tuple[str, bytes]]]
Emit = Callable[[int, dict[str, Any]], None]


class SiblingNames:
    """Feeds events to the policy and sends its names.  Its only I/O is `send` and `emit`."""

    def __init__(self, nodes: Sequence[Host], send: Send, emit: Emit, seal: Seal, pause_ns: int = KEEPALIVE_NS) -> None:
        """Make the policy over `nodes`; `send` may raise OSError, which is recorded; `seal` is a `Sealer`'s."""
        self._policy = DeflectionPolicy(nodes, pause_ns)
        self._send, self._emit, self._seal = send, emit, seal
        self._address_of: dict[str, Address] = {}

    def heard_from(self, nodes: Sequence[str], address: Address) -> None:
        """Remember where the notifications of `nodes` come from."""
        self._address_of.update(dict.fromkeys(nodes, address))

    def feed(self, event: Event, now_ns: int) -> None:
        """Pass an event to the policy and send the names that it returns."""
        self._record(event, now_ns)
        for action in self._policy.handle(event, now_ns):
            self._record(action, now_ns)
            assert isinstance(action, NameSiblings)
            for node, sibling in zip(action.nodes, action.siblings, strict=True):
                self._tell(node, sibling, now_ns)

    def _tell(self, node: str, sibling: str, now_ns: int) -> None:
        address = self._address_of.get(node)
        if address is None:
            return  # no notification yet, so the address is unknown; the policy repeats the name
        try:
            for _, datagram in self._seal(
                notification.encode_siblings(NameSiblings(nodes=(node,), siblings=(sibling,))), (node,)
            ):
                self._send(datagram, address)
        except OSError:
            self._emit(now_ns, written(SiblingNameLost(node=node), DEFLECTION))

    def _record(self, record: Event | Action, now_ns: int) -> None:
        self._emit(now_ns, written(record, DEFLECTION, direction_of(record)))
