"""What the processes of a trial report: that they are ready, what they noticed, how they ended.

A line holds the process as ``policy``: ``balancer`` (a controller), ``mesh:n1`` (a member of the mesh), ``mesh`` (the
reports that the balancer received), ``deflection``.  Agents and TCP sources have their name in a field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from testbed.records.events import Doc, LogEntry, Node, Suspicions
from testbed.records.events.balancer import SLOTS

_LOOP = Doc(
    "time from the arrival of the triggering event until the switch confirmed the "
    "change; not the control loop of an agent"
)
_MESSAGES = Doc("number of messages that the switch confirmed; `null` in the simulation", "messages")
_REMOVED = Doc("nodes that this change removed from forwarding", "names")
_BY_FLAW = "number of ignored datagrams, by reason: malformed, forged, late…"


# ------------------------------------------------------------------------------------------------------- controllers


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BalancerReady(LogEntry):
    """The switch has confirmed all flow tables of a controller."""

    control_loop_us: Annotated[
        float,
        Doc(
            "time from the grant of the master role until the switch confirmed the flow "
            "tables; not the control loop of an agent"
        ),
    ]
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
    """A controller has stopped; this is its last record. The switch continues to forward with its current tables."""

    notifications: Annotated[int, Doc("notifications that were used", "datagrams")]
    late: Annotated[int, Doc("notifications discarded as too old", "datagrams")]
    malformed: Annotated[
        int, Doc("datagrams to the notification port that were ignored because they were invalid", "datagrams")
    ]
    ignored: Annotated[dict[str, int], Doc(_BY_FLAW, "datagrams")]
    mesh_ignored: Annotated[
        dict[str, int] | None, Doc("the same for mesh messages; `null` if there is no mesh", "datagrams")
    ] = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StandbyReady(LogEntry):
    """The standby controller has the OpenFlow role SLAVE and receives the inputs of the primary."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StandbyLost(LogEntry):
    """The standby has died or is too slow. The primary requests its role from the switch again."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SwitchLost(LogEntry):
    """The controller lost its connection to the switch."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ControllerDeposed(LogEntry):
    """The switch refused the master role, because another controller is master with a higher generation id."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ControllerTookOver(LogEntry):
    """The standby detected that the primary died or hangs. The standby is now the active controller."""

    reason: Annotated[str, Doc("why the primary was replaced", "died or hung; in the simulation always `it ended`")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SuspicionsChanged(Suspicions, LogEntry):
    """Report of `monitor` about the nodes that it monitors.

    Recorded only if it differs from the previous report of this monitor.
    """

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
    """A notification of `node` could not be sent.

    The next notification contains the complete state, so nothing is lost.
    """

    node: Node


# ---------------------------------------------------------------------------------------------------------------- mesh


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MemberSilent(LogEntry):
    """A mesh member that monitors `node` now suspects it. The field `policy` names the member, for example `mesh:n1`.

    The member has received no heartbeat from the node for (`mesh.misses` + 0.5) heartbeat intervals (55 ms by
    default). The node is not removed yet; see `MemberDied`.
    """

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MemberHeard(LogEntry):
    """The member receives heartbeats of `node` again."""

    node: Node


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MemberDied(LogEntry):
    """The member considers `node` dead, because the quorum of the monitors of `node` suspects it."""

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
    late_max_us: Annotated[float, Doc("maximum lateness of this member's timers")]


# --------------------------------------------------------------------------------------------------------------- trial


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TcpSampled(LogEntry):
    """TCP statistics of the kernel for a TCP source, one entry per connection.

    For a connection that broke, its last values are repeated.
    """

    source: Annotated[str, Doc("name of the source", "name")]
    rtt_ns: Annotated[tuple[int, ...], Doc("smoothed round-trip time")]
    cwnd_pkts: Annotated[tuple[int, ...], Doc("congestion window")]
    retransmitted_pkts: Annotated[tuple[int, ...], Doc("retransmitted segments since the start")]
    acked_bytes: Annotated[tuple[int, ...], Doc("acknowledged bytes since the start")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ProcessRestarted(LogEntry):
    """A process of the trial ended unexpectedly and was restarted (`run --restart`)."""

    process: Annotated[str, Doc("name of the process", "name")]
    fate: Annotated[str, Doc("how it ended", "text")]
    took_ms: Annotated[float, Doc("time from the detection of its end until the new process was ready")]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrialFailed(LogEntry):
    """The trial was aborted because of an error."""

    error: Annotated[str, Doc("what was attempted, what happened, what to do", "text")]
