"""The balancer process: notifications and switch happenings in, the policy's actions out as OpenFlow messages.

Everything is done in one thread, in the order it came in: os-ken's threads only post to the inbox.  What the policy is
fed and what it answers is emitted (kinds of `testbed.events`, marked ``"policy": "balancer"``), beside four kinds of
this process: `BalancerReady` (the whole pipeline is in force; holds the first slots), `ActionsAcknowledged` (the switch
confirmed by barrier what an event led to; `control_loop_us` counts from the arrival of that event), `SwitchLost` and
`BalancerStopped`.

When the connection is lost the policy goes on; when the switch comes back it gets the whole pipeline as it now is.
Pins are in the switch and survive both.
"""

from __future__ import annotations

import os
import random
import select
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from controllers import messages, notification, pipeline
from controllers.config import BalancerConfig
from controllers.deflection import Address, Send, SiblingNames
from controllers.liveness import MeshEar
from controllers.openflow import Message
from controllers.switch import Acknowledged, Connected, Disconnected, Happening, Link, PortChanged, Refused
from testbed.errors import ToolError
from testbed.events import Action, DeadlineReached, Event, NodeJoined, NodeLeft, RemoveNode, RestoreNode, SetSlots
from testbed.policies.balancer import BalancerPolicy, make_balancer
from testbed.units import NS_PER_S, NS_PER_US

Emit = Callable[[int, dict[str, Any]], None]

PORT_DOWN = "port"
IDLE_WAIT_S = 1.0
MAX_DATAGRAMS_A_TURN = 64  # so that a flood of datagrams cannot keep the switch or the deadlines waiting


class LoadBalancer:
    """Carries the policy's actions out on the switch.  No I/O of its own but `emit` and the link."""

    def __init__(self, config: BalancerConfig, emit: Emit, send: Send | None = None) -> None:
        """Make the policies; nothing is sent to a switch before it connects, nor to a node that is not heard.

        `send` takes datagrams to nodes; without it full nodes are told of no siblings.
        """
        names = tuple(node.name for node in config.nodes)
        self._policy: BalancerPolicy = make_balancer(config.spec, names, random.Random(config.seed))
        self._config, self._emit = config, emit
        self._slots, self._removed = self._policy.slots, set[str]()
        self._link: Link | None = None
        self._pending: dict[int, tuple[str, int, int]] = {}  # barrier → kind of record, since, messages
        self._ports_down: set[int] = set()
        self._node_at = {node.port: node.name for node in (*config.nodes, *config.second_tier)}
        self._siblings = SiblingNames(config.deflecting, send, emit) if config.deflecting and send else None
        self._mesh = MeshEar(config.mesh, emit) if config.mesh else None
        self.notifications, self.malformed = 0, 0

    # ------------------------------------------------------------------------------------------------------- inputs

    def on_datagram(self, datagram: bytes, now_ns: int, sender: Address | None = None) -> None:
        """Feed a notification, or what the mesh says, to the policies; anything else is counted."""
        if self._mesh is not None and self._mesh.concerns(datagram):
            for verdict in self._mesh.hear(datagram, now_ns):
                self._node_changed(verdict, now_ns)
            return
        try:
            event = notification.decode(datagram)
        except ValueError:
            self.malformed += 1
            return
        self.notifications += 1
        self._feed(event, now_ns)
        if self._siblings is not None and sender is not None:
            self._siblings.heard_from(event.nodes, sender)
            self._siblings.feed(event, now_ns)

    def on_time(self, now_ns: int) -> None:
        """Wake the policies whose deadline has come."""
        for verdict in self._mesh.on_time(now_ns) if self._mesh is not None else ():
            self._node_changed(verdict, now_ns)
        due_ns = self._policy.next_deadline_ns()
        if due_ns is not None and now_ns >= due_ns:
            self._feed(DeadlineReached(), now_ns)

    def on_switch(self, happening: Happening, happened_ns: int, now_ns: int) -> None:
        """Take in what the framework reported at `happened_ns`.

        Raises:
            ToolError: the switch refused a message.
        """
        if isinstance(happening, Connected):
            self._connected(happening, now_ns)
        elif isinstance(happening, Disconnected):
            self._disconnected(happening.link, now_ns)
        elif isinstance(happening, Acknowledged):
            self._acknowledged(happening, happened_ns)
        elif isinstance(happening, PortChanged):
            self._port_changed(happening, now_ns)
        elif isinstance(happening, Refused):
            raise ToolError("steering the switch", f"it refused a message: {happening.text}", "see ovs-vswitchd.log")

    def next_deadline_ns(self) -> int | None:
        """Return when `on_time` is due."""
        mesh_ns = self._mesh.next_deadline_ns() if self._mesh is not None else None
        return min((due for due in (self._policy.next_deadline_ns(), mesh_ns) if due is not None), default=None)

    def stop(self, now_ns: int) -> None:
        """Emit the last record.  The switch keeps forwarding by what it has."""
        mesh = {"mesh_ignored": self._mesh.ignored} if self._mesh is not None else {}
        self._tell(now_ns, "BalancerStopped", notifications=self.notifications, malformed=self.malformed, **mesh)

    # ------------------------------------------------------------------------------------------------- the switch

    def _connected(self, happening: Connected, now_ns: int) -> None:
        self._link = happening.link
        self._pending.clear()
        self._send(pipeline.install(self._config, self._slots, self._removed), "BalancerReady", now_ns)
        for port in sorted(self._node_at):
            self._port_changed(PortChanged(port, happening.ports_up.get(port, False)), now_ns)

    def _disconnected(self, link: Link, now_ns: int) -> None:
        if link is self._link:
            self._link = None
            self._tell(now_ns, "SwitchLost")

    def _acknowledged(self, happening: Acknowledged, happened_ns: int) -> None:
        waiting = self._pending.pop(happening.barrier, None) if happening.link is self._link else None
        if waiting is None:
            return
        kind, since_ns, count = waiting
        took_us = (happened_ns - since_ns) / NS_PER_US
        extra = {"slots": list(self._slots)} if kind == "BalancerReady" else {}
        self._tell(happened_ns, kind, control_loop_us=took_us, messages=count, **extra)

    def _port_changed(self, happening: PortChanged, now_ns: int) -> None:
        node = self._node_at.get(happening.port)
        if node is None or happening.up == (happening.port not in self._ports_down):
            return
        if happening.up:
            self._ports_down.discard(happening.port)
            self._node_changed(NodeJoined(node, PORT_DOWN), now_ns)
        else:
            self._ports_down.add(happening.port)
            self._node_changed(NodeLeft(node, PORT_DOWN), now_ns)

    def _node_changed(self, event: NodeJoined | NodeLeft, now_ns: int) -> None:
        self._feed(event, now_ns)
        if self._siblings is not None:
            self._siblings.feed(event, now_ns)

    # ------------------------------------------------------------------------------------------------- the policy

    def _feed(self, event: Event, now_ns: int) -> None:
        self._record(event, now_ns)
        actions = self._policy.handle(event, now_ns)
        mods = [message for action in actions for message in self._carry_out(action)]
        for action in actions:
            self._record(action, now_ns)
        self._send(tuple(mods), "ActionsAcknowledged", now_ns)

    def _carry_out(self, action: Action) -> tuple[Message, ...]:
        if isinstance(action, SetSlots):
            before, self._slots = self._slots, action.slots
            return pipeline.set_slots(self._config, before, action.slots)
        if isinstance(action, RemoveNode):
            self._removed.add(action.node)
            return pipeline.remove_node(self._config, action.node)
        assert isinstance(action, RestoreNode)
        self._removed.discard(action.node)
        return pipeline.restore_node(self._config, action.node)

    def _send(self, mods: tuple[Message, ...], kind: str, since_ns: int) -> None:
        if mods and self._link is not None:
            self._pending[self._link.send(mods)] = (kind, since_ns, len(mods))

    def _record(self, record: Event | Action, now_ns: int) -> None:
        self._emit(now_ns, {**record.to_record(), "policy": "balancer"})

    def _tell(self, now_ns: int, kind: str, **fields: Any) -> None:
        self._emit(now_ns, {"kind": kind, **fields, "policy": "balancer"})


