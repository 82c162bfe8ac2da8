"""Turns `openflow` data into OpenFlow 1.3 messages with Nicira extensions, in the classes of a framework.

It makes no decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from testbed.controllers.framework import Framework
from testbed.controllers.openflow import (
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
)

# Values that Open vSwitch defines but the frameworks do not name.
_ADD_OR_MODIFY_GROUP = 0x8000  # OFPGC11_ADD_OR_MOD of openvswitch/ofp-group.h
_PRESUPPOSING = ("ip_frag",)  # Nicira fields that must come after other fields in a match
_HASH_SYMMETRIC_L3L4_UDP = 3  # NX_HASH_FIELDS_SYMMETRIC_L3L4_UDP of openflow/nicira-ext.h


class MessageBuilder:
    """Builds messages for one framework."""

    def __init__(self, framework: Framework) -> None:
        self._proto, self._parser, self._nicira = framework.proto, framework.parser, framework.nicira
        self._action: dict[type, Callable[[Any], Any]] = {
            Output: self._output,
            ToGroup: self._to_group,
            SetField: self._set_field,
            CopyField: self._copy_field,
            Resubmit: self._resubmit,
            HashToRegister: self._hash,
            Learn: self._learn,
        }
        self._message: dict[type, Callable[[Any, Any], Any]] = {
            FlowMod: self._flow_mod,
            GroupMod: self._group_mod,
            PacketOut: self._packet_out,
        }

    def build(self, datapath: Any, message: Message) -> Any:
        """Return the framework's message for `datapath`, not yet serialised."""
        return self._message[type(message)](datapath, message)

    # ---------------------------------------------------------------------------------------------------- messages

    def _flow_mod(self, datapath: Any, mod: FlowMod) -> Any:
        instructions = []
        if mod.actions:
            actions = self._actions(mod.actions)
            instructions.append(self._parser.OFPInstructionActions(self._proto.OFPIT_APPLY_ACTIONS, actions))
        if mod.goto is not None:
            instructions.append(self._parser.OFPInstructionGotoTable(mod.goto))
        return self._parser.OFPFlowMod(
            datapath,
            cookie=mod.cookie,
            table_id=mod.table,
            command=self._proto.OFPFC_ADD,
            priority=mod.priority,
            idle_timeout=mod.idle_s,
            match=self._match(mod.match),
            instructions=instructions,
        )

    def _match(self, match: Match) -> Any:
        """Return the framework's match.

        The framework sorts fields so that each comes after those it depends on, but puts Nicira fields first.
        """
        fields = self._parser.OFPMatch(**dict(match)).items()
        return self._parser.OFPMatch(_ordered_fields=sorted(fields, key=lambda field: field[0] in _PRESUPPOSING))

    def _group_mod(self, datapath: Any, mod: GroupMod) -> Any:
        buckets = [
            self._parser.OFPBucket(
                watch_port=self._proto.OFPP_ANY if bucket.watch_port is None else bucket.watch_port,
                watch_group=self._proto.OFPG_ANY if bucket.watch_group is None else bucket.watch_group,
                actions=self._actions(bucket.actions),
            )
            for bucket in mod.buckets
        ]
        kind = self._proto.OFPGT_FF
        return self._parser.OFPGroupMod(datapath, _ADD_OR_MODIFY_GROUP, kind, mod.group, buckets)

    def _packet_out(self, datapath: Any, out: PacketOut) -> Any:
        actions = self._actions(out.actions)
        return self._parser.OFPPacketOut(datapath, self._proto.OFP_NO_BUFFER, out.in_port, actions, out.data)

    # ----------------------------------------------------------------------------------------------------- actions

    def _actions(self, actions: Sequence[OpenFlowAction]) -> list[Any]:
        return [self._action[type(action)](action) for action in actions]

    def _output(self, action: Output) -> Any:
        return self._parser.OFPActionOutput(action.port)

    def _to_group(self, action: ToGroup) -> Any:
        return self._parser.OFPActionGroup(action.group)

    def _set_field(self, action: SetField) -> Any:
        return self._parser.OFPActionSetField(**{action.field: action.value})

    def _copy_field(self, action: CopyField) -> Any:
        return self._parser.NXActionRegMove(src_field=action.source, dst_field=action.target, n_bits=action.bits)

    def _resubmit(self, action: Resubmit) -> Any:
        return self._parser.NXActionResubmitTable(in_port=self._proto.OFPP_IN_PORT & 0xFFFF, table_id=action.table)

    def _hash(self, action: HashToRegister) -> Any:
        return self._parser.NXActionMultipath(
            fields=_HASH_SYMMETRIC_L3L4_UDP,
            basis=action.basis,
            algorithm=self._nicira.NX_MP_ALG_MODULO_N,
            max_link=action.links
            - 1,  # the message contains the highest link number, the manual says the number of links
            arg=0,
            ofs_nbits=self._nicira.ofs_nbits(0, 31),
            dst=action.register,
        )

    def _learn(self, action: Learn) -> Any:
        parser = self._parser
        specs = [parser.NXFlowSpecMatch(src=value, dst=(name, 0), n_bits=bits) for name, value, bits in action.fixed]
        specs += [parser.NXFlowSpecMatch(src=(name, 0), dst=(name, 0), n_bits=bits) for name, bits in action.same]
        specs += [parser.NXFlowSpecLoad(src=(action.register, 0), dst=(action.register, 0), n_bits=32)]
        return parser.NXActionLearn(
            table_id=action.table,
            specs=specs,
            idle_timeout=action.idle_s,
            priority=action.priority,
            cookie=action.cookie,
        )
