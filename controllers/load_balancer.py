"""The balancer: feeds notifications and switch events to the policy, and sends its actions as OpenFlow messages.

It records the inputs and outputs of the policy (types in `testbed.records.events`, marked ``"policy": "balancer"``),
and three more records.  `BalancerReady`: the whole pipeline is in force; it holds the first slots.
`ActionsAcknowledged`: the switch has confirmed by a barrier the changes that an event caused; `control_loop_us` is the
time since that event arrived, `removed` names the nodes that it removed.  `BalancerStopped`: the last record.

The balancer changes the switch only while it has a link, which it gets when the master role is granted (`activate`).
Without a link the policy continues; with the next link the switch gets the whole pipeline in its current state.  Pins
are stored in the switch and are not affected.

The state of the balancer is a deterministic function of its inputs and their times.  Each input is written down as
plain values (`note`).  `follow` accepts such a note in place of the input; so a standby has the same state
(`replication`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NamedTuple

from testbed.controllers import pipeline
from testbed.controllers.answers import Answers
from testbed.controllers.config import BalancerConfig
from testbed.controllers.deflection import Address, Send, SiblingNames
from testbed.controllers.liveness import Conclusion, MeshReceiver
from testbed.controllers.openflow import Message
from testbed.controllers.replication import Input
from testbed.controllers.switch import (
    Acknowledged,
    Connection,
    Happening,
    Link,
    PacketIn,
    PortChanged,
    Refused,
)
from testbed.errors import ToolError
from testbed.policies.balancer import PORT_DOWN, BalancerPolicy, make_balancer
from testbed.policies.balancer_view import FRESH_PAUSES
from testbed.policies.base import require_progress
from testbed.policies.membership import BALANCER
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    FlowArrived,
    NodeJoined,
    NodeLeft,
    NodesNotified,
    PlaceFlow,
    Record,
    RemoveNode,
    RestoreNode,
    SetSlots,
    values_of,
)
from testbed.records.processes import ActionsAcknowledged, BalancerReady, BalancerStopped
from testbed.records.written import direction_of, written
from testbed.units import NS_PER_US
from testbed.wire import notification
from testbed.wire.five_tuple import five_tuple
from testbed.wire.sealing import Channel, Opener, Sealer

Emit = Callable[[int, dict[str, Any]], None]
Note = Callable[[Input], None]

_DATAGRAM, _TIME, _PORT, _FLOW = "datagram", "time", "port", "flow"


class _Pending(NamedTuple):
    """What a barrier confirms: the start of its time, the removed nodes, and whether it is the whole pipeline."""

    since_ns: int
    messages: int
    removed: tuple[str, ...]
    whole: bool


class LoadBalancer:
    """Executes the actions of the policy in the switch.  Its only I/O is `emit` and the link."""

    def __init__(self, config: BalancerConfig, emit: Emit, send: Send | None = None, note: Note | None = None) -> None:
        """Create the policies.  Nothing is sent to a switch before `activate`, or to a node before it has notified.

        `send` sends datagrams to nodes; without it no names of siblings are sent.  `note` receives every input.
        """
        names = tuple(node.name for node in config.nodes)
        draws = random.Random(config.seed)
        self._policy: BalancerPolicy = make_balancer(
            config.spec, names, draws, config.pause_ns, config.rates_bps, config.absent
        )
        self._config, self._emit, self._note = config, emit, note or _nobody
        self._slots, self._removed = self._policy.slots, set(config.absent)
        self._link: Link | None = None
        self._pending: dict[int, _Pending] = {}  # by barrier
        self._ports_down: set[int] = set()
        self._answers = Answers()
        self._node_at = {node.watched_port: node.name for node in (*config.nodes, *config.second_tier)}
        self._siblings: SiblingNames | None = None
        if config.deflecting and send:
            seal = Sealer(config.ring, Channel.SIBLINGS, config.now_ns).seal
            self._siblings = SiblingNames(config.deflecting, send, emit, seal, config.pause_ns)
        self._mesh = MeshReceiver(config.mesh, config.ring, emit, config.since_ns) if config.mesh else None
        self._opener = Opener(config.ring, Channel.NOTIFICATION, config.since_ns)
        self._stale_ns = round(FRESH_PAUSES * config.pause_ns)
        self.notifications, self.late = 0, 0

    # ------------------------------------------------------------------------------------------------------- inputs

    def on_datagram(self, datagram: bytes, now_ns: int, sender: Address | None = None) -> None:
        """Pass a notification or a mesh message to the policies; other datagrams are counted."""
        self._note((_DATAGRAM, now_ns, datagram, sender))
        if self._mesh is not None and self._mesh.concerns(datagram):
            for conclusion in self._mesh.hear(datagram, now_ns):
                self._node_changed(conclusion, now_ns)
            return
        event = self._notified(datagram, now_ns)
        if event is None:
            return
        self.notifications += 1
        self._feed(event, now_ns)
        if self._siblings is not None and sender is not None:
            self._siblings.heard_from(event.nodes, sender)
            self._siblings.feed(event, now_ns)

    def _notified(self, datagram: bytes, now_ns: int) -> NodesNotified | None:
        """Return the notification of a node; None if it was ignored, or waited in the socket until it was too old."""
        opened = self._opener.open(datagram)
        if opened is None:
            return None
        if now_ns - opened.sent_ns > self._stale_ns:
            self.late += 1
            return None
        try:
            event = notification.decode(opened.body)
        except ValueError:
            self._opener.ignore("malformed")
            return None
        if event.nodes != (opened.sender,):
            self._opener.ignore("forged")
            return None
        return event

    def on_time(self, now_ns: int) -> None:
        """Wake the policies whose deadline has passed."""
        next_ns = self.next_deadline_ns()
        if next_ns is None or now_ns < next_ns:
            return
        self._note((_TIME, now_ns))
        for conclusion in self._mesh.on_time(now_ns) if self._mesh is not None else ():
            self._node_changed(conclusion, now_ns)
        due_ns = self._policy.next_deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self._feed(DeadlineReached(), now_ns)
            require_progress("balancer", self._policy, now_ns)

    def on_switch(self, happening: Happening, happened_ns: int, now_ns: int) -> None:
        """Process an event that the framework reported at `happened_ns`.

        Raises:
            ToolError: the switch refused a message.
        """
        if isinstance(happening, Acknowledged):
            self._acknowledged(happening, happened_ns)
        elif isinstance(happening, PortChanged):
            self._port_changed(happening, now_ns)
        elif isinstance(happening, PacketIn):
            self._packet_came(happening, now_ns)
        elif isinstance(happening, Refused):
            raise ToolError("changing the switch", f"it refused a message: {happening.text}", "see ovs-vswitchd.log")

    def activate(self, link: Link, now_ns: int) -> None:
        """Send the whole pipeline over `link`, and from now on all changes."""
        self._link = link
        self._pending.clear()
        mods = pipeline.install(self._config, self._slots, self._removed)
        self._send(mods, now_ns, tuple(sorted(self._removed)), whole=True)

    def release(self) -> None:
        """Send no changes until `activate` is called again."""
        self._link = None
        self._pending.clear()

    def prepare(self, connection: Connection) -> None:
        """Build in advance the messages that will be sent over `connection` many times."""
        connection.prepare(pipeline.every_slot(self._config, len(self._slots)))

    def follow(self, taken: Input) -> None:
        """Process an input that another balancer has noted."""
        kind, now_ns, *rest = taken
        if kind == _DATAGRAM:
            datagram, sender = rest
            self.on_datagram(datagram, now_ns, sender and tuple(sender))
        elif kind == _TIME:
            self.on_time(now_ns)
        elif kind == _FLOW:
            self._feed(FlowArrived(flow=tuple(rest)), now_ns)
        else:
            self._port_changed(PortChanged(*rest), now_ns)

    def next_deadline_ns(self) -> int | None:
        """Return when `on_time` is due."""
        mesh_ns = self._mesh.next_deadline_ns() if self._mesh is not None else None
        return min((due for due in (self._policy.next_deadline_ns(), mesh_ns) if due is not None), default=None)

    def stop(self, now_ns: int) -> None:
        """Emit the last record.  The switch keeps forwarding by its tables."""
        stopped = BalancerStopped(
            notifications=self.notifications,
            late=self.late,
            malformed=sum(self._opener.ignored.values()),
            ignored=dict(self._opener.ignored),
            mesh_ignored=None if self._mesh is None else self._mesh.ignored,
        )
        self._record(stopped, now_ns)

    # ------------------------------------------------------------------------------------------------- the switch

    def _acknowledged(self, happening: Acknowledged, happened_ns: int) -> None:
        waiting = self._pending.pop(happening.barrier, None) if happening.link is self._link else None
        if waiting is None:
            return
        done = ActionsAcknowledged(
            control_loop_us=(happened_ns - waiting.since_ns) / NS_PER_US,
            messages=waiting.messages,
            removed=waiting.removed,
        )
        self._record(BalancerReady(**values_of(done), slots=self._slots) if waiting.whole else done, happened_ns)

    def _port_changed(self, happening: PortChanged, now_ns: int) -> None:
        node = self._node_at.get(happening.port)
        if node is None or happening.up == (happening.port not in self._ports_down):
            return
        self._note((_PORT, now_ns, happening.port, happening.up))
        if happening.up:
            self._ports_down.discard(happening.port)
            self._node_changed(NodeJoined(node=node, reason=PORT_DOWN), now_ns)
        else:
            self._ports_down.add(happening.port)
            self._node_changed(NodeLeft(node=node, reason=PORT_DOWN), now_ns)

    def _packet_came(self, happening: PacketIn, now_ns: int) -> None:
        """Ask the policy about the flow of a packet; one without a flow is dropped here, and counted by the switch."""
        flow = five_tuple(happening.data)
        if flow is None:
            return
        node = self._answers.of(flow, now_ns)
        if node is not None and self._link is not None:
            self._link.post((pipeline.send_back(self._config, happening.port, happening.data, node),))
            return
        self._note((_FLOW, now_ns, *flow))
        self._feed(FlowArrived(flow=flow), now_ns, happening)

    def _node_changed(self, event: Conclusion, now_ns: int) -> None:
        self._feed(event, now_ns)
        if self._siblings is not None:
            self._siblings.feed(event, now_ns)

    # ------------------------------------------------------------------------------------------------- the policy

    def _feed(self, event: Event, now_ns: int, packet: PacketIn | None = None) -> None:
        actions = self._policy.handle(event, now_ns)
        mods = [message for action in actions for message in self._carry_out(action, now_ns, packet)]
        removed = tuple(action.node for action in actions if isinstance(action, RemoveNode))
        self._send(tuple(mods), now_ns, removed)
        self._record(event, now_ns)  # after the messages were sent, so that the switch does not wait for it
        for action in actions:
            self._record(action, now_ns)

    def _carry_out(self, action: Action, now_ns: int, packet: PacketIn | None) -> tuple[Message, ...]:
        if isinstance(action, PlaceFlow):
            self._answers.give(action.flow, action.node, now_ns)
            pin = pipeline.place_flow(self._config, action.flow, action.node)
            return (pin, pipeline.send_back(self._config, packet.port, packet.data, action.node)) if packet else (pin,)
        if isinstance(action, SetSlots):
            before, self._slots = self._slots, action.slots
            return pipeline.set_slots(self._config, before, action.slots)
        if isinstance(action, RemoveNode):
            self._removed.add(action.node)
            self._answers.withdraw(action.node)
            return pipeline.remove_node(self._config, action.node)
        assert isinstance(action, RestoreNode)
        self._removed.discard(action.node)
        return pipeline.restore_node(self._config, action.node)

    def _send(self, mods: tuple[Message, ...], since_ns: int, removed: tuple[str, ...], *, whole: bool = False) -> None:
        if mods and self._link is not None:
            self._pending[self._link.send(mods)] = _Pending(since_ns, len(mods), removed, whole)

    def _record(self, record: Record, now_ns: int) -> None:
        self._emit(now_ns, written(record, BALANCER, direction_of(record)))


def _nobody(_taken: Input) -> None:
    """Discard the note: there is no standby."""
