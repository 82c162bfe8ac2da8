"""A member of a mesh that gossips: the number of messages per member does not grow with the number of members.

    heartbeat   every 10 or 20 ms     to its monitors             as in ``membership.py``
    report      while it suspects     to the node's monitors,     for each node it monitors: heard or silent
                                      the node, the balancer
    rumour      when monitors have    to `fanout` members drawn   a node is dead, or alive, in an incarnation
                concluded             at random, passed on

**Detection and dissemination are separate** (the idea of Das, Gupta and Motivala, "SWIM", 2002).  A monitor that finds
a node silent asks the other monitors of the node (``agreement_by_exception.py``); then they conclude.  A conclusion is
a *rumour* and spreads like an infection.  A member that learns something new sends it to `fanout` random members at
once (at least `NEWS_GAP_NS` after its previous rumours), and again every `GAP_NS`.  It stops after the number of rounds
in which each new rumour is sent to `RETELLING` × ln(members) members.  All n members know a rumour after about log(n) /
log(fanout) steps, each as long as one message takes; on average about one of n members is not reached.  If
there are many rumours, those that were sent least often go first, `ROWS` per message.

Taken from SWIM: this separation, the dissemination of changes instead of state, the number of repetitions (its λ log
n), the priority of the rumours sent least often, incarnations and their order, and the refutation of a death by a
higher incarnation.  Not taken: its probes of random members.  They detect a crash after e/(e − 1) periods on average,
but without an upper bound.  Monitors that expect heartbeats detect it within `MeshSpec.silence_ns`, for any number of
members.

**Return.**  A node that learns that it was declared dead raises its incarnation above the one named and sends a
heartbeat.  Its monitors also notify it when they receive a heartbeat of an incarnation that is known as dead, because
the node may not have received the rumour.  When the monitors have not suspected the node for as long as
``agreement.py`` demands, they spread the rumour that it is alive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from testbed.policies.agreement import Agreement
from testbed.policies.agreement_by_exception import AgreementByException
from testbed.policies.membership import Membership
from testbed.policies.monitors import rings_of
from testbed.records.events import (
    Action,
    Event,
    HeartbeatHeard,
    NodeJoined,
    NodeLeft,
    RumoursHeard,
    SendRumours,
    SuspicionsHeard,
)
from testbed.scenario.mesh import MeshSpec
from testbed.units import NS_PER_MS

RETELLING = 2.0
GAP_NS = 5 * NS_PER_MS
NEWS_GAP_NS = 2 * NS_PER_MS
ROWS = 64  # per message: 1 kB
REASON = "rumour"
DEAD, ALIVE = 1, 0


@dataclass(slots=True)
class _Rumour:
    """A rumour about a node."""

    incarnation: int
    dead: int
    rounds: int  # in which it must still be sent


def _news(node: str, dead: int) -> NodeLeft | NodeJoined:
    return NodeLeft(node=node, reason=REASON) if dead else NodeJoined(node=node, reason=REASON)


def rounds_of(members: int, fanout: int) -> int:
    """Return in how many rounds a member sends a rumour."""
    return max(1, math.ceil(RETELLING * math.log(max(members, 2)) / fanout))


class GossipMembership(Membership):
    """One member, like `Membership`; also receives `RumoursHeard` and returns `SendRumours`."""

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """See `Policy.handle`."""
        if type(event) is HeartbeatHeard:
            super().handle(event, now_ns)
            return self._told_of_its_death(event) if self._gone else []
        if isinstance(event, RumoursHeard):
            self._excuse_own_lag(now_ns)
            self._due_ns, actions = None, self._believe(event, now_ns)
        else:
            actions = super().handle(event, now_ns)
        return actions + self._spread(now_ns)

    @property
    def dead(self) -> frozenset[str]:
        """Return the members that count as dead here."""
        return frozenset(self._gone)

    # ----------------------------------------------------------------------------------------------------- liveness

    def _detector(self) -> Agreement:
        self._believed: dict[
            str, tuple[int, int]
        ] = {}  # members that were dead at some time: incarnation, and whether they are dead
        self._gone: set[str] = set()
        self._rumours: dict[str, _Rumour] = {}
        self._asked: dict[str, int] = {}  # monitor that asked for our report → until when it is sent
        self._spread_ns = self._sent_ns = 0  # when rumours are due, and were sent last
        detector = AgreementByException(self._members, self._spec.watchers, self._spec.sync_interval_ns, ())
        detector.believe(self._gone)
        self._by_exception = detector
        return detector

    def _neighbours(self, present: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        rings = rings_of(present, self._spec.watchers)
        return rings.monitors_of(self._node), rings.monitored_by(self._node)

    def _meet(self, present: tuple[str, ...], now_ns: int) -> None:
        if present == self._present:
            return
        super()._meet(present, now_ns)
        self._gone &= set(present) if self._gone else self._gone
        self._rounds = rounds_of(len(present), self._spec.fanout)

    def _attend(self, now_ns: int) -> None:
        self._by_exception.attend(self._monitored, self._present)

    def _recipients(self) -> tuple[str, ...]:
        """Return other members, drawn at random."""
        count = min(self._spec.fanout + 1, len(self._present))  # one more than needed, because this member may be drawn
        drawn = [member for member in self._rng.sample(self._present, count) if member != self._node]
        return tuple(drawn[: self._spec.fanout])

    def _consider(self, event: SuspicionsHeard, now_ns: int) -> list[Action]:
        """Answer another monitor of a node that this member monitors."""
        actions = super()._consider(event, now_ns)
        ours = set(self._monitored).intersection(event.nodes) - self._gone
        if event.monitor not in self._asked and any(event.silent[event.nodes.index(node)] for node in ours):
            self._asked[event.monitor] = now_ns + self._urgent_ns
            self._urge(now_ns)
            self._due_ns = None
        return actions

    def _reports(self, *, sync: bool, urgent: bool) -> bool:
        return urgent or (sync and bool(self._silent))

    def _report_to(self, recipients: tuple[str, ...], now_ns: int) -> tuple[str, ...]:
        self._asked = {monitor: at_ns for monitor, at_ns in self._asked.items() if at_ns > now_ns}
        rings = rings_of(self._present, self._spec.watchers)
        about = [node for node in self._monitored if self._is_undecided(node)]
        others = [name for node in about for name in (node, *rings.monitors_of(node))]
        return tuple(name for name in dict.fromkeys((*others, *self._asked)) if name != self._node)

    def _is_undecided(self, node: str) -> bool:
        """Return whether others need our report: a live node is suspected, or a node that counts as dead is heard."""
        return self._by_exception.is_open(node) and (node in self._silent) != (node in self._gone)

    # ------------------------------------------------------------------------------------------------------ rumours

    def _told_of_its_death(self, event: HeartbeatHeard) -> list[Action]:
        """Inform a node that its present incarnation is considered dead."""
        incarnation, dead = self._believed.get(event.node, (-1, ALIVE))
        if not dead or event.incarnation > incarnation:
            return []
        return [self._message((event.node,), {event.node: _Rumour(incarnation, DEAD, 0)})]

    def _believe(self, event: RumoursHeard, now_ns: int) -> list[Action]:
        refuted = False
        for node, incarnation, dead in zip(event.nodes, event.incarnation.tolist(), event.dead.tolist(), strict=True):
            if node == self._node:
                refuted |= self._refuted(incarnation, dead)
            elif self._learn_of(node, incarnation, dead):
                self._concluded.append(_news(node, dead))
        if self._by_exception.has_open:  # a conclusion may have waited for a monitor that is dead
            self._concluded += self._agreement.conclude(now_ns)
        return self._beat(now_ns) if refuted else []

    def _refuted(self, incarnation: int, dead: int) -> bool:
        if not dead or incarnation < self.incarnation:
            return False
        self.incarnation = incarnation + 1
        return True

    def _learn_of(self, node: str, incarnation: int, dead: int) -> bool:
        """Process a rumour; return whether it changes who counts as dead."""
        if (incarnation, dead) <= self._believed.get(node, (-1, ALIVE)):
            return False
        self._believed[node] = incarnation, dead
        self._rumours[node] = _Rumour(incarnation, dead, self._rounds)
        self._spread_ns = min(self._spread_ns, self._sent_ns + NEWS_GAP_NS)
        changed = bool(dead) != (node in self._gone)
        (self._gone.add if dead else self._gone.discard)(node)
        return changed

    def _spread(self, now_ns: int) -> list[Action]:
        """Send new rumours, if due; conclusions of this member are new rumours."""
        if self._concluded:
            self._concluded = [news for conclusion in self._concluded for news in self._known(conclusion)]
        if not self._rumours or now_ns < self._spread_ns:
            return []
        chosen = sorted(self._rumours.items(), key=lambda item: -item[1].rounds)[:ROWS]
        for node, rumour in chosen:
            rumour.rounds -= 1
            if not rumour.rounds:
                del self._rumours[node]
        self._sent_ns, self._spread_ns, self._due_ns = now_ns, now_ns + GAP_NS, None
        return [self._message(self._recipients(), dict(chosen))]

    def _known(self, conclusion: NodeLeft | NodeJoined) -> list[NodeLeft | NodeJoined]:
        """Process the conclusions of this member; return those that were not known from a rumour."""
        if conclusion.reason == REASON:
            return [conclusion]
        node, dead = conclusion.node, DEAD if isinstance(conclusion, NodeLeft) else ALIVE
        return [_news(node, dead)] if self._learn_of(node, self._by_exception.life_of(node), dead) else []

    def _message(self, to: tuple[str, ...], rumours: dict[str, _Rumour]) -> Action:
        columns = np.array([(rumour.incarnation, rumour.dead) for rumour in rumours.values()], dtype=np.int64).T
        return SendRumours(to=to, nodes=tuple(rumours), incarnation=columns[0], dead=columns[1])

    def _earliest_ns(self) -> int:
        earliest_ns = super()._earliest_ns()
        return min(earliest_ns, self._spread_ns) if self._rumours else earliest_ns


def member_class(spec: MeshSpec) -> type[Membership]:
    """Return the class of the members, for this kind of mesh."""
    return GossipMembership if spec.gossips else Membership


def make_detector(members: tuple[str, ...], spec: MeshSpec) -> Agreement:
    """Return the failure detector of the balancer."""
    made = AgreementByException if spec.gossips else Agreement
    return made(members, spec.watchers, spec.sync_interval_ns)
