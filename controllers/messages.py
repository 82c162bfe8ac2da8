"""The shim to os-ken: the only file that imports the framework.

It turns `openflow` data into OpenFlow 1.3 messages with Nicira extensions, and what os-ken reports into `switch`
happenings.  It decides nothing.

os-ken is embedded: its launcher is gone, and with it goes eventlet; the native hub runs every connection in threads.
Those threads swallow exceptions and are no daemons; started from a daemon thread they are, so they end with us.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from os_ken import cfg
from os_ken.base.app_manager import AppManager, OSKenApp
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from os_ken.ofproto import nicira_ext, ofproto_v1_3, ofproto_v1_3_parser

from controllers.openflow import (
    CopyField,
    FlowMod,
    GroupMod,
    HashToRegister,
    Learn,
    Message,
    OpenFlowAction,
    Output,
    Resubmit,
    SetField,
    ToGroup,
)
from controllers.switch import Acknowledged, Connected, Disconnected, Happening, PortChanged, Refused
from testbed.errors import ToolError

LISTEN_HOST = "127.0.0.1"
ECHO_INTERVAL_S = 2.0
MAX_UNANSWERED_ECHOES = 5

# Values Open vSwitch knows and os-ken has no names for.
_ADD_OR_MODIFY_GROUP = 0x8000  # OFPGC11_ADD_OR_MOD of openvswitch/ofp-group.h
_HASH_SYMMETRIC_L3L4_UDP = 3  # NX_HASH_FIELDS_SYMMETRIC_L3L4_UDP of openflow/nicira-ext.h

_proto, _parser = ofproto_v1_3, ofproto_v1_3_parser


# ----------------------------------------------------------------------------------------------------- to messages


def _output(action: Output) -> Any:
    return _parser.OFPActionOutput(action.port)


def _to_group(action: ToGroup) -> Any:
    return _parser.OFPActionGroup(action.group)


def _set_field(action: SetField) -> Any:
    return _parser.OFPActionSetField(**{action.field: action.value})


def _copy_field(action: CopyField) -> Any:
    return _parser.NXActionRegMove(src_field=action.source, dst_field=action.target, n_bits=action.bits)


def _resubmit(action: Resubmit) -> Any:
    return _parser.NXActionResubmitTable(in_port=_proto.OFPP_IN_PORT & 0xFFFF, table_id=action.table)


def _hash(action: HashToRegister) -> Any:
    return _parser.NXActionMultipath(
        fields=_HASH_SYMMETRIC_L3L4_UDP,
        basis=action.basis,
        algorithm=nicira_ext.NX_MP_ALG_MODULO_N,
        max_link=action.links - 1,  # the wire has the greatest link, the manual the number of links
        arg=0,
        ofs_nbits=nicira_ext.ofs_nbits(0, 31),
        dst=action.register,
    )


def _learn(action: Learn) -> Any:
    specs = [_parser.NXFlowSpecMatch(src=value, dst=(name, 0), n_bits=bits) for name, value, bits in action.fixed]
    specs += [_parser.NXFlowSpecMatch(src=(name, 0), dst=(name, 0), n_bits=bits) for name, bits in action.same]
    specs += [_parser.NXFlowSpecLoad(src=(action.register, 0), dst=(action.register, 0), n_bits=32)]
    return _parser.NXActionLearn(
        table_id=action.table,
        specs=specs,
        idle_timeout=action.idle_s,
        priority=action.priority,
        cookie=action.cookie,
    )


_BUILDERS: dict[type, Callable[[Any], Any]] = {
    Output: _output,
    ToGroup: _to_group,
    SetField: _set_field,
    CopyField: _copy_field,
    Resubmit: _resubmit,
    HashToRegister: _hash,
    Learn: _learn,
}


def _actions(actions: Sequence[OpenFlowAction]) -> list[Any]:
    return [_BUILDERS[type(action)](action) for action in actions]


def _flow_mod(datapath: Any, mod: FlowMod) -> Any:
    instructions = []
    if mod.actions:
        instructions.append(_parser.OFPInstructionActions(_proto.OFPIT_APPLY_ACTIONS, _actions(mod.actions)))
    if mod.goto is not None:
        instructions.append(_parser.OFPInstructionGotoTable(mod.goto))
    return _parser.OFPFlowMod(
        datapath,
        cookie=mod.cookie,
        table_id=mod.table,
        command=_proto.OFPFC_ADD,
        priority=mod.priority,
        match=_parser.OFPMatch(**dict(mod.match)),
        instructions=instructions,
    )


def _group_mod(datapath: Any, mod: GroupMod) -> Any:
    buckets = [
        _parser.OFPBucket(watch_port=bucket.watch_port, actions=_actions(bucket.actions)) for bucket in mod.buckets
    ]
    return _parser.OFPGroupMod(datapath, _ADD_OR_MODIFY_GROUP, _proto.OFPGT_FF, mod.group, buckets)


def to_os_ken(datapath: Any, message: Message) -> Any:
    """Return the framework's message for `datapath`."""
    return _group_mod(datapath, message) if isinstance(message, GroupMod) else _flow_mod(datapath, message)