class _Inbox:
    """What other threads and signal handlers have for the one thread that decides."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._posted: deque[tuple[int, Happening]] = deque()
        self._bell_read, self._bell_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.stopping = False

    def fileno(self) -> int:
        return self._bell_read

    def post(self, happening: Happening) -> None:
        self._posted.append((self._now_ns(), happening))
        self._ring()

    def stop(self, *_: object) -> None:
        self.stopping = True
        self._ring()

    def take(self) -> Iterator[tuple[int, Happening]]:
        with suppress(BlockingIOError):
            os.read(self._bell_read, 4096)
        while self._posted:
            yield self._posted.popleft()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # full: it is ringing already
            os.write(self._bell_write, b"!")


def serve(config: BalancerConfig, notify_socket: socket.socket, emit: Emit) -> None:
    """Balance until SIGTERM or SIGINT; the `BalancerReady` record says that every flow is in force.

    Call it in a process of its own, in its main thread.

    Args:
        config: see there.
        notify_socket: bound UDP socket on which nodes' notifications arrive.
        emit: takes ``(t_ns, record)``; called from this thread only.

    Raises:
        ToolError: the port is taken, or the switch refused a message.
    """
    inbox = _Inbox(config.now_ns)
    notify_socket.setblocking(False)

    def send(datagram: bytes, address: Address) -> None:
        notify_socket.sendto(datagram, address)

    balancer = LoadBalancer(config, emit, send)
    with _stopping_on_signals(inbox.stop):
        _probe_port(config.listen_port)
        messages.listen(config.listen_port, config.dpid, inbox.post)
        while not inbox.stopping:
            _turn(balancer, inbox, notify_socket, config.now_ns)
    balancer.stop(config.now_ns())


def _turn(balancer: LoadBalancer, inbox: _Inbox, notify_socket: socket.socket, now_ns: Callable[[], int]) -> None:
    due_ns = balancer.next_deadline_ns()
    wait_s = IDLE_WAIT_S if due_ns is None else min(IDLE_WAIT_S, max(0.0, (due_ns - now_ns()) / NS_PER_S))
    select.select([inbox.fileno(), notify_socket.fileno()], [], [], wait_s)
    for happened_ns, happening in inbox.take():
        balancer.on_switch(happening, happened_ns, now_ns())
    for _ in range(MAX_DATAGRAMS_A_TURN):
        try:
            datagram, sender = notify_socket.recvfrom(notification.MAX_DATAGRAM_BYTES)
        except BlockingIOError:
            break
        balancer.on_datagram(datagram, now_ns(), sender)
    balancer.on_time(now_ns())


def _probe_port(port: int) -> None:
    """Refuse a port that is taken here: os-ken's listening thread would die of it in silence."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((messages.LISTEN_HOST, port))
        except OSError as error:
            raise ToolError(f"listening on {messages.LISTEN_HOST}:{port}", str(error)) from error


@contextmanager
def _stopping_on_signals(stop: Callable[..., None]) -> Iterator[None]:
    before = [(number, signal.signal(number, stop)) for number in (signal.SIGTERM, signal.SIGINT)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
