"""The adapter between framework and `switch`: passes events of the switch on, and sends messages.

It makes no decisions.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

from testbed.controllers import framework as frameworks
from testbed.controllers.datapath import DatapathConnection
from testbed.controllers.framework import Framework
from testbed.controllers.switch import (
    Acknowledged,
    Connected,
    Deposed,
    Disconnected,
    Happening,
    MasterGranted,
    PacketIn,
    PortChanged,
    Refused,
    SlaveGranted,
    far_port,
)
from testbed.errors import ToolError
from testbed.scenario.balancer import FrameworkName

LISTEN_HOST = "127.0.0.1"
ECHO_INTERVAL_S = 2.0
MAX_UNANSWERED_ECHOES = 5
_LISTENING_WITHIN_S, _POLL_S = 10.0, 0.001

Report = Callable[[Happening], None]


class SwitchReports:
    """Turns the framework's reports about one switch into events; called from the framework's threads."""

    def __init__(self, framework: Framework, dpid: int, report: Report) -> None:
        self._framework, self._dpid, self._report = framework, dpid, report
        self._connections: dict[Any, DatapathConnection] = {}

    def state_changed(self, event: Any) -> None:
        """Handle a connection that has finished its handshake, or is lost."""
        datapath = event.datapath
        if datapath.id != self._dpid:
            self._far_switch(datapath, event.state)
            return
        if event.state == self._framework.handler.MAIN_DISPATCHER:
            self._connections[datapath] = DatapathConnection(self._framework, datapath)
            ports = {number: self._is_up(port) for number, port in datapath.ports.items()}
            self._report(Connected(self._connections[datapath], ports))
        elif datapath in self._connections:
            self._report(Disconnected(self._connections.pop(datapath)))

    def _far_switch(self, datapath: Any, state: str) -> None:
        """Handle the connection of another switch, which forwards by itself and reports which of its ports are up."""
        if state == self._framework.handler.MAIN_DISPATCHER:
            for number, port in datapath.ports.items():
                self._report(PortChanged(far_port(datapath.id, number), self._is_up(port)))

    def barrier_replied(self, event: Any) -> None:
        """Handle a barrier reply: everything sent before the barrier is in force."""
        connection = self._connections.get(event.msg.datapath)
        if connection is not None and connection.link is not None:
            self._report(Acknowledged(connection.link, event.msg.xid))

    def port_changed(self, event: Any) -> None:
        """Handle a port that was added or removed, or whose carrier changed."""
        datapath, port = event.msg.datapath, event.msg.desc
        gone = event.msg.reason == self._framework.proto.OFPPR_DELETE
        if datapath in self._connections:
            self._report(PortChanged(port.port_no, not gone and self._is_up(port)))
        elif datapath.id != self._dpid:
            self._report(PortChanged(far_port(datapath.id, port.port_no), not gone and self._is_up(port)))

    def packet_came(self, event: Any) -> None:
        """Handle a packet-in."""
        if event.msg.datapath in self._connections:
            self._report(PacketIn(event.msg.match["in_port"], bytes(event.msg.data)))

    def role_replied(self, event: Any) -> None:
        """Handle the switch's answer to a role request."""
        connection, proto = self._connections.get(event.msg.datapath), self._framework.proto
        if connection is None:
            return
        if event.msg.role == proto.OFPCR_ROLE_MASTER:
            self._report(MasterGranted(connection, event.msg.xid, connection.granted()))
        elif event.msg.role == proto.OFPCR_ROLE_SLAVE:
            self._report(SlaveGranted(connection, event.msg.xid))

    def refused(self, event: Any) -> None:
        """Handle a refused message; it is not an error if the controller is no longer active."""
        message, proto = event.msg, self._framework.proto
        deposed = {
            (proto.OFPET_ROLE_REQUEST_FAILED, proto.OFPRRFC_STALE),
            (proto.OFPET_BAD_REQUEST, proto.OFPBRC_IS_SLAVE),
        }
        connection = self._connections.get(message.datapath)
        if connection is not None and (message.type, message.code) in deposed:
            self._report(Deposed(connection))
            return
        self._report(Refused(f"type {message.type}, code {message.code}, about {bytes(message.data[:64]).hex()}"))

    def _is_up(self, port: Any) -> bool:
        proto = self._framework.proto
        return not (port.state & proto.OFPPS_LINK_DOWN or port.config & proto.OFPPC_PORT_DOWN)


def listen(name: FrameworkName, port: int, dpid: int, report: Report) -> None:
    """Listen for the switch on 127.0.0.1 and report events, from threads that end with the process.

    The switch can connect when this returns.  Once a process: the framework's application registry is global.

    Raises:
        MachineError: the framework is not installed.
        ToolError: the port is taken, or the framework did not start.
    """
    if refusal := _refusal(port):
        raise ToolError(f"listening on {LISTEN_HOST}:{port}", refusal)
    framework = frameworks.load(name)
    framework.start(
        _application(framework, SwitchReports(framework, dpid, report)),
        ofp_listen_host=LISTEN_HOST,
        ofp_tcp_listen_port=port,
        echo_request_interval=ECHO_INTERVAL_S,
        maximum_unreplied_echo_requests=MAX_UNANSWERED_ECHOES,
    )
    _wait_until_listening(port)


def _wait_until_listening(port: int) -> None:
    """Wait until the framework's thread listens; it does not report this, but the port is in use then."""
    deadline = time.monotonic() + _LISTENING_WITHIN_S
    while not _refusal(port):
        if time.monotonic() > deadline:
            happened = f"the framework did not listen within {_LISTENING_WITHIN_S:g} s"
            raise ToolError(f"listening on {LISTEN_HOST}:{port}", happened)
        time.sleep(_POLL_S)


def _refusal(port: int) -> str:
    """Return why no other socket could listen at a port; empty if one could.

    The probe does not listen.  Two sockets that are bound to a port with SO_REUSEADDR do not conflict until one of them
    listens, and the frameworks set this option too.  So the probe never prevents the framework's thread from listening.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LISTEN_HOST, port))
        except OSError as error:
            return str(error)
    return ""


def _application(framework: Framework, reports: SwitchReports) -> type:
    """Return the application class for the framework, which finds handlers only by their decorators."""
    events, handler = framework.events, framework.handler
    main, on = handler.MAIN_DISPATCHER, handler.set_ev_cls

    class SwitchApp(framework.app):  # type: ignore[misc,name-defined]  # the frameworks have no types
        OFP_VERSIONS = (framework.proto.OFP_VERSION,)

        @on(events.EventOFPStateChange, [main, handler.DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
        def state_changed(self, event: Any) -> None:
            reports.state_changed(event)

        @on(events.EventOFPBarrierReply, main)  # type: ignore[untyped-decorator]
        def barrier_replied(self, event: Any) -> None:
            reports.barrier_replied(event)

        @on(events.EventOFPPortStatus, main)  # type: ignore[untyped-decorator]
        def port_changed(self, event: Any) -> None:
            reports.port_changed(event)

        @on(events.EventOFPPacketIn, main)  # type: ignore[untyped-decorator]
        def packet_came(self, event: Any) -> None:
            reports.packet_came(event)

        @on(events.EventOFPRoleReply, main)  # type: ignore[untyped-decorator]
        def role_replied(self, event: Any) -> None:
            reports.role_replied(event)

        @on(events.EventOFPErrorMsg, [handler.CONFIG_DISPATCHER, main])  # type: ignore[untyped-decorator]
        def refused(self, event: Any) -> None:
            reports.refused(event)

    return SwitchApp
