"""The failure detector: decides from the reports of its monitors when a node is dead.

A monitor repeats the report about all its nodes in every report interval. So a lost message costs one interval, and no
message has to be acknowledged.  A node is declared dead as soon as all its current monitors suspect it and there are at
least two of them (or one, if the node has only one monitor).  A monitor is *current* if it is not dead itself and its
last report is younger than `STALE_SYNCS` report intervals; an older monitor is *stale*.  For a monitor that has not
reported yet, this time starts when the detector starts, so that the first monitor to report does not decide alone.
All monitors miss the same last heartbeat, so they suspect the node within milliseconds of each other.

**Suspect yourself first.**  If no report at all arrived for half of that time, this process itself was stopped or cut
off.  It then draws no conclusion until the next report, and that time does not count towards the age of any report.
Otherwise the first of several delayed reports would be the only current one.

A suspicion names the *incarnation* (number of the start) in which the node was last heard.  It becomes invalid when
another monitor has heard the node in a later incarnation: in this way a node that learns of a suspicion refutes it
(Das, Gupta and Motivala, "SWIM", 2002, section 4.2).  The difference from SWIM: a node cannot refute by a message to
the detector, only by heartbeats that a monitor receives.  A node that can reach the detector but not its monitors is
cut off.

**Divided mesh.**  In a divided mesh each side suspects the other, and the detector receives the reports of both sides.
There is a *dispute* about a node if at least two of its monitors suspect it while another current monitor hears it, or
if a suspecting monitor reports `UNSURE`: several of its nodes, and not fewer than half, fell silent together.  It is
settled after `DISPUTE_SYNCS` intervals, when every live node has reported again: nodes outside the largest set of nodes
that hear each other are declared dead.  Of several largest sets, the one that contains the first member in the list is
chosen.  So the smaller side never decides about the larger one, however many monitors of a node it contains.
Suspicions of a dead monitor are ignored.

**Returns are damped.**  A node returns after no monitor has suspected it for `HOLD_NS`.  This time doubles for each
earlier removal within the last `MEMORY_NS`, up to `HOLD_MAX_NS`: a node that repeatedly fails and returns does more
damage than one that stays away.

Two cases are not detected here.  First: so many nodes fail at once that a node has no current monitor left (the
balancer removes it when its notifications stop).  Second: a node of the smaller side whose monitors are all on that
side (it stays in service).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from testbed.policies.monitors import monitors_of
from testbed.records.events import NodeJoined, NodeLeft, SuspicionsHeard
from testbed.units import NS_PER_MS, NS_PER_S

REASON = "mesh"
HEARD, SILENT, UNSURE = 0, 1, 2  # what a monitor reports about a node
NEED = 2
SYNC_NS = (
    100 * NS_PER_MS
)  # lower bound of the interval in the ages below: with a shorter interval the delays of a machine do not shrink
STALE_SYNCS = 2.5
DISPUTE_SYNCS = 1.2  # more than one: by then all live monitors have reported again
STALE_NS, DISPUTE_NS = round(STALE_SYNCS * SYNC_NS), round(DISPUTE_SYNCS * SYNC_NS)  # with this interval
HOLD_NS = 100 * NS_PER_MS
HOLD_MAX_NS = 3 * NS_PER_S
MEMORY_NS = 10 * NS_PER_S


@dataclass(slots=True)
class Watched:
    """What the detector knows about one node."""

    node: str
    monitors: tuple[str, ...]
    heard_in: int = -1  # the latest incarnation in which a monitor heard it
    suspected_in: dict[str, int] = field(default_factory=dict)  # monitor → the incarnation it suspects
    unsure: set[str] = field(default_factory=set)  # suspecting monitors that reported `UNSURE`
    disputed_ns: int | None = None  # since then it has been suspected by enough monitors, but not by all
    dead: bool = False
    cleared_ns: int | None = None  # dead, and not suspected since then
    departures_ns: list[int] = field(default_factory=list)


class Agreement:
    """Suspicions in, `NodeLeft` and `NodeJoined` with the reason ``mesh`` out."""

    def __init__(
        self, members: tuple[str, ...], monitors: int, sync_ns: int = SYNC_NS, about: Sequence[str] | None = None
    ) -> None:
        """Begin with every member alive.

        Args:
            members: every node of the mesh.
            monitors: how many each node has.
            sync_ns: the interval of a monitor's reports.
            about: the nodes to conclude about; default all members.
        """
        self._stale_ns = round(STALE_SYNCS * max(sync_ns, SYNC_NS))
        self._dispute_ns = round(DISPUTE_SYNCS * max(sync_ns, SYNC_NS))
        about = members if about is None else about
        self._count, self._present = monitors, frozenset(about)
        self._states = {node: Watched(node, self._monitors_of(node, members)) for node in about}
        self._rank = {node: rank for rank, node in enumerate(about)}
        self._open: set[str] = set()  # nodes that are suspected or dead; only these can change
        self._reported_ns: dict[str, int] = {}
        self._began_ns = 0  # start time: counts as the time of a report for monitors that have not reported yet
        self._received_ns: int | None = None  # when the last report came
        self._last: dict[str, SuspicionsHeard] = {}  # monitor → its last report
        self._hears: dict[str, frozenset[str]] = {}  # monitor → the nodes it heard when it reported last
        self._concluded_ns = 0
        self._larger: frozenset[str] | None = None  # the larger side, computed at most once per conclusion

    def announce(self, present: Sequence[str], now_ns: int) -> None:
        """Update the list of members after an announcement; new members count as alive and have time to report.

        A suspicion by a member that no longer monitors the node becomes invalid.
        """
        came = set(present) - self._present
        self._reported_ns.update(dict.fromkeys(came, now_ns))
        self._present = frozenset(present)
        self._last.clear()  # the sender of an ignored report may be a monitor from now on
        for node, state in self._states.items():
            state.monitors = self._monitors_of(node, present) if node in self._present else ()
            if node in came or not state.monitors:
                state.dead, state.cleared_ns, state.disputed_ns, state.departures_ns = False, None, None, []
                state.suspected_in, state.unsure, state.heard_in = {}, set(), -1
            state.suspected_in = {m: lives for m, lives in state.suspected_in.items() if m in state.monitors}
            state.unsure &= set(state.monitors)
            if not state.dead and not state.suspected_in:
                self._open.discard(node)

    def _monitors_of(self, node: str, present: Sequence[str]) -> tuple[str, ...]:
        return monitors_of(node, present, self._count)

    @property
    def dead(self) -> frozenset[str]:
        """Return the members that count as dead."""
        return frozenset([node for node in self._open if self._states[node].dead])

    def hear(self, report: SuspicionsHeard, now_ns: int) -> list[NodeLeft | NodeJoined]:
        """Process a report; return which nodes left and returned.  Reports of non-monitors are ignored."""
        monitor = report.monitor
        if monitor not in self._states:
            return []
        self._receive(now_ns)
        self._reported_ns[monitor] = now_ns
        if report is not self._last.get(monitor):  # a repeated report has been processed before
            self._last[monitor] = report
            self._take_in(report)
        return self.conclude(now_ns)

    def _take_in(self, report: SuspicionsHeard) -> None:
        monitor = report.monitor
        rows = list(zip(report.nodes, report.incarnation.tolist(), report.silent.tolist(), strict=True))
        self._hears[monitor] = frozenset([node for node, _, silent in rows if not silent])
        for node, incarnation, silent in rows:
            state = self._states.get(node)
            if state is None or monitor not in state.monitors:
                continue
            state.unsure.discard(monitor)
            if silent:
                state.suspected_in[monitor] = incarnation
                self._open.add(node)
                state.unsure |= {monitor} if silent == UNSURE else set()
            else:
                state.suspected_in.pop(monitor, None)
                state.heard_in = max(state.heard_in, incarnation)

    def _receive(self, now_ns: int) -> None:
        """Note that a report arrived; a long time without any report is subtracted from all ages."""
        if self._received_ns is None:
            self._began_ns = now_ns
        elif self._isolated(now_ns):
            isolated_ns = now_ns - self._received_ns
            self._began_ns += isolated_ns
            self._reported_ns = {monitor: at_ns + isolated_ns for monitor, at_ns in self._reported_ns.items()}
            for _, state in self._opened():
                state.disputed_ns = None if state.disputed_ns is None else state.disputed_ns + isolated_ns
                state.cleared_ns = None if state.cleared_ns is None else state.cleared_ns + isolated_ns
        self._received_ns = now_ns

    def _isolated(self, at_ns: int) -> bool:
        """Return whether at `at_ns`, if no report arrives until then, the last one is too old for a conclusion."""
        return self._received_ns is None or at_ns - self._received_ns > self._stale_ns // 2

    def conclude(self, now_ns: int) -> list[NodeLeft | NodeJoined]:
        """Return which nodes have left and returned by `now_ns`, in the order of the members."""
        self._concluded_ns, self._larger = now_ns, None
        if not self._open or self._isolated(now_ns):
            return []
        return self._conclude_about(self._opened(), now_ns)

    def _conclude_about(self, opened: Sequence[tuple[str, Watched]], now_ns: int) -> list[NodeLeft | NodeJoined]:
        found: list[NodeLeft | NodeJoined] = []
        for node, state in opened:
            suspecting = self._suspecting(state)
            if not state.dead and self._is_gone(state, suspecting, now_ns):
                found.append(departed(state, now_ns))
            elif state.dead and (suspecting or not self._is_heard(state)):
                state.cleared_ns = None
            elif state.dead and state.cleared_ns is None:
                state.cleared_ns = now_ns
            elif state.dead and now_ns >= _back_ns(state):
                state.dead = False
                found.append(NodeJoined(node=node, reason=REASON))
            if not state.dead and not state.suspected_in:
                self._open.discard(node)
        return found

    def _is_gone(self, state: Watched, suspecting: list[str], now_ns: int) -> bool:
        current = self._current(state, now_ns)
        if not suspecting or len(suspecting) < min(NEED, len(current)):
            state.disputed_ns = None
            return False
        if set(current) <= set(suspecting) and not state.unsure.intersection(suspecting):
            return True
        if state.disputed_ns is None:
            state.disputed_ns = now_ns
        if now_ns < state.disputed_ns + self._dispute_ns:
            return False
        self._larger = self._larger_side(now_ns) if self._larger is None else self._larger
        return state.node not in self._larger

    def _is_heard(self, state: Watched) -> bool:
        """Return whether a monitor hears a node that no monitor suspects."""
        return True

    def _larger_side(self, now_ns: int) -> frozenset[str]:
        """Return the largest set of nodes that hear each other, by reports no older than the dispute time.

        Of several sets of this size, it is the one with the first member in the list, whatever the order of reports.
        """
        since_ns = now_ns - self._dispute_ns
        reporting = {m for m, at_ns in self._reported_ns.items() if at_ns > since_ns and not self._states[m].dead}
        side: dict[str, set[str]] = {node: {node} for node in self._states}
        for monitor in reporting:
            for node in self._hears[monitor]:
                if node in side and side[node] is not side[monitor]:
                    joined = side[node] | side[monitor]
                    side.update((member, joined) for member in joined)
        largest = max(side.values(), key=len)
        return frozenset(largest)

    def next_deadline_ns(self) -> int | None:
        """Return when `conclude` will find something without a further report.

        It is when a node returns, a dispute is settled, or a monitor's last report becomes too old.
        """
        if not self._open:
            return None
        due_ns = self._due_ns(self._opened())
        return None if due_ns is None or self._isolated(max(due_ns, self._concluded_ns)) else due_ns

    def _due_ns(self, opened: Sequence[tuple[str, Watched]]) -> int | None:
        returns = [_back_ns(state) for _, state in opened if state.dead and state.cleared_ns is not None]
        since_ns = [state.disputed_ns for _, state in opened if state.disputed_ns is not None]
        settled = [at_ns + self._dispute_ns for at_ns in since_ns if at_ns + self._dispute_ns > self._concluded_ns]
        return min([*returns, *settled, *self._expiries(opened)], default=None)

    def _opened(self) -> list[tuple[str, Watched]]:
        """Return the open nodes in the order of the members."""
        return [(node, self._states[node]) for node in sorted(self._open, key=self._rank.__getitem__)]

    def _expiries(self, opened: Sequence[tuple[str, Watched]]) -> list[int]:
        """Return when the monitors of nodes that are suspected, but not by enough, become stale."""
        expiries = [
            self._last_report_ns(monitor) + self._stale_ns
            for _, state in opened
            if not state.dead and self._suspecting(state)
            for monitor in state.monitors
        ]
        return [stale_ns for stale_ns in expiries if stale_ns > self._concluded_ns]

    def _suspecting(self, state: Watched) -> list[str]:
        """Return the live monitors whose suspicion is not refuted."""
        return [
            monitor
            for monitor, incarnation in state.suspected_in.items()
            if incarnation >= state.heard_in and not self._is_dead(monitor)
        ]

    def _current(self, state: Watched, now_ns: int) -> list[str]:
        since_ns = now_ns - self._stale_ns
        return [
            monitor
            for monitor in state.monitors
            if not self._is_dead(monitor) and self._last_report_ns(monitor) > since_ns
        ]

    def _is_dead(self, member: str) -> bool:
        return self._states[member].dead

    def _last_report_ns(self, monitor: str) -> int:
        return self._reported_ns.get(monitor, self._began_ns)


def departed(state: Watched, now_ns: int) -> NodeLeft:
    """Note that a node has left from now on."""
    state.dead, state.cleared_ns, state.disputed_ns = True, None, None
    state.departures_ns = [t for t in state.departures_ns if t > now_ns - MEMORY_NS] + [now_ns]
    return NodeLeft(node=state.node, reason=REASON)


def _back_ns(state: Watched) -> int:
    assert state.cleared_ns is not None
    return state.cleared_ns + min(HOLD_MAX_NS, HOLD_NS << (len(state.departures_ns) - 1))
