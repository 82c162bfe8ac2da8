"""When a node counts as dead: its watchers say so, each by its own ears.

Every watcher testifies about all the nodes it watches, again and again, so that a lost message costs one interval and
no message has to be acknowledged.  A node is dead at once when all its watchers in office accuse it, and there are two
of them (or one, where there is no second).  In office is a watcher that is not dead itself and testified lately: within
`STALE_SYNCS` of the intervals at which it does so.  One that has not testified yet has as long from when we began to
listen, so the first to be heard does not decide alone.  All watchers lose the same last heartbeat, so they are of one
mind within milliseconds of each other.

**Suspect yourself first.**  When nobody was heard for half of that time, it is this process that stood still or was cut
off.  It concludes nothing before it hears again, and that time counts for nobody's age: of the testimonies that waited
the first is not the only one.

An accusation names the life (*incarnation*) the node was last heard in.  It is void as soon as another watcher has
heard the node in a later one: that is how a node that learns it is accused refutes (Das, Gupta and Motivala, "SWIM",
2002, section 4.2).  Unlike there, the accused cannot refute by a word to the judge, only by being heard by a watcher,
since a node that reaches the judge but not its watchers is cut off.

**Two sides.**  In a divided mesh each side accuses the other, and the judge hears both.  Two accusers against a watcher
who hears the node, or accusers who say that they hear hardly anybody (`UNSURE`), are a dispute.  It is settled after
`DISPUTE_SYNCS`, when everybody who lives has testified again: dead is who is not of the largest set of nodes that hear
of each other; of several as large, the one with the first of the members counts as the largest.  So the smaller side
has no say about the larger, however many watchers of a node happen to be on it.  The accusations of a dead witness
count for nothing.

**Coming back is damped.**  A node returns when no accusation has stood for `HOLD_NS`, twice as long for each time it
left within the last `MEMORY_NS` before, up to `HOLD_MAX_NS`: a node that comes and goes is worse than one that is gone.

What this does not see: more nodes failing at once than leave a watcher in office, which the balancer misses when they
stop notifying; and a node of the smaller side whose watchers are all there too, which serves on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from testbed.policies.watchers import watchers_of
from testbed.records.events import NodeJoined, NodeLeft, WitnessHeard
from testbed.units import NS_PER_MS, NS_PER_S

REASON = "mesh"
HEARD, SILENT, UNSURE = 0, 1, 2  # what a witness says of a node
NEED = 2
SYNC_NS = 100 * NS_PER_MS  # what the ages below are of at least: a shorter interval makes no machine punctual
STALE_SYNCS = 2.5
DISPUTE_SYNCS = 1.2  # more than one: by then all who live have testified again
STALE_NS, DISPUTE_NS = round(STALE_SYNCS * SYNC_NS), round(DISPUTE_SYNCS * SYNC_NS)  # at that interval
HOLD_NS = 100 * NS_PER_MS
HOLD_MAX_NS = 3 * NS_PER_S
MEMORY_NS = 10 * NS_PER_S


@dataclass(slots=True)
class _Case:
    """What is known of one node."""

    node: str
    watchers: tuple[str, ...]
    heard_in: int = -1  # the latest life some watcher heard it in
    accused_in: dict[str, int] = field(default_factory=dict)  # witness → the life its accusation is about
    unsure: set[str] = field(default_factory=set)  # accusers who may be cut off themselves
    doubted_ns: int | None = None  # accused by enough since then
    dead: bool = False
    cleared_ns: int | None = None  # dead, and no accusation has stood since
    departures_ns: list[int] = field(default_factory=list)


class Agreement:
    """Testimony in, `NodeLeft` and `NodeJoined` with the reason ``mesh`` out."""

    def __init__(self, members: tuple[str, ...], watchers: int, sync_ns: int = SYNC_NS) -> None:
        """Begin with every member alive.

        Args:
            members: everybody.
            watchers: how many each node has.
            sync_ns: the interval at which a watcher's testimony reaches us, changed or not.
        """
        self._stale_ns = round(STALE_SYNCS * max(sync_ns, SYNC_NS))
        self._dispute_ns = round(DISPUTE_SYNCS * max(sync_ns, SYNC_NS))
        self._cases = {node: _Case(node, watchers_of(node, members, watchers)) for node in members}
        self._rank = {node: rank for rank, node in enumerate(members)}
        self._open: set[str] = set()  # cases with an accusation, or of a node that is dead; the others decide nothing
        self._testified_ns: dict[str, int] = {}
        self._began_ns = 0  # when we began to listen: as good as a testimony of those who have not testified yet
        self._listened_ns: int | None = None  # when anybody was heard last
        self._hears: dict[str, frozenset[str]] = {}  # witness → whom it heard when it testified last
        self._judged_ns = 0
        self._larger: frozenset[str] | None = None  # the larger side, once it was asked for in a judgement

    @property
    def dead(self) -> frozenset[str]:
        """Return the members that count as dead."""
        return frozenset(node for node, case in self._cases.items() if case.dead)

    def hear(self, testimony: WitnessHeard, now_ns: int) -> list[NodeLeft | NodeJoined]:
        """Take in a testimony and return what follows from it; strangers and what they do not watch are passed over."""
        witness = testimony.witness
        if witness not in self._cases:
            return []
        self._listen(now_ns)
        self._testified_ns[witness] = now_ns
        self._hears[witness] = frozenset(
            node for node, silent in zip(testimony.nodes, testimony.silent.tolist(), strict=True) if not silent
        )
        rows = zip(testimony.nodes, testimony.incarnation.tolist(), testimony.silent.tolist(), strict=True)
        for node, incarnation, silent in rows:
            case = self._cases.get(node)
            if case is None or witness not in case.watchers:
                continue
            case.unsure.discard(witness)
            if silent:
                case.accused_in[witness] = incarnation
                self._open.add(node)
                case.unsure |= {witness} if silent == UNSURE else set()
            else:
                case.accused_in.pop(witness, None)
                case.heard_in = max(case.heard_in, incarnation)
        return self.judge(now_ns)

    def _listen(self, now_ns: int) -> None:
        """Take in that somebody was heard; how long nobody was, if too long, counts for no age."""
        if self._listened_ns is None:
            self._began_ns = now_ns
        elif self._deaf(now_ns):
            deaf_ns = now_ns - self._listened_ns
            self._began_ns += deaf_ns
            self._testified_ns = {witness: told_ns + deaf_ns for witness, told_ns in self._testified_ns.items()}
            for _, case in self._opened():
                case.doubted_ns = None if case.doubted_ns is None else case.doubted_ns + deaf_ns
                case.cleared_ns = None if case.cleared_ns is None else case.cleared_ns + deaf_ns
        self._listened_ns = now_ns

    def _deaf(self, at_ns: int) -> bool:
        """Return whether at `at_ns`, with nobody heard until then, we would have heard nothing for too long."""
        return self._listened_ns is None or at_ns - self._listened_ns > self._stale_ns // 2

    def judge(self, now_ns: int) -> list[NodeLeft | NodeJoined]:
        """Return who left and who came back by `now_ns`; the order of the members decides who is judged first."""
        self._judged_ns, self._larger = now_ns, None
        if not self._open or self._deaf(now_ns):
            return []
        found: list[NodeLeft | NodeJoined] = []
        for node, case in self._opened():
            accusers = self._accusers(case)
            if not case.dead and self._is_gone(case, accusers, now_ns):
                case.dead, case.cleared_ns, case.doubted_ns = True, None, None
                case.departures_ns = [t for t in case.departures_ns if t > now_ns - MEMORY_NS] + [now_ns]
                found.append(NodeLeft(node=node, reason=REASON))
            elif case.dead and accusers:
                case.cleared_ns = None
            elif case.dead and case.cleared_ns is None:
                case.cleared_ns = now_ns
            elif case.dead and now_ns >= _back_ns(case):
                case.dead = False
                found.append(NodeJoined(node=node, reason=REASON))
            if not case.dead and not case.accused_in:
                self._open.discard(node)
        return found

    def _is_gone(self, case: _Case, accusers: list[str], now_ns: int) -> bool:
        in_office = self._in_office(case, now_ns)
        if not accusers or len(accusers) < min(NEED, len(in_office)):
            case.doubted_ns = None
            return False
        if set(in_office) <= set(accusers) and not case.unsure.intersection(accusers):
            return True
        if case.doubted_ns is None:
            case.doubted_ns = now_ns
        if now_ns < case.doubted_ns + self._dispute_ns:
            return False
        self._larger = self._larger_side(now_ns) if self._larger is None else self._larger
        return case.node not in self._larger

    def _larger_side(self, now_ns: int) -> frozenset[str]:
        """Return the largest set of nodes that hear of each other, by late testimony.

        Of sets of one size it is the one with the first of the members: not the one that happened to testify last.
        """
        lately_ns = now_ns - self._dispute_ns
        speaking = {w for w, told_ns in self._testified_ns.items() if told_ns > lately_ns and not self._cases[w].dead}
        side: dict[str, set[str]] = {node: {node} for node in self._cases}
        for witness in speaking:
            for node in self._hears[witness]:
                if node in side and side[node] is not side[witness]:
                    joined = side[node] | side[witness]
                    side.update((member, joined) for member in joined)
        largest = max(side.values(), key=len)
        return frozenset(largest)

    def next_deadline_ns(self) -> int | None:
        """Return when `judge` will find something without further testimony: a return, or a watcher out of office."""
        if not self._open:
            return None
        returns = [_back_ns(case) for _, case in self._opened() if case.dead and case.cleared_ns is not None]
        disputes = [case.doubted_ns + self._dispute_ns for _, case in self._opened() if case.doubted_ns is not None]
        later = [decided_ns for decided_ns in disputes if decided_ns > self._judged_ns]
        due_ns = min([*returns, *later, *self._retirements()], default=None)
        return None if due_ns is None or self._deaf(max(due_ns, self._judged_ns)) else due_ns

    def _opened(self) -> list[tuple[str, _Case]]:
        """Return the open cases in the order of the members."""
        return [(node, self._cases[node]) for node in sorted(self._open, key=self._rank.__getitem__)]

    def _retirements(self) -> list[int]:
        """Return when the other watchers of nodes that are accused, but not by enough, leave office."""
        retirements = [
            self._spoke_ns(watcher) + self._stale_ns
            for _, case in self._opened()
            if not case.dead and self._accusers(case)
            for watcher in case.watchers
        ]
        return [retired_ns for retired_ns in retirements if retired_ns > self._judged_ns]

    def _accusers(self, case: _Case) -> list[str]:
        """Return the living witnesses whose accusation stands."""
        return [
            witness
            for witness, incarnation in case.accused_in.items()
            if incarnation >= case.heard_in and not self._cases[witness].dead
        ]

    def _in_office(self, case: _Case, now_ns: int) -> list[str]:
        since_ns = now_ns - self._stale_ns
        return [
            watcher for watcher in case.watchers if not self._cases[watcher].dead and self._spoke_ns(watcher) > since_ns
        ]

    def _spoke_ns(self, watcher: str) -> int:
        return self._testified_ns.get(watcher, self._began_ns)


def _back_ns(case: _Case) -> int:
    assert case.cleared_ns is not None
    return case.cleared_ns + min(HOLD_MAX_NS, HOLD_NS << (len(case.departures_ns) - 1))
