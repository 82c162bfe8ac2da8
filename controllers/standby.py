"""The second controller: follows the primary, and becomes the active controller when the primary is gone.

    connected to the switch as a slave ── primary gone ──▶ master with a higher generation id ── whole pipeline again

It runs a balancer with the state of the primary (`replication`); the output is discarded while it is standby.  The
switch continues to forward by its tables, and writing the same pipeline again changes nothing.  So a takeover moves no
flow and loses no packet.  Both controllers hold the socket for notifications, and the active one reads it: nodes need
not know about the takeover.

If a primary was only stopped and resumes, the switch refuses its messages, because its generation id is stale.
(OpenFlow 1.3.5, section 6.3.6: the generation id of a master must not be smaller than the largest one seen.)
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from testbed.controllers import connection
from testbed.controllers.config import BalancerConfig
from testbed.controllers.deflection import Address, Send
from testbed.controllers.load_balancer import Emit, LoadBalancer
from testbed.controllers.process import (
    LONGEST_WAIT_NS,
    PRIMARY_GENERATION,
    STANDBY_GENERATION,
    ActiveController,
    Inbox,
    sender_of,
    stopping_on_sigterm,
)
from testbed.controllers.replication import Follower
from testbed.controllers.switch import (
    Connected,
    Connection,
    Disconnected,
    Happening,
    PortChanged,
    Role,
    SlaveGranted,
    is_far,
)
from testbed.policies.membership import BALANCER
from testbed.records.processes import ControllerTookOver, StandbyReady
from testbed.records.written import written
from testbed.system import waiting


class Mute:
    """Suppresses all output until it is lifted, because the primary emits and sends the same."""

    def __init__(self, emit: Emit, send: Send) -> None:
        self._emit, self._send = emit, send
        self.lifted = False

    def emit(self, t_ns: int, record: dict[str, Any]) -> None:
        """Pass on a record, unless output is suppressed."""
        if self.lifted:
            self._emit(t_ns, record)

    def send(self, datagram: bytes, address: Address) -> None:
        """Pass on a datagram, unless output is suppressed."""
        if self.lifted:
            self._send(datagram, address)


class Following:
    """The loop of a standby.

    Attributes:
        connection, ports_up: the connection to the switch and the state of its ports; None while there is none.
    """

    def __init__(
        self, balancer: LoadBalancer, inbox: Inbox, primary: Follower, now_ns: Callable[[], int], emit: Emit
    ) -> None:
        self._balancer, self._inbox, self._primary = balancer, inbox, primary
        self._now_ns, self._emit = now_ns, emit
        self.connection: Connection | None = None
        self.ports_up: dict[int, bool] = {}

    def until_primary_is_gone(self) -> str | None:
        """Follow the primary; return what happened to it (``died`` or ``hung``), or None after `Inbox.stop`."""
        while not self._inbox.stopping:
            waiting.readable([self._inbox.fileno(), self._primary.fileno()], min(LONGEST_WAIT_NS, self._patience_ns()))
            for _, happening in self._inbox.take():
                self._take(happening)
            for taken in self._primary.inputs(self._now_ns()):
                self._balancer.follow(taken)
            if self._primary.closed:
                return "died"
            if self._patience_ns() <= 0:
                return "hung"
        return None

    def _patience_ns(self) -> int:
        hung_ns = self._primary.hung_ns
        return LONGEST_WAIT_NS if hung_ns is None else hung_ns - self._now_ns()

    def _take(self, happening: Happening) -> None:
        if isinstance(happening, Connected):
            far = {port: up for port, up in self.ports_up.items() if is_far(port)}
            self.connection, self.ports_up = happening.connection, {**far, **happening.ports_up}
            happening.connection.request_role(Role.SLAVE, PRIMARY_GENERATION)
            self._balancer.prepare(happening.connection)
        elif isinstance(happening, Disconnected):
            if happening.connection is self.connection:
                self.connection = None
        elif isinstance(happening, PortChanged):
            self.ports_up[happening.port] = happening.up
        elif isinstance(happening, SlaveGranted):
            self._emit(self._now_ns(), written(StandbyReady(), BALANCER))


def stand_by(config: BalancerConfig, notify_socket: socket.socket, emit: Emit, primary: socket.socket) -> None:
    """Follow the primary, take over when it is gone, and balance until SIGTERM.

    Call it in a process of its own, in its main thread.  `StandbyReady` says that the switch knows us as a slave,
    `ControllerTookOver` that the primary is gone, the `BalancerReady` after it that every flow is in force.

    Args:
        config: as the primary's, but for `listen_port`.
        notify_socket: the same as the primary's.
        emit: takes ``(t_ns, record)``; called from this thread only.
        primary: the standby's end of `replication.line`.

    Raises:
        MachineError: the framework is not installed.
        ToolError: the port is taken, or the switch refused a message.
    """
    inbox, follower = Inbox(config.now_ns, config.beat), Follower(primary)
    mute = Mute(emit, sender_of(notify_socket))
    balancer = LoadBalancer(config, mute.emit, mute.send)
    with stopping_on_sigterm(inbox.stop):
        connection.listen(config.framework, config.listen_port, config.dpid, inbox.post)
        config.listening()
        following = Following(balancer, inbox, follower, config.now_ns, emit)
        reason = following.until_primary_is_gone()
        if reason is None:
            return
        noticed_ns = config.now_ns()
        follower.close()
        mute.lifted = True
        emit(noticed_ns, written(ControllerTookOver(reason=reason), BALANCER))
        active = ActiveController(balancer, inbox, notify_socket, config.now_ns, emit, STANDBY_GENERATION)
        if following.connection is not None:
            active.take(Connected(following.connection, following.ports_up), noticed_ns)
        active.until_stopped()
    balancer.stop(config.now_ns())
