"""A node's part in the mesh: it shows that it lives, watches some others, and shares its state.

    heartbeat   every 10 ms    to its few watchers           "I live, in my life number k"
    report   at a change,   to everybody and the balancer "these I hear, those I do not"
                and each sync
    states      each 100 ms    to everybody                  limit, backlog, prediction, severity
                and when the severity rises by `SEVERE_STEP`: a burst that is announced does not wait

**Liveness is its own channel.**  A node is silent when its watcher has not heard it for `MeshSpec.silence_ns`
(55 ms by default: five heartbeats and a half).  A crash is so noticed 45 to 55 ms after it, by all watchers at almost
the same moment, and a stop of less than 45 ms is not taken for one.  What the watchers' word leads to is in
``agreement.py``; every member draws that conclusion for itself, and so does the balancer.

**Suspect yourself first** (Dadgar, Phillips and Currey, "Lifeguard", 2018).  A member that was woken late was stopped
or starved itself, and what it did not hear meanwhile is no evidence: by as much as it is late, all silences count as
shorter.  Datagrams that waited for it are heard before it judges.  One that stops hearing several nodes at once says so
with its suspicions (`UNSURE`): it may be the one that is cut off.

**Refutation.**  A member that hears of a suspicion against itself starts a new life: it raises its incarnation above
the suspected one and says so at once.

**Sharing.**  Up to `FULL_SYNC_MEMBERS` members everybody tells everybody.  Beyond, each tells `FAN_OUT` members drawn
anew each time, and passes on the newest `GOSSIP_ROWS` states it knows (Demers et al., "Epidemic algorithms", 1987).
A state is as new as its `taken_ns`, on the clock all nodes share; the newer one stays.
"""

from __future__ import annotations

import random

import numpy as np

from testbed.policies.agreement import HEARD, SILENT, UNSURE, Agreement
from testbed.policies.watchers import watched_by, watchers_of
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    Floats,
    HeartbeatHeard,
    Ints,
    NodeJoined,
    NodeLeft,
    SendHeartbeat,
    SendStates,
    SendSuspicions,
    StatesHeard,
    SuspicionsHeard,
)
from testbed.scenario.mesh import MeshSpec
from testbed.units import NS_PER_MS

BALANCER = "balancer"
FULL_SYNC_MEMBERS = 100
FAN_OUT = 16
GOSSIP_ROWS = 32
START_GRACE_NS = 200 * NS_PER_MS
URGENT_NS = 100 * NS_PER_MS  # a changed report is repeated with every heartbeat for so long, three times at least
FRESH_NS = 300 * NS_PER_MS  # older states say nothing about the present, where they come every 100 ms or sooner
FRESH_SYNCS = 3
SEVERE_STEP = 0.3
_UNKNOWN_NS = -(2**62)


def fresh_ns(sync_ns: int) -> int:
    """Return how old a state may be that says something about the present, where states come every `sync_ns`."""
    return max(FRESH_NS, FRESH_SYNCS * sync_ns)


