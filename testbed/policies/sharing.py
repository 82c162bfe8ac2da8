"""How members of the mesh share their states: limit, backlog, prediction, severity.

With up to `FULL_SYNC_MEMBERS` members, each sends to all others: n² messages.  With more members, and in a mesh that
gossips, each sends to a few random members (`fanout`), drawn anew each time (Demers et al., "Epidemic algorithms",
1987): n messages.  With its own state it forwards the `GOSSIP_ROWS` recent states with the highest severity, because a
node uses only the highest severity of the others (`peers_severity_ratio`).

A severe burst is one that raises the severity by `SEVERE_STEP`; it is announced at once, before the interval ends.  A
member forwards a received severity at once if it exceeds the highest that it knew when it last sent by this step.  The
age of a state is given by its `taken_ns`, on the clock that all nodes share; the newest one is kept.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from testbed.records.events import Action, SendStates, StatesHeard
from testbed.scenario.mesh import SMALL_MESH, MeshSpec
from testbed.units import NS_PER_MS

FULL_SYNC_MEMBERS = SMALL_MESH
GOSSIP_ROWS = 8
FRESH_NS = 300 * NS_PER_MS  # older states are ignored, if they are sent every 100 ms or more often
FRESH_SYNCS = 3
SEVERE_STEP = 0.3


class _State(NamedTuple):
    """The state of a member; of two states, the greater one has the higher severity, or is newer."""

    severity_ratio: float
    taken_ns: int
    row: int
    limit_bytes: int
    backlog_bytes: int
    predicted_bytes: int


_SEVERITY, _TAKEN, _ROW = 0, 1, 2  # indices: access by name takes three times as long, and is frequent


def fresh_ns(sync_ns: int) -> int:
    """Return the age up to which a state is used, if states are sent every `sync_ns`."""
    return max(FRESH_NS, FRESH_SYNCS * sync_ns)


@lru_cache(maxsize=64)  # the members in one process share a table
def _rows(members: tuple[str, ...]) -> Mapping[str, int]:
    return {member: i for i, member in enumerate(members)}


class Sharing:
    """The states that one member knows, and which of them it sends.

    Attributes:
        full_sync: whether each member sends to all others.
    """

    def __init__(self, node: str, members: tuple[str, ...], spec: MeshSpec, rng: random.Random) -> None:
        """Start without states; `rng` is used only without full sync."""
        self._node, self._members, self._row, self._rng = node, members, _rows(members), rng
        self.full_sync = len(members) <= FULL_SYNC_MEMBERS and not spec.gossips
        self._fanout, self._fresh_ns = spec.fanout, fresh_ns(spec.sync_interval_ns)
        self._states: dict[str, _State] = {}
        self._announced_severity = (
            0.0  # at the last sending: the highest known severity (without full sync), or our own
        )

    def learn(self, event: StatesHeard, now_ns: int) -> bool:
        """Process states; return whether one of them is so severe that it must be forwarded at once."""
        severe, since_ns, known = False, now_ns - self._fresh_ns, self._states
        sizes = (column.tolist() for column in (event.limit_bytes, event.backlog_bytes, event.predicted_bytes))
        rows = zip(event.nodes, event.severity_ratio.tolist(), event.taken_ns.tolist(), *sizes, strict=True)
        for node, severity_ratio, taken_ns, limit_bytes, backlog_bytes, predicted_bytes in rows:
            last = known.get(node)
            if (last is not None and taken_ns <= last[_TAKEN]) or node not in self._row:
                continue  # forwarded states are mostly known already; unknown nodes are ignored
            sized = (limit_bytes, backlog_bytes, predicted_bytes)
            known[node] = _State(severity_ratio, taken_ns, self._row[node], *sized)
            if self.is_severe(severity_ratio):
                severe |= node == self._node or (not self.full_sync and taken_ns > since_ns)
        return severe

    def is_severe(self, severity_ratio: float) -> bool:
        """Return whether a severity is sent at once."""
        return severity_ratio >= self._announced_severity + SEVERE_STEP

    def share(self, recipients: tuple[str, ...], now_ns: int) -> list[Action]:
        """Send the own state and, without full sync, the most severe states of the others."""
        own = self._states.get(self._node)
        states = ([] if own is None else [own]) + ([] if self.full_sync else self._most_severe(now_ns))
        if not states or not recipients:
            return []
        self._announced_severity = max(state.severity_ratio for state in states)
        severity, taken_ns, rows, limit, backlog, predicted = zip(*states, strict=True)
        return [
            SendStates(
                to=recipients,
                nodes=tuple(self._members[row] for row in rows),
                taken_ns=np.array(taken_ns),
                limit_bytes=np.array(limit),
                backlog_bytes=np.array(backlog),
                predicted_bytes=np.array(predicted),
                severity_ratio=np.array(severity),
            )
        ]

    def _most_severe(self, now_ns: int) -> list[_State]:
        own, since_ns = self._row[self._node], now_ns - self._fresh_ns
        others = [state for state in self._states.values() if state[_TAKEN] > since_ns and state[_ROW] != own]
        return sorted(others, reverse=True)[:GOSSIP_ROWS]

    def recipients(self, others: tuple[str, ...]) -> tuple[str, ...]:
        """Return the members that receive states now."""
        if self.full_sync:
            return others
        return tuple(self._rng.sample(others, min(self._fanout, len(others))))

    def severity_ratio(self, passed_over: Collection[str], now_ns: int) -> float:
        """Return the highest recent severity, 0 to 1, of all members except some."""
        since_ns, states = now_ns - self._fresh_ns, self._states.items()
        return max([s[_SEVERITY] for node, s in states if s[_TAKEN] > since_ns and node not in passed_over], default=0)
