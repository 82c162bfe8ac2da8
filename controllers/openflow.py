"""OpenFlow messages as plain data: frozen, comparable, and independent of the framework.

Fields have their OpenFlow names (``in_port``, ``eth_type``, ``ipv4_src``, ``reg2``).  Addresses are text, all other
values integers.  `messages` turns this data into bytes for a real switch; the tests apply it to dictionaries.

Every message except `PacketOut` is idempotent: adding a flow replaces the flow with the same table, priority and match;
adding a group replaces the group.
"""

from __future__ import annotations

from dataclasses import dataclass

Value = int | str
Masked = tuple[Value, Value]  # value and mask
Match = tuple[tuple[str, Value | Masked], ...]

IN_PORT = 0xFFFFFFF8  # OFPP_IN_PORT: back to the input port; an output action with its number would be ignored
CONTROLLER = 0xFFFFFFFD  # OFPP_CONTROLLER: the whole packet, as a packet-in


def match(**fields: Value | Masked) -> Match:
    """Return a match in canonical order, so that equivalent matches are equal."""
    return tuple(sorted(fields.items()))


# ------------------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class Output:
    """Send a copy of the packet, in its present state, through a port."""

    port: int


@dataclass(frozen=True, slots=True)
class ToGroup:
    """Process the packet with a group."""

    group: int


@dataclass(frozen=True, slots=True)
class SetField:
    """Write a value to a field or register."""

    field: str
    value: Value


@dataclass(frozen=True, slots=True)
class CopyField:
    """Write a field's value to another one of the same width."""

    source: str
    target: str
    bits: int


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Look up the packet in a table, in its present state, then continue with the next action."""

    table: int


@dataclass(frozen=True, slots=True)
class HashToRegister:
    """Write ``hash(addresses, protocol, TCP or UDP ports; basis) mod links`` to a register (Nicira multipath)."""

    register: str
    links: int
    basis: int


@dataclass(frozen=True, slots=True)
class Learn:
    """Add a flow to `table`: packets whose `same` fields equal this one's get this one's `register` (Nicira learn).

    Attributes:
        fixed: further fields of the match, with their values.
        same: field names and widths in bits.
        register: 32 bits, copied into the new flow's action.
        idle_s: the new flow expires after this time without a match.
    """

    table: int
    priority: int
    idle_s: int
    cookie: int
    fixed: tuple[tuple[str, int, int], ...]  # name, value, bits
    same: tuple[tuple[str, int], ...]
    register: str


OpenFlowAction = Output | ToGroup | SetField | CopyField | Resubmit | HashToRegister | Learn


# ------------------------------------------------------------------------------------------------------ messages


@dataclass(frozen=True, slots=True)
class FlowMod:
    """Add a flow: `actions` apply to packets of `match` in order; then table `goto` follows (None: no further table).

    It expires after `idle_s` without a match; 0: never.
    """

    table: int
    priority: int
    match: Match
    actions: tuple[OpenFlowAction, ...] = ()
    goto: int | None = None
    cookie: int = 0
    idle_s: int = 0


@dataclass(frozen=True, slots=True)
class Bucket:
    """A list of actions.  It is live while `watch_port` is up, or while a bucket of the group `watch_group` is live."""

    watch_port: int | None
    actions: tuple[OpenFlowAction, ...]
    watch_group: int | None = None


@dataclass(frozen=True, slots=True)
class GroupMod:
    """Add or replace a fast-failover group: the first live bucket is executed; without one, the packet is dropped."""

    group: int
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class PacketOut:
    """Execute `actions` on the frame `data` as if it had arrived at `in_port`."""

    in_port: int
    data: bytes
    actions: tuple[OpenFlowAction, ...]


Message = FlowMod | GroupMod | PacketOut
