"""The failure detector of a mesh that gossips: its monitors report exceptions only.

In ``agreement.py`` every monitor reports in every interval. So the detector of n nodes receives 10 n reports a second,
and a silent monitor is recognised by the age of its last report.  Here a monitor reports only while it suspects a node,
and for a short time after its suspicions have changed.  **No report means: the monitor hears all its nodes.**

But a monitor without suspicions and a dead monitor both send nothing.  Therefore a suspicion is also a question: the
suspecting monitor sends it to the other monitors of the node, and they answer with reports.  A monitor that has not
answered within `DISPUTE_SYNCS` intervals is not current, like a dead one.  All other rules are those of
``agreement.py``, including disputes and returns, with two exceptions.  When the balancer settles a dispute, it removes
all nodes outside the larger side, even those that no monitor suspects, because their monitors are on the same side.
And a node whose monitors are all dead does not return, because no monitor hears it.

Two kinds of detectors use this class: that of the balancer, for all nodes, and that of each member, for the nodes that
it monitors.  A member learns about all other nodes by rumours (`gossip`): `gone` says which monitors are dead.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from testbed.policies.agreement import NEED, SYNC_NS, Agreement, Watched, departed
from testbed.policies.monitors import rings_of
from testbed.records.events import NodeJoined, NodeLeft, SuspicionsHeard


class AgreementByException(Agreement):
    """Like `Agreement`, but a monitor that did not report counts as hearing all its nodes."""

    def __init__(
        self, members: tuple[str, ...], monitors: int, sync_ns: int = SYNC_NS, about: Sequence[str] | None = None
    ) -> None:
        """See `Agreement`; `sync_ns` is the interval at which a suspicion is repeated."""
        self._gone: Collection[str] = ()
        self._since_ns: dict[str, int] = {}  # suspected node → since when a suspicion is known
        self._knows_all = about is None
        self._next_ns: int | None = None
        super().__init__(members, monitors, sync_ns, about)

    def _monitors_of(self, node: str, present: Sequence[str]) -> tuple[str, ...]:
        return rings_of(tuple(present), self._count).monitors_of(node)

    def attend(self, about: Sequence[str], present: Sequence[str]) -> None:
        """From now on, draw conclusions about these nodes, with these members; known state is kept."""
        known = self._states
        self._states = {node: known.get(node) or Watched(node, ()) for node in about}
        self._rank = {node: rank for rank, node in enumerate(about)}
        self._open &= set(about)
        self._since_ns = {node: at_ns for node, at_ns in self._since_ns.items() if node in self._states}
        for node, state in self._states.items():
            state.monitors = self._monitors_of(node, present)
            state.suspected_in = {m: lives for m, lives in state.suspected_in.items() if m in state.monitors}
        self._last.clear()

    @property
    def has_open(self) -> bool:
        """Return whether a node is suspected, or dead."""
        return bool(self._open)

    def is_open(self, node: str) -> bool:
        """Return whether a node is suspected, or dead."""
        return node in self._open

    def believe(self, gone: Collection[str]) -> None:
        """Set which members are dead by the conclusions of others; the collection is referenced, not copied."""
        self._gone = gone

    def hear(self, report: SuspicionsHeard, now_ns: int) -> list[NodeLeft | NodeJoined]:
        """Process a report; return which nodes left and returned.  Reports about other nodes are ignored.

        A report can only change the nodes that it names, unless a node left: that may be a monitor of other nodes.
        """
        self._reported_ns[report.monitor] = now_ns
        if report is not self._last.get(report.monitor):
            self._last[report.monitor] = report
            self._take_in(report)
        named = [(node, self._states[node]) for node in report.nodes if node in self._open]
        for node, state in named:
            if state.suspected_in:
                self._since_ns.setdefault(node, now_ns)
            else:
                self._since_ns.pop(node, None)
        self._concluded_ns, self._larger = now_ns, None
        found = self._conclude_about(named, now_ns)
        if found:
            return found + self.conclude(now_ns)
        self._next_ns = min(
            (at_ns for at_ns in (self._next_ns, self._due_ns(named)) if at_ns is not None), default=None
        )
        return found

    def conclude(self, now_ns: int) -> list[NodeLeft | NodeJoined]:
        """Return which nodes left and returned by `now_ns`; settling a dispute removes all but the larger side."""
        found = super().conclude(now_ns)
        if self._larger is not None and self._knows_all:
            beside = [state for node, state in self._states.items() if not state.dead and node not in self._larger]
            found += [departed(state, now_ns) for state in beside]
            self._open.update(state.node for state in beside)
        self._next_ns = super().next_deadline_ns()
        return found

    def next_deadline_ns(self) -> int | None:
        """See `Agreement.next_deadline_ns`; cached, and recomputed in `conclude`."""
        return self._next_ns

    def life_of(self, node: str) -> int:
        """Return the latest incarnation of a node that its monitors know."""
        state = self._states[node]
        return max(state.heard_in, 0, *state.suspected_in.values())

    def _isolated(self, at_ns: int) -> bool:
        return False  # no report is the normal case

    def _is_dead(self, member: str) -> bool:
        state = self._states.get(member)
        return (state is not None and state.dead) or member in self._gone

    def _current(self, state: Watched, now_ns: int) -> list[str]:
        asked_ns = self._since_ns.get(state.node, now_ns)
        living = [monitor for monitor in state.monitors if not self._is_dead(monitor)]
        if now_ns < asked_ns + self._dispute_ns:
            return living
        return [monitor for monitor in living if self._reported_ns.get(monitor, -1) >= asked_ns]

    def _is_heard(self, state: Watched) -> bool:
        return any(not self._is_dead(monitor) for monitor in state.monitors)

    def _expiries(self, opened: Sequence[tuple[str, Watched]]) -> list[int]:
        due_ns = [self._since_ns[node] + self._dispute_ns for node, _ in opened if node in self._since_ns]
        return [at_ns for at_ns in due_ns if at_ns > self._concluded_ns]

    def _larger_side(self, now_ns: int) -> frozenset[str]:
        """Return the largest set of nodes that hear each other; of several, the one with the first member in the list.

        A member knows only its neighbourhood, where no side is larger.  So for a member, the larger side contains all
        nodes except those that two monitors suspect and no current monitor hears.
        """
        if not self._knows_all:
            return frozenset([node for node, state in self._states.items() if not self._is_missed(state, now_ns)])
        side = {node: node for node in self._states}

        def root(node: str) -> str:
            while side[node] != node:
                side[node] = side[side[node]]
                node = side[node]
            return node

        for node, state in self._states.items():
            for monitor in state.monitors:
                if monitor in side and self._speaks(monitor) and monitor not in state.suspected_in:
                    side[root(node)] = root(monitor)
        members: dict[str, list[str]] = {}
        for node in self._states:
            members.setdefault(root(node), []).append(node)
        largest: list[str] = max(members.values(), key=len)
        return frozenset(largest)

    def _is_missed(self, state: Watched, now_ns: int) -> bool:
        suspecting = self._suspecting(state)
        return len(suspecting) >= NEED and set(self._current(state, now_ns)) <= set(suspecting)

    def _speaks(self, monitor: str) -> bool:
        """Return whether a monitor is alive; a suspected one must have reported since the suspicion."""
        since_ns = self._since_ns.get(monitor)
        return not self._is_dead(monitor) and (since_ns is None or self._reported_ns.get(monitor, -1) >= since_ns)