class Membership:
    """One member: `HeartbeatHeard`, `SuspicionsHeard`, `StatesHeard` in; `SendHeartbeat` and its kin out.

    Its own state is told to it as a `StatesHeard` that names it.  Members it was not told of at the start are passed
    over.  `verdicts` collects what it concluded since it was last asked.
    """

    def __init__(
        self, node: str, members: tuple[str, ...], spec: MeshSpec, rng: random.Random, *, incarnation: int = 0
    ) -> None:
        """Begin; `incarnation` must exceed that of a life before, `rng` is drawn from only beyond full sync."""
        self._node, self._members, self._spec, self._rng = node, members, spec, rng
        self._others = tuple(member for member in members if member != node)
        self._row = {member: i for i, member in enumerate(members)}
        self._watchers = watchers_of(node, members, spec.watchers)
        self._watched = watched_by(node, members, spec.watchers)
        self._full_sync = len(members) <= FULL_SYNC_MEMBERS
        syncs = 1.0 if self._full_sync else 2.0 * len(self._others) / FAN_OUT  # until one is heard again, by chance
        self._agreement = Agreement(members, spec.watchers, round(syncs * spec.sync_interval_ns))
        self._fresh_ns, self._urgent_ns = fresh_ns(spec.sync_interval_ns), max(URGENT_NS, 3 * spec.heartbeat_ns)
        self._concluded: list[NodeLeft | NodeJoined] = []
        self.incarnation = incarnation
        self._heard_ns: dict[str, int] = {}
        self._life = dict.fromkeys(self._watched, 0)
        self._silent: set[str] = set()
        self._beat_ns = self._sync_ns = self._urgent_until_ns = 0
        self._begun = False
        self._awake_ns = 0  # when we were last
        self._due_ns: int | None = None  # when we wanted to be woken: to know whether we are late
        self._taken_ns: Ints = np.full(len(members), _UNKNOWN_NS, dtype=np.int64)
        self._sizes: Ints = np.zeros((3, len(members)), dtype=np.int64)
        self._severity: Floats = np.zeros(len(members))
        self._severity_told = 0.0  # of our own

    # ------------------------------------------------------------------------------------------------------- driven

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """See `Policy.handle`."""
        self._excuse_own_lag(now_ns)
        actions: list[Action] = []
        if isinstance(event, HeartbeatHeard):
            self._hear(event, now_ns)
        elif isinstance(event, SuspicionsHeard):
            actions += self._consider(event, now_ns)
        elif isinstance(event, StatesHeard):
            self._learn(event)
            if self._severity[self._row[self._node]] >= self._severity_told + SEVERE_STEP:
                actions += self._share()
        elif isinstance(event, DeadlineReached):
            actions += self._wake(now_ns)
        self._due_ns = self._earliest_ns()
        return actions

    def next_deadline_ns(self) -> int | None:
        """See `Policy.next_deadline_ns`."""
        return self._due_ns

    def verdicts(self) -> list[NodeLeft | NodeJoined]:
        """Return what this member concluded since the last call: who left, who came back."""
        concluded, self._concluded = self._concluded, []
        return concluded

    @property
    def dead(self) -> frozenset[str]:
        """Return the members that count as dead here."""
        return self._agreement.dead

    @property
    def silent(self) -> frozenset[str]:
        """Return the watched nodes that this member itself does not hear."""
        return frozenset(self._silent)

    def peers_severity_ratio(self, now_ns: int) -> float:
        """Return how strongly the other living members' precursors announce a burst: the highest fresh one, 0..1."""
        fresh = self._taken_ns > now_ns - self._fresh_ns
        fresh[[self._row[member] for member in (self._node, *self.dead)]] = False
        return float(self._severity[fresh].max(initial=0.0))

    # ----------------------------------------------------------------------------------------------------- liveness

    def _excuse_own_lag(self, now_ns: int) -> None:
        late_ns = 0 if self._due_ns is None else now_ns - max(self._due_ns, self._awake_ns)
        self._awake_ns = now_ns
        if late_ns > self._spec.heartbeat_ns // 2:
            self._heard_ns = {node: heard_ns + late_ns for node, heard_ns in self._heard_ns.items()}
        if not self._begun:
            self._begun = True
            self._heard_ns = dict.fromkeys(self._watched, now_ns + START_GRACE_NS)
            self._beat_ns = self._sync_ns = now_ns

    def _hear(self, event: HeartbeatHeard, now_ns: int) -> None:
        node = event.node
        if node not in self._life or event.incarnation < self._life[node]:
            return
        self._heard_ns[node] = max(now_ns, self._heard_ns[node])
        self._life[node] = event.incarnation
        if node in self._silent:
            self._silent.discard(node)
            self._urge(now_ns)

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

    def _judge(self, now_ns: int) -> None:
        silent = {node for node in self._watched if now_ns - self._heard_ns[node] >= self._spec.silence_ns}
        if silent - self._silent:
            self._silent |= silent
            self._urge(now_ns)

    def _word_on(self, node: str, now_ns: int) -> int:
        """Return what to report of a node: `UNSURE` if several, and not fewer than half, fell silent together."""
        if node not in self._silent:
            return HEARD
        overdue_ns = now_ns - self._spec.silence_ns // 2
        since_ns = self._heard_ns[node] - self._spec.silence_ns
        together = sum(since_ns < heard_ns <= overdue_ns for heard_ns in self._heard_ns.values())
        hearing = sum(heard_ns > overdue_ns for heard_ns in self._heard_ns.values())
        return UNSURE if together > 1 and together >= hearing else SILENT

    def _wake(self, now_ns: int) -> list[Action]:
        self._judge(now_ns)
        actions: list[Action] = []
        report = now_ns >= self._sync_ns
        if now_ns >= self._beat_ns:
            actions += self._beat(now_ns)
            report |= now_ns < self._urgent_until_ns
        if report:
            actions.append(self._report(now_ns))
        if now_ns >= self._sync_ns:
            actions += self._share()
            self._sync_ns = _next(self._sync_ns, self._spec.sync_interval_ns, now_ns)
        self._concluded += self._agreement.conclude(now_ns)
        return actions

    def _beat(self, now_ns: int) -> list[Action]:
        self._beat_ns = _next(self._beat_ns, self._spec.heartbeat_ns, now_ns)
        return [SendHeartbeat(to=self._watchers, incarnation=self.incarnation)] if self._watchers else []

    def _report(self, now_ns: int) -> Action:
        lives = np.array([self._life[node] for node in self._watched], dtype=np.int64)
        silent = np.array([self._word_on(node, now_ns) for node in self._watched], dtype=np.int64)
        # Our own word counts here too: we do not send it to ourselves.
        self._concluded += self._agreement.hear(
            SuspicionsHeard(monitor=self._node, nodes=self._watched, incarnation=lives, silent=silent), now_ns
        )
        return SendSuspicions(to=(*self._recipients(), BALANCER), nodes=self._watched, incarnation=lives, silent=silent)

    def _earliest_ns(self) -> int:
        deadlines = [self._beat_ns, self._sync_ns]
        hearing = [heard_ns for node, heard_ns in self._heard_ns.items() if node not in self._silent]
        if hearing:
            deadlines.append(min(hearing) + self._spec.silence_ns)
        judged_ns = self._agreement.next_deadline_ns()
        return min(deadlines) if judged_ns is None else min(*deadlines, judged_ns)

    # ------------------------------------------------------------------------------------------------------- states

    def _learn(self, event: StatesHeard) -> None:
        for i, node in enumerate(event.nodes):
            row = self._row.get(node)
            if row is None or event.taken_ns[i] <= self._taken_ns[row]:
                continue
            self._taken_ns[row] = event.taken_ns[i]
            self._sizes[:, row] = event.limit_bytes[i], event.backlog_bytes[i], event.predicted_bytes[i]
            self._severity[row] = event.severity_ratio[i]

    def _share(self) -> list[Action]:
        """Tell our own state, and beyond full sync the newest of the others' with it."""
        known = np.flatnonzero(self._taken_ns > _UNKNOWN_NS)
        own = self._row[self._node]
        rows = np.array([own] if own in known else [], dtype=np.int64)
        if not self._full_sync:
            newest = known[np.argsort(-self._taken_ns[known], kind="stable")]
            rows = np.concatenate((rows, newest[newest != own][:GOSSIP_ROWS]))
        recipients = self._recipients()
        if not len(rows) or not recipients:
            return []
        self._severity_told = float(self._severity[own])
        names = tuple(self._members[row] for row in rows)
        limit, backlog, predicted = self._sizes[:, rows]
        return [
            SendStates(
                to=recipients,
                nodes=names,
                taken_ns=self._taken_ns[rows],
                limit_bytes=limit,
                backlog_bytes=backlog,
                predicted_bytes=predicted,
                severity_ratio=self._severity[rows],
            )
        ]

    def _recipients(self) -> tuple[str, ...]:
        if self._full_sync:
            return self._others
        return tuple(self._rng.sample(self._others, FAN_OUT))


def _next(due_ns: int, interval_ns: int, now_ns: int) -> int:
    """Return the next instant of a grid; instants that were slept through are left out."""
    return due_ns + interval_ns * max(1, (now_ns - due_ns) // interval_ns + 1) if now_ns >= due_ns else due_ns
