"""A node's part in the mesh: it sends heartbeats, monitors some other nodes, and shares its state.

    heartbeat   every 10 ms            to its monitors               its incarnation
    report      at each change         to all and the balancer       for each node it monitors: heard or silent
                and every 100 ms
    state       every 100 ms and       to all                        limit, backlog, prediction, severity
                at a severe burst

**Heartbeats are separate messages.**  A node is silent when its monitor has received no heartbeat from it for
`MeshSpec.silence_ns` (55 ms by default: five and a half heartbeat intervals).  So a crash is detected after 45 to 55
ms, by all monitors at almost the same time, and a stop of less than 45 ms is not mistaken for a crash.
``agreement.py`` decides when the reports suffice to declare a node dead; every member decides this by itself, and so
does the balancer.

**Suspect yourself first** (Dadgar, Phillips and Currey, "Lifeguard", 2018).  A member that wakes late was itself
stopped or got no CPU time, so missing heartbeats prove nothing: its lateness is subtracted from all silences.
Datagrams that waited for it are handled before it suspects a node.  If several nodes, and not fewer than half, fall
silent at once, the member marks its suspicions as `UNSURE`: it may be the one that is cut off.

**Refutation.**  A member that is suspected raises its incarnation above the suspected one and sends a heartbeat at
once.

**Sharing.**  ``sharing.py`` decides to which members a state is sent.  Reports go to the same recipients, and each
report also goes directly to the balancer.  A mesh that gossips (``gossip.py``) reports exceptions only, and so can have
thousands of members.
"""

from __future__ import annotations

import random
from collections.abc import Collection

import numpy as np

from testbed.policies.agreement import HEARD, SILENT, UNSURE, Agreement
from testbed.policies.lifecycle import meshed
from testbed.policies.monitors import monitored_by, monitors_of
from testbed.policies.sharing import Sharing
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    HeartbeatHeard,
    NodeJoined,
    NodeLeft,
    SendHeartbeat,
    SendSuspicions,
    StagesAnnounced,
    StatesHeard,
    SuspicionsHeard,
)
from testbed.scenario.mesh import MeshSpec
from testbed.units import NS_PER_MS

BALANCER = "balancer"
START_GRACE_NS = 200 * NS_PER_MS
URGENT_NS = 100 * NS_PER_MS  # a changed report is repeated with every heartbeat for this time, at least three times