# ------------------------------------------------------------------------------------------------ from the framework


class DatapathLink:
    """A `switch.Link` over one connection of os-ken."""

    def __init__(self, datapath: Any) -> None:
        """Wrap a datapath that has finished its handshake."""
        self._datapath = datapath

    def send(self, messages: Sequence[Message]) -> int:
        """See `Link.send`.  One write for all: os-ken would wake its sending thread for each."""
        barrier = _parser.OFPBarrierRequest(self._datapath)
        wire = bytearray()
        for message in [*(to_os_ken(self._datapath, m) for m in messages), barrier]:
            self._datapath.set_xid(message)
            message.serialize()
            wire += message.buf
        self._datapath.send(wire)
        return int(barrier.xid)


class SwitchApp(OSKenApp):  # type: ignore[misc]  # os-ken has no types
    """Reports what happens at one switch."""

    OFP_VERSIONS = (ofproto_v1_3.OFP_VERSION,)

    def __init__(self, *args: Any, dpid: int, report: Callable[[Happening], None], **kwargs: Any) -> None:
        """Report happenings of the switch `dpid`; `report` is called from os-ken's threads."""
        super().__init__(*args, **kwargs)
        self._dpid, self._report = dpid, report
        self._links: dict[Any, DatapathLink] = {}

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])  # type: ignore[untyped-decorator]
    def _state_changed(self, event: Any) -> None:
        datapath = event.datapath
        if datapath.id != self._dpid:
            return
        if event.state == MAIN_DISPATCHER:
            self._links[datapath] = DatapathLink(datapath)
            ports = {number: _is_up(port) for number, port in datapath.ports.items()}
            self._report(Connected(self._links[datapath], ports))
        elif datapath in self._links:
            self._report(Disconnected(self._links.pop(datapath)))

    @set_ev_cls(ofp_event.EventOFPBarrierReply, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def _barrier_replied(self, event: Any) -> None:
        link = self._links.get(event.msg.datapath)
        if link is not None:
            self._report(Acknowledged(link, event.msg.xid))

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)  # type: ignore[untyped-decorator]
    def _port_changed(self, event: Any) -> None:
        if event.msg.datapath in self._links:
            gone = event.msg.reason == _proto.OFPPR_DELETE
            self._report(PortChanged(event.msg.desc.port_no, not gone and _is_up(event.msg.desc)))

    @set_ev_cls(ofp_event.EventOFPErrorMsg, [CONFIG_DISPATCHER, MAIN_DISPATCHER])  # type: ignore[untyped-decorator]
    def _refused(self, event: Any) -> None:
        message = event.msg
        self._report(Refused(f"type {message.type}, code {message.code}, about {bytes(message.data[:64]).hex()}"))


def _is_up(port: Any) -> bool:
    return not (port.state & _proto.OFPPS_LINK_DOWN or port.config & _proto.OFPPC_PORT_DOWN)


def listen(port: int, dpid: int, report: Callable[[Happening], None]) -> None:
    """Listen for the switch on 127.0.0.1 and report what happens, from threads that end with the process.

    Once a process: os-ken's application registry is global.

    Raises:
        ToolError: os-ken did not start.
    """
    failures: list[BaseException] = []

    def start() -> None:
        try:
            _start_apps(port, dpid, report)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised in the caller's thread
            failures.append(error)

    starter = threading.Thread(target=start, daemon=True)  # its children inherit being daemons
    starter.start()
    starter.join()
    if failures:
        raise ToolError("starting the OpenFlow controller", str(failures[0])) from failures[0]


def _start_apps(port: int, dpid: int, report: Callable[[Happening], None]) -> None:
    cfg.CONF(args=[], project="os_ken", default_config_files=[])
    cfg.CONF.set_override("ofp_listen_host", LISTEN_HOST)
    cfg.CONF.set_override("ofp_tcp_listen_port", port)
    cfg.CONF.set_override("echo_request_interval", ECHO_INTERVAL_S)
    cfg.CONF.set_override("maximum_unreplied_echo_requests", MAX_UNANSWERED_ECHOES)
    framework = AppManager.get_instance()
    framework.load_apps(["os_ken.controller.ofp_handler"])
    framework.applications_cls["SwitchApp"] = SwitchApp
    framework.create_contexts()
    framework.instantiate_apps(dpid=dpid, report=report)
