"""A switch of dictionaries: carries out the messages of `controllers.openflow` and says what a packet would do.

A packet is a dict of OpenFlow fields.  Only what the pipeline uses exists, and everything unknown is an error, so that
a pipeline that passes here uses nothing that was not thought of.
"""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from testbed.controllers.openflow import (
    CONTROLLER,
    IN_PORT,
    Bucket,
    CopyField,
    FlowMod,
    GroupMod,
    HashToRegister,
    Learn,
    Match,
    Message,
    OpenFlowAction,
    Output,
    PacketOut,
    Resubmit,
    SetField,
    ToGroup,
    Value,
    match,
)
from testbed.controllers.pipeline import PIN_COOKIE

Packet = dict[str, Value]
Key = tuple[int, int, Match]

MAX_LOOKUPS = 64
HASHED = ("ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst", "ip_proto", "tcp_src", "tcp_dst", "udp_src", "udp_dst")


@dataclass
class FakeSwitch:
    """Flows by table, priority and match; groups; the ports without carrier; what was sent, and what was asked about;
    the cookies of the flows that packets matched.

    Frames it cannot read: `frames` says which packet a frame is.
    """

    flows: dict[Key, FlowMod] = field(default_factory=dict)
    groups: dict[int, GroupMod] = field(default_factory=dict)
    ports_down: set[int] = field(default_factory=set)
    frames: dict[bytes, Packet] = field(default_factory=dict)
    asked: list[Packet] = field(default_factory=list)
    answered: list[tuple[int, Packet]] = field(default_factory=list)
    cookies: list[int] = field(default_factory=list, compare=False)
    _sent: list[tuple[int, Packet]] = field(default_factory=list)
    _lookups: int = 0

    def apply(self, messages: Iterable[Message]) -> None:
        for message in messages:
            if isinstance(message, GroupMod):
                self.groups[message.group] = message
            elif isinstance(message, PacketOut):
                self.answered += self._leaving(message.in_port, self.frames[message.data], message.actions)
            else:
                assert message.goto is None or message.goto > message.table, "goto only leads on"
                self._check_actions(message.actions)
                self.flows[(message.table, message.priority, message.match)] = message

    def send(self, in_port: int, **fields: Value) -> list[tuple[int, Packet]]:
        """Return the copies that leave: port, and the packet as it leaves."""
        return self._leaving(in_port, fields, (Resubmit(0),))

    def _leaving(self, in_port: int, fields: Packet, actions: Iterable[OpenFlowAction]) -> list[tuple[int, Packet]]:
        self._sent, self._lookups = [], 0
        registers = {f"reg{i}": 0 for i in range(5)}
        self._carry_out(actions, {**fields, **registers, "in_port": in_port})
        hidden = {*registers, "in_port"}
        return [(port, {k: v for k, v in packet.items() if k not in hidden}) for port, packet in self._sent]

    def pins(self) -> dict[Match, int]:
        """Return the learned flows and the node number each loads."""
        found = {}
        for flow in self.flows.values():
            if flow.cookie == PIN_COOKIE:
                (load,) = flow.actions
                assert isinstance(load, SetField)
                found[flow.match] = int(load.value)
        return found

    def _check_actions(self, actions: Iterable[OpenFlowAction]) -> None:
        for action in actions:
            assert not isinstance(action, ToGroup) or action.group in self.groups, "the group must be there first"

    def _look_up(self, packet: Packet, table: int) -> None:
        self._lookups += 1
        assert self._lookups <= MAX_LOOKUPS, "the packet goes round in circles"
        hits = [flow for flow in self.flows.values() if flow.table == table and _matches(flow.match, packet)]
        if not hits:
            return
        best = max(hits, key=lambda flow: flow.priority)
        rivals = [flow for flow in hits if flow.priority == best.priority]
        assert len(rivals) == 1, f"OpenFlow leaves open which of these wins: {rivals}"
        self.cookies.append(best.cookie)
        self._carry_out(best.actions, packet)
        if best.goto is not None:
            self._look_up(packet, best.goto)

    def _carry_out(self, actions: Iterable[OpenFlowAction], packet: Packet) -> None:
        for action in actions:
            if isinstance(action, SetField):
                packet[action.field] = action.value
            elif isinstance(action, CopyField):
                packet[action.target] = packet[action.source]
            elif isinstance(action, HashToRegister):
                text = repr([packet.get(name) for name in HASHED])
                packet[action.register] = zlib.crc32(text.encode(), action.basis) % action.links
            elif isinstance(action, Resubmit):
                self._look_up(packet, action.table)
            elif isinstance(action, Learn):
                self._learn(action, packet)
            elif isinstance(action, ToGroup):
                self._to_group(self.groups[action.group], packet)
            else:
                self._output(action, packet)

    def _learn(self, action: Learn, packet: Packet) -> None:
        fixed = {name: value for name, value, _ in action.fixed}
        same = {name: packet[name] for name, _ in action.same}
        pin = FlowMod(
            action.table,
            action.priority,
            match(**fixed, **same),
            (SetField(action.register, packet[action.register]),),
            cookie=action.cookie,
        )
        self.flows[(pin.table, pin.priority, pin.match)] = pin

    def _to_group(self, group: GroupMod, packet: Packet) -> None:
        for bucket in group.buckets:
            if self._is_live(bucket):
                self._carry_out(bucket.actions, dict(packet))
                return

    def _is_live(self, bucket: Bucket) -> bool:
        if bucket.watch_group is not None:
            return any(self._is_live(other) for other in self.groups[bucket.watch_group].buckets)
        return bucket.watch_port not in self.ports_down

    def _output(self, action: Output, packet: Packet) -> None:
        if action.port == IN_PORT:
            self._sent.append((int(packet["in_port"]), dict(packet)))
        elif action.port == CONTROLLER:
            self.asked.append(dict(packet))
        elif action.port != packet["in_port"] and action.port not in self.ports_down:
            self._sent.append((action.port, dict(packet)))


def _matches(wanted: Match, packet: Packet) -> bool:
    for name, value in wanted:
        if name not in packet:
            return False
        has = packet[name]
        if isinstance(value, tuple):
            if _number(has) & _number(value[1]) != _number(value[0]) & _number(value[1]):
                return False
        elif has != value:
            return False
    return True


def _number(value: Value) -> int:
    if isinstance(value, int):
        return value
    if value.count(":") == 5:
        return int(value.replace(":", ""), 16)
    return int(ipaddress.ip_address(value))