class Membership:
    """One member.  Inputs: `HeartbeatHeard`, `SuspicionsHeard`, `StatesHeard`; outputs: `SendHeartbeat` and others.

    A `StatesHeard` with its own name sets its own state; a `StagesAnnounced` says which members there are.  Unknown
    nodes are ignored.  `conclusions` returns the conclusions since the last call.
    """

    def __init__(
        self,
        node: str,
        members: tuple[str, ...],
        spec: MeshSpec,
        rng: random.Random,
        *,
        incarnation: int = 0,
        absent: Collection[str] = (),
    ) -> None:
        """Start; `incarnation` must exceed that of an earlier start; `rng` is used only without full sync.

        `absent`: the `members` that may be added later.  If this member is absent itself, it monitors no node before it
        is announced.
        """
        self._node, self._members, self._spec, self._rng = node, members, spec, rng
        self._present: tuple[str, ...] = ()
        self._sharing = Sharing(node, members, spec, rng)
        self._agreement = self._detector()
        self._urgent_ns = max(URGENT_NS, 3 * spec.heartbeat_ns)
        self._concluded: list[NodeLeft | NodeJoined] = []
        self.incarnation = incarnation
        self._heard_ns: dict[str, int] = {}
        self._incarnation_of: dict[str, int] = {}
        self._silent: set[str] = set()
        self._beat_ns = self._sync_ns = self._urgent_until_ns = 0
        self._begun = False
        self._awake_ns = 0  # last time this member was awake
        self._due_ns: int | None = None  # next deadline; computed when asked for, and to find out the lateness
        self._found: list[tuple[int, int]] = []  # content of the last report, and the report
        self._reported: SuspicionsHeard | None = None
        there = tuple(member for member in members if member not in absent) if absent else members
        self._meet(there, 0)

    # ------------------------------------------------------------------------------------------------------- driven

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """See `Policy.handle`."""
        self._excuse_own_lag(now_ns)
        if isinstance(event, HeartbeatHeard):
            self._hear(event, now_ns)
            return []
        self._due_ns = None
        if isinstance(event, SuspicionsHeard):
            return self._consider(event, now_ns)
        if isinstance(event, StatesHeard):
            severe = self._sharing.learn(event, now_ns)
            return self._sharing.share(self._recipients(), now_ns) if severe else []
        if isinstance(event, StagesAnnounced):
            self._meet(meshed(event), now_ns)
        return self._wake(now_ns) if isinstance(event, DeadlineReached) else []

    def next_deadline_ns(self) -> int | None:
        """See `Policy.next_deadline_ns`."""
        if self._due_ns is None and self._begun:  # computed only once after several events
            self._due_ns = self._earliest_ns()
        return self._due_ns

    def would_send(self, severity_ratio: float, now_ns: int) -> bool:
        """Return whether a state of this node would be sent now; otherwise the caller need not pass it in."""
        return now_ns >= self._sync_ns or self._sharing.is_severe(severity_ratio)

    def conclusions(self) -> list[NodeLeft | NodeJoined]:
        """Return the conclusions since the last call: which nodes left and returned."""
        concluded, self._concluded = self._concluded, []
        return concluded

    @property
    def dead(self) -> frozenset[str]:
        """Return the members that count as dead here."""
        return self._agreement.dead

    @property
    def silent(self) -> frozenset[str]:
        """Return the nodes monitored here that this member does not hear."""
        return frozenset(self._silent)

    def peers_severity_ratio(self, now_ns: int) -> float:
        """Return the highest recent severity of the other live members, 0 to 1."""
        return self._sharing.severity_ratio({self._node, *self.dead}, now_ns)

    # ----------------------------------------------------------------------------------------------------- liveness

    def _detector(self) -> Agreement:
        """Return the failure detector of this member; a member's reports arrive every `syncs` intervals on average."""
        members, spec = self._members, self._spec
        syncs = 1.0 if self._sharing.full_sync else 2.0 * (len(members) - 1) / spec.fanout
        return Agreement(members, spec.watchers, round(syncs * spec.sync_interval_ns))

    def _neighbours(self, present: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the monitors of this member, and the nodes that it monitors."""
        watchers = self._spec.watchers
        return monitors_of(self._node, present, watchers), monitored_by(self._node, present, watchers)

    def _recipients(self) -> tuple[str, ...]:
        """Return the recipients of states and reports now."""
        return self._sharing.recipients(tuple([member for member in self._present if member != self._node]))

    def _attend(self, now_ns: int) -> None:
        """Pass the list of members to the detector."""
        self._agreement.announce(self._present, now_ns)

    def _meet(self, present: tuple[str, ...], now_ns: int) -> None:
        """Update the list of members; a newly monitored member gets time to learn about it."""
        if present == self._present:
            return
        self._present = present
        self._monitors, self._monitored = self._neighbours(present)
        self._incarnation_of = {node: self._incarnation_of.get(node, 0) for node in self._monitored}
        if self._begun:
            fresh_ns = now_ns + START_GRACE_NS
            self._heard_ns = {node: self._heard_ns.get(node, fresh_ns) for node in self._monitored}
        self._silent &= set(self._monitored)
        self._reported = None  # the next report covers other nodes
        self._attend(now_ns)

    def _excuse_own_lag(self, now_ns: int) -> None:
        if now_ns - self._awake_ns > self._spec.heartbeat_ns // 2 and self._begun:
            late_ns = now_ns - max(self.next_deadline_ns() or 0, self._awake_ns)
            if late_ns > self._spec.heartbeat_ns // 2:
                self._heard_ns = {node: heard_ns + late_ns for node, heard_ns in self._heard_ns.items()}
        self._awake_ns = now_ns
        if not self._begun:
            self._begun = True
            self._heard_ns = dict.fromkeys(self._monitored, now_ns + START_GRACE_NS)
            self._beat_ns = self._sync_ns = now_ns

    def _hear(self, event: HeartbeatHeard, now_ns: int) -> None:
        node = event.node
        if node not in self._incarnation_of or event.incarnation < self._incarnation_of[node]:
            return
        self._heard_ns[node] = max(now_ns, self._heard_ns[node])
        self._incarnation_of[node] = event.incarnation
        if node in self._silent:
            self._silent.discard(node)
            self._urge(now_ns)
            self._due_ns = None
        elif self._due_ns is not None and self._due_ns < min(self._beat_ns, self._sync_ns):
            self._due_ns = (
                None  # it may have been the silence deadline of this node, which has changed; other deadlines have not
            )

    def _consider(self, event: SuspicionsHeard, now_ns: int) -> list[Action]:
        self._concluded += self._agreement.hear(event, now_ns)
        if self._node not in event.nodes:
            return []
        row = event.nodes.index(self._node)
        if not event.silent[row] or int(event.incarnation[row]) < self.incarnation:
            return []
        self.incarnation = int(event.incarnation[row]) + 1
        return self._beat(now_ns)

    def _urge(self, now_ns: int) -> None:
        self._urgent_until_ns = now_ns + self._urgent_ns
        self._beat_ns = now_ns

    def _suspect(self, now_ns: int) -> None:
        silent = {node for node in self._monitored if now_ns - self._heard_ns[node] >= self._spec.silence_ns}
        if silent - self._silent:
            self._silent |= silent
            self._urge(now_ns)

    def _report_on(self, node: str, now_ns: int) -> int:
        """Return the report about a node: `UNSURE` if several, and not fewer than half, fell silent together."""
        if node not in self._silent:
            return HEARD
        overdue_ns = now_ns - self._spec.silence_ns // 2
        since_ns = self._heard_ns[node] - self._spec.silence_ns
        together = sum(since_ns < heard_ns <= overdue_ns for heard_ns in self._heard_ns.values())
        hearing = sum(heard_ns > overdue_ns for heard_ns in self._heard_ns.values())
        return UNSURE if together > 1 and together >= hearing else SILENT

    def _wake(self, now_ns: int) -> list[Action]:
        self._suspect(now_ns)
        actions: list[Action] = []
        sync, urgent = now_ns >= self._sync_ns, False
        if now_ns >= self._beat_ns:
            actions += self._beat(now_ns)
            urgent = now_ns < self._urgent_until_ns
        recipients = self._recipients() if sync or urgent else ()  # the same recipients for both: one datagram each
        if self._reports(sync=sync, urgent=urgent):
            actions.append(self._report(self._report_to(recipients, now_ns), now_ns))
        if sync:
            actions += self._sharing.share(recipients, now_ns)
            self._sync_ns = _next(self._sync_ns, self._spec.sync_interval_ns, now_ns)
        self._concluded += self._agreement.conclude(now_ns)
        return actions

    def _beat(self, now_ns: int) -> list[Action]:
        self._beat_ns = _next(self._beat_ns, self._spec.heartbeat_ns, now_ns)
        return [SendHeartbeat(to=self._monitors, incarnation=self.incarnation)] if self._monitors else []

    def _reports(self, *, sync: bool, urgent: bool) -> bool:
        """Return whether a report is due."""
        return sync or urgent

    def _report_to(self, recipients: tuple[str, ...], now_ns: int) -> tuple[str, ...]:
        """Return the recipients of a report besides the balancer, if `recipients` receive states now."""
        return recipients

    def _report(self, recipients: tuple[str, ...], now_ns: int) -> Action:
        nodes = self._monitored
        found = [(self._incarnation_of[node], self._report_on(node, now_ns)) for node in nodes]
        if self._reported is None or found != self._found:
            columns = np.array(found, dtype=np.int64).reshape(-1, 2).T.copy()
            self._found = found
            self._reported = SuspicionsHeard(monitor=self._node, nodes=nodes, incarnation=columns[0], silent=columns[1])
        report = self._reported
        # This member's own report counts here too, although it is not sent.
        self._concluded += self._agreement.hear(report, now_ns)
        return SendSuspicions(
            to=(*recipients, BALANCER), nodes=nodes, incarnation=report.incarnation, silent=report.silent
        )

    def _earliest_ns(self) -> int:
        deadlines = [self._beat_ns, self._sync_ns]
        hearing = [heard_ns for node, heard_ns in self._heard_ns.items() if node not in self._silent]
        if hearing:
            deadlines.append(min(hearing) + self._spec.silence_ns)
        concluding_ns = self._agreement.next_deadline_ns()
        return min(deadlines) if concluding_ns is None else min(*deadlines, concluding_ns)


def _next(due_ns: int, interval_ns: int, now_ns: int) -> int:
    """Return the next time on a grid; missed times are skipped."""
    return due_ns + interval_ns * max(1, (now_ns - due_ns) // interval_ns + 1) if now_ns >= due_ns else due_ns
