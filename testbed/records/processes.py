"""What the processes of a trial report: that they are ready, what they noticed, how they ended.

A line holds the process as ``policy``: ``balancer`` (a controller), ``mesh:n1`` (a member of the mesh), ``mesh`` (the
reports that the balancer received), ``deflection``.  Agents and TCP sources have their name in a field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from testbed.records.events import Doc, LogEntry, Node, Suspicions
from testbed.records.events.balancer import SLOTS

_LOOP = Doc("from the arrival of the event that led to it to the confirmation by the switch")
_MESSAGES = Doc("messages that the switch confirmed; `null` in virtual time", "messages")
_REMOVED = Doc("nodes that it removed from forwarding", "names")
_BY_FLAW = "datagrams that were ignored, by flaw: malformed, forged, late…"


# ------------------------------------------------------------------------------------------------------- controllers


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BalancerReady(LogEntry):
    """The whole pipeline of a controller is in force."""

    control_loop_us: Annotated[float, Doc("from the grant of the master role to the confirmation by the switch")]
    messages: Annotated[int | None, _MESSAGES] = None
    removed: Annotated[tuple[str, ...], _REMOVED] = ()
    slots: Annotated[tuple[str, ...], SLOTS] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ActionsAcknowledged(LogEntry):
    """The switch has confirmed, by a barrier, the changes that an event caused."""

    control_loop_us: Annotated[float, _LOOP]
    messages: Annotated[int | None, _MESSAGES] = None
    removed: Annotated[tuple[str, ...], _REMOVED] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BalancerStopped(LogEntry):
    """The last record of a controller; the switch keeps forwarding with its present tables."""

    notifications: Annotated[int, Doc("notifications that were used", "datagrams")]
    late: Annotated[int, Doc("notifications discarded as too old", "datagrams")]
    malformed: Annotated[int, Doc("datagrams to the notification port that were ignored for a flaw", "datagrams")]
    ignored: Annotated[dict[str, int], Doc(_BY_FLAW, "datagrams")]
    mesh_ignored: Annotated[dict[str, int] | None, Doc("the same of the mesh; `null` without a mesh", "datagrams")] = (
        None
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StandbyReady(LogEntry):
    """The switch knows the second controller as a slave; it follows the primary."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StandbyLost(LogEntry):
    """The standby is gone or too slow; the primary asks the switch for its role again."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SwitchLost(LogEntry):
    """The connection to the switch is gone."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ControllerDeposed(LogEntry):
    """The switch refused the role: another controller is master, under a greater generation id."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ControllerTookOver(LogEntry):
    """The standby noticed that the primary is gone and is the active controller from now on."""

    reason: Annotated[str, Doc("why the primary was replaced", "died, hung, or (simulation) it ended")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SuspicionsChanged(Suspicions, LogEntry):
    """Report of `monitor` on the nodes it watches, recorded if it differs from its last one."""

    monitor: Annotated[str, Doc("the member that reports", "name")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SiblingNameLost(LogEntry):
    """The datagram that names the sibling of `node` could not be sent."""

    node: Node


# -------------------------------------------------------------------------------------------------------------- agents


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SiblingSet(LogEntry):
    """From now on `node` forwards packets to `sibling` when its buffer is full."""

    node: Node
    sibling: Annotated[str, Doc("the sibling; empty: none", "name")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class NotificationLost(LogEntry):
    """A notification of `node` could not be sent; the next one carries the whole state."""

    node: Node


# ---------------------------------------------------------------------------------------------------------------- mesh


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MemberSilent(LogEntry):
    """The member (see `policy`), a monitor of `node`, now suspects it.

    It has received no heartbeat of it for `mesh.misses` intervals and a half (55 ms by default).  Not yet a removal:
    see `MemberDied`.
    """

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MemberHeard(LogEntry):
    """The member receives heartbeats of `node` again."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MemberDied(LogEntry):
    """The member considers `node` dead, by agreement of its monitors."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MemberReturned(LogEntry):
    """The member considers `node` alive again."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MeshStopped(LogEntry):
    """The last record of a member."""

    sent: Annotated[int, Doc("datagrams it sent", "datagrams")]
    unsent: Annotated[int, Doc("datagrams that could not be sent", "datagrams")]
    heard: Annotated[int, Doc("datagrams it received and used", "datagrams")]
    ignored: Annotated[dict[str, int], Doc(_BY_FLAW, "datagrams")]
    late_max_us: Annotated[float, Doc("greatest lateness at a deadline")]


# --------------------------------------------------------------------------------------------------------------- trial


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TcpSampled(LogEntry):
    """The kernel's counts of the connections of a TCP source, an entry each; the last ones of those that broke."""

    source: Annotated[str, Doc("name of the source", "name")]
    rtt_ns: Annotated[tuple[int, ...], Doc("smoothed round-trip time")]
    cwnd_pkts: Annotated[tuple[int, ...], Doc("congestion window")]
    retransmitted_pkts: Annotated[tuple[int, ...], Doc("retransmitted segments since the start")]
    acked_bytes: Annotated[tuple[int, ...], Doc("acknowledged bytes since the start")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ProcessRestarted(LogEntry):
    """A process of the trial ended though nothing had ordered it, and was started anew (`run --restart`)."""

    process: Annotated[str, Doc("name of the process", "name")]
    fate: Annotated[str, Doc("how it ended", "text")]
    took_ms: Annotated[float, Doc("from the discovery of its end until the new process was at work")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrialFailed(LogEntry):
    """The trial could not go on."""

    error: Annotated[str, Doc("what was attempted, what happened, what to do", "text")]
