"""The failure detector: when a node counts as dead, by the reports of the monitors that watch it.

A monitor reports about all the nodes it watches, again and again, so that a lost message costs one interval and no
message has to be acknowledged.  A node is dead at once when all its current monitors suspect it, and there are two of
them (or one, where there is no second).  *Current* is a monitor that is not dead itself and has reported within
`STALE_SYNCS` of the intervals at which it does so.  One that has not reported yet has as long from when the detector
began to listen, so the first to be heard does not decide alone.  All monitors miss the same last heartbeat, so they
agree within milliseconds of each other.

**Suspect yourself first.**  When nobody was heard for half of that time, it is this process that stood still or was cut
off.  It concludes nothing before it hears again, and that time counts for nobody's age: the first of the reports that
waited is not the only one.

A suspicion names the life (*incarnation*) the node was last heard in.  It is void as soon as another monitor has heard
the node in a later one: that is how a node that learns of it refutes (Das, Gupta and Motivala, "SWIM", 2002, section
4.2).  Unlike there, a node cannot refute by a message to the detector, only by being heard by a monitor, since a node
that reaches the detector but not its monitors is cut off.

**Two sides.**  In a divided mesh each side suspects the other, and the detector hears both.  Two suspicions against a
monitor that hears the node, or suspicions of monitors that hear hardly anybody (`UNSURE`), are a dispute.  It is
settled after `DISPUTE_SYNCS`, when every node that lives has reported again: dead is who is not of the largest set of
nodes that hear of each other (the quorum); of several as large, the one with the first of the members counts as the
largest.  So the smaller side has no say about the larger, however many monitors of a node happen to be on it.  The
suspicions of a dead monitor count for nothing.

**Coming back is damped.**  A node returns when no suspicion has stood for `HOLD_NS`, twice as long for each time it
left within the last `MEMORY_NS` before, up to `HOLD_MAX_NS`: a node that comes and goes is worse than one that is gone.

What this does not see: more nodes failing at once than leave a current monitor, which the balancer misses when they
stop notifying; and a node of the smaller side whose monitors are all there too, which serves on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from testbed.policies.watchers import watchers_of
from testbed.records.events import NodeJoined, NodeLeft, SuspicionsHeard
from testbed.units import NS_PER_MS, NS_PER_S

REASON = "mesh"
HEARD, SILENT, UNSURE = 0, 1, 2  # what a monitor says of a node
NEED = 2
SYNC_NS = 100 * NS_PER_MS  # what the ages below are of at least: a shorter interval makes no machine punctual
STALE_SYNCS = 2.5
DISPUTE_SYNCS = 1.2  # more than one: by then all who live have reported again
STALE_NS, DISPUTE_NS = round(STALE_SYNCS * SYNC_NS), round(DISPUTE_SYNCS * SYNC_NS)  # at that interval
HOLD_NS = 100 * NS_PER_MS
HOLD_MAX_NS = 3 * NS_PER_S
MEMORY_NS = 10 * NS_PER_S


@dataclass(slots=True)
class _Watched:
    """What is known of one node."""

    node: str
    watchers: tuple[str, ...]
    heard_in: int = -1  # the latest life some watcher heard it in
    suspected_in: dict[str, int] = field(default_factory=dict)  # monitor → the life its suspicion is about
    unsure: set[str] = field(default_factory=set)  # suspecting monitors who may be cut off themselves
    doubted_ns: int | None = None  # suspected by enough since then
    dead: bool = False
    cleared_ns: int | None = None  # dead, and no suspicion has stood since
    departures_ns: list[int] = field(default_factory=list)


class Agreement:
    """Suspicions in, `NodeLeft` and `NodeJoined` with the reason ``mesh`` out."""

    def __init__(self, members: tuple[str, ...], watchers: int, sync_ns: int = SYNC_NS) -> None:
        """Begin with every member alive.

        Args:
            members: everybody.
            watchers: how many each node has.
            sync_ns: the interval at which a watcher's report reaches us, changed or not.
        """
        self._stale_ns = round(STALE_SYNCS * max(sync_ns, SYNC_NS))
        self._dispute_ns = round(DISPUTE_SYNCS * max(sync_ns, SYNC_NS))
        self._states = {node: _Watched(node, watchers_of(node, members, watchers)) for node in members}
        self._rank = {node: rank for rank, node in enumerate(members)}
        self._open: set[str] = set()  # nodes with a suspicion, or of a node that is dead; the others decide nothing
        self._reported_ns: dict[str, int] = {}
        self._began_ns = 0  # when we began to listen: as good as a report of those who have not reported yet
        self._listened_ns: int | None = None  # when anybody was heard last
        self._hears: dict[str, frozenset[str]] = {}  # monitor → whom it heard when it reported last
        self._judged_ns = 0
        self._larger: frozenset[str] | None = None  # the larger side, once it was asked for in a judgement

    @property
    def dead(self) -> frozenset[str]:
        """Return the members that count as dead."""
        return frozenset(node for node, state in self._states.items() if state.dead)

    def hear(self, report: SuspicionsHeard, now_ns: int) -> list[NodeLeft | NodeJoined]:
        """Take in a report and return what follows from it; strangers and what they do not watch are passed over."""
        monitor = report.monitor
        if monitor not in self._states:
            return []
        self._listen(now_ns)
        self._reported_ns[monitor] = now_ns
        self._hears[monitor] = frozenset(
            node for node, silent in zip(report.nodes, report.silent.tolist(), strict=True) if not silent
        )
        rows = zip(report.nodes, report.incarnation.tolist(), report.silent.tolist(), strict=True)
        for node, incarnation, silent in rows:
            state = self._states.get(node)
            if state is None or monitor not in state.watchers:
                continue
            state.unsure.discard(monitor)
            if silent:
                state.suspected_in[monitor] = incarnation
                self._open.add(node)
                state.unsure |= {monitor} if silent == UNSURE else set()
            else:
                state.suspected_in.pop(monitor, None)
                state.heard_in = max(state.heard_in, incarnation)
        return self.conclude(now_ns)

    def _listen(self, now_ns: int) -> None:
        """Take in that somebody was heard; how long nobody was, if too long, counts for no age."""
        if self._listened_ns is None:
            self._began_ns = now_ns
        elif self._deaf(now_ns):
            deaf_ns = now_ns - self._listened_ns
            self._began_ns += deaf_ns
            self._reported_ns = {monitor: told_ns + deaf_ns for monitor, told_ns in self._reported_ns.items()}
            for _, state in self._opened():
                state.doubted_ns = None if state.doubted_ns is None else state.doubted_ns + deaf_ns
                state.cleared_ns = None if state.cleared_ns is None else state.cleared_ns + deaf_ns
        self._listened_ns = now_ns

    def _deaf(self, at_ns: int) -> bool:
        """Return whether at `at_ns`, with nobody heard until then, we would have heard nothing for too long."""
        return self._listened_ns is None or at_ns - self._listened_ns > self._stale_ns // 2

    def conclude(self, now_ns: int) -> list[NodeLeft | NodeJoined]:
        """Return who left and who came back by `now_ns`; the order of the members decides who is judged first."""
        self._judged_ns, self._larger = now_ns, None
        if not self._open or self._deaf(now_ns):
            return []
        found: list[NodeLeft | NodeJoined] = []
        for node, state in self._opened():
            suspecting = self._suspecting(state)
            if not state.dead and self._is_gone(state, suspecting, now_ns):
                state.dead, state.cleared_ns, state.doubted_ns = True, None, None
                state.departures_ns = [t for t in state.departures_ns if t > now_ns - MEMORY_NS] + [now_ns]
                found.append(NodeLeft(node=node, reason=REASON))
            elif state.dead and suspecting:
                state.cleared_ns = None
            elif state.dead and state.cleared_ns is None:
                state.cleared_ns = now_ns
            elif state.dead and now_ns >= _back_ns(state):
                state.dead = False
                found.append(NodeJoined(node=node, reason=REASON))
            if not state.dead and not state.suspected_in:
                self._open.discard(node)
        return found

    def _is_gone(self, state: _Watched, suspecting: list[str], now_ns: int) -> bool:
        current = self._current(state, now_ns)
        if not suspecting or len(suspecting) < min(NEED, len(current)):
            state.doubted_ns = None
            return False
        if set(current) <= set(suspecting) and not state.unsure.intersection(suspecting):
            return True
        if state.doubted_ns is None:
            state.doubted_ns = now_ns
        if now_ns < state.doubted_ns + self._dispute_ns:
            return False
        self._larger = self._larger_side(now_ns) if self._larger is None else self._larger
        return state.node not in self._larger

    def _larger_side(self, now_ns: int) -> frozenset[str]:
        """Return the largest set of nodes that hear of each other, by late report.

        Of sets of one size it is the one with the first of the members: not the one that happened to report last.
        """
        lately_ns = now_ns - self._dispute_ns
        speaking = {w for w, told_ns in self._reported_ns.items() if told_ns > lately_ns and not self._states[w].dead}
        side: dict[str, set[str]] = {node: {node} for node in self._states}
        for monitor in speaking:
            for node in self._hears[monitor]:
                if node in side and side[node] is not side[monitor]:
                    joined = side[node] | side[monitor]
                    side.update((member, joined) for member in joined)
        largest = max(side.values(), key=len)
        return frozenset(largest)

    def next_deadline_ns(self) -> int | None:
        """Return when `conclude` will find something without further report: a return, or a watcher out of office."""
        if not self._open:
            return None
        returns = [_back_ns(state) for _, state in self._opened() if state.dead and state.cleared_ns is not None]
        disputes = [state.doubted_ns + self._dispute_ns for _, state in self._opened() if state.doubted_ns is not None]
        later = [decided_ns for decided_ns in disputes if decided_ns > self._judged_ns]
        due_ns = min([*returns, *later, *self._retirements()], default=None)
        return None if due_ns is None or self._deaf(max(due_ns, self._judged_ns)) else due_ns

    def _opened(self) -> list[tuple[str, _Watched]]:
        """Return the open nodes in the order of the members."""
        return [(node, self._states[node]) for node in sorted(self._open, key=self._rank.__getitem__)]

    def _retirements(self) -> list[int]:
        """Return when the other watchers of nodes that are suspected, but not by enough, leave office."""
        retirements = [
            self._spoke_ns(watcher) + self._stale_ns
            for _, state in self._opened()
            if not state.dead and self._suspecting(state)
            for watcher in state.watchers
        ]
        return [retired_ns for retired_ns in retirements if retired_ns > self._judged_ns]

    def _suspecting(self, state: _Watched) -> list[str]:
        """Return the living monitors whose suspicion stands."""
        return [
            monitor
            for monitor, incarnation in state.suspected_in.items()
            if incarnation >= state.heard_in and not self._states[monitor].dead
        ]

    def _current(self, state: _Watched, now_ns: int) -> list[str]:
        since_ns = now_ns - self._stale_ns
        return [
            watcher
            for watcher in state.watchers
            if not self._states[watcher].dead and self._spoke_ns(watcher) > since_ns
        ]

    def _spoke_ns(self, watcher: str) -> int:
        return self._reported_ns.get(watcher, self._began_ns)


def _back_ns(state: _Watched) -> int:
    assert state.cleared_ns is not None
    return state.cleared_ns + min(HOLD_MAX_NS, HOLD_NS << (len(state.departures_ns) - 1))
