"""The severities that the simulated nodes receive from each other, as sent by `policies.membership`.

Every node sends its severity to all others: in each sync interval, and at once when it has risen by `SEVERE_STEP`.  It
arrives `message_ns` later and is used for `fresh_ns`.  Severities are stored as arrays over all nodes, not as messages:
a thousand nodes would have a million messages per sync interval. In the emulation, more than a hundred nodes spread
their states by gossip; this is modelled as if it were as fast as sending to all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from testbed.policies.sharing import SEVERE_STEP, fresh_ns
from testbed.records.events import Floats, Ints
from testbed.simulation.agenda import Agenda

_LONG_AGO_NS, _NEVER_NS = -(2**62), 2**61


class Peers:
    """What n nodes sent, and what each has received from the others.

    Attributes:
        edition: number of what is heard: as long as it stays, every node hears the same.
    """

    def __init__(self, nodes: tuple[str, ...], sync_ns: int, message_ns: int, agenda: Agenda) -> None:
        self._row_of = {node: row for row, node in enumerate(nodes)}
        self._sync_ns, self._message_ns, self._agenda = sync_ns, message_ns, agenda
        self._own, self._told, self._there = np.zeros((3, len(nodes)))
        self._own_ns, self._there_ns = np.full((2, len(nodes)), _LONG_AGO_NS)
        self._ahead_ratio = 0.0  # of a wave that other sites announce
        self._side = np.zeros(len(nodes), dtype=np.int64)  # of a divided mesh
        self._heard, self._stale_ns, self.edition = np.zeros(len(nodes)), 0, 0
        agenda.after(sync_ns, self._sync)

    def assess(self, rows: slice, severity_ratio: Floats) -> None:
        """Process how strongly a burst is announced to the nodes of `rows` now."""
        self._own[rows], self._own_ns[rows] = severity_ratio, self._agenda.now_ns
        risen = severity_ratio >= self._told[rows] + SEVERE_STEP
        if risen.any():
            self._tell(rows.start + np.flatnonzero(risen))

    def heard(self, rows: slice) -> Floats:
        """Return the highest fresh severity that has reached each node of `rows` from the others, 0..1."""
        self.refresh()
        return self._heard[rows]

    def refresh(self) -> None:
        """Process what has arrived, and what is not fresh any more; `edition` rises if that may change anything."""
        now_ns = self._agenda.now_ns
        if now_ns < self._stale_ns:
            return
        fresh = self._there_ns > now_ns - fresh_ns(self._sync_ns)
        self._stale_ns = int(self._there_ns.min(where=fresh, initial=_NEVER_NS)) + fresh_ns(self._sync_ns)
        there = np.where(fresh, self._there, 0.0)
        self._heard = np.zeros(len(there))
        for side in np.unique(self._side):
            members = np.flatnonzero(self._side == side)
            self._heard[members] = _highest_of_others(there[members])
        self._heard = np.maximum(self._heard, self._ahead_ratio)
        self.edition += 1

    def announce(self, severity_ratio: float) -> None:
        """Let every node hear, from now on, that a wave of demand is coming from elsewhere."""
        if severity_ratio != self._ahead_ratio:
            self._ahead_ratio, self._stale_ns = severity_ratio, 0

    def divide(self, groups: Sequence[Iterable[str]], *, apart: bool) -> None:
        """Let nothing pass between the groups, or let it pass again."""
        for side, group in enumerate(groups):
            for node in group:
                self._side[self._row_of[node]] = side if apart else 0
        self._stale_ns = 0

    def _sync(self) -> None:
        self._tell(np.arange(len(self._own)))
        self._agenda.after(self._sync_ns, self._sync)

    def _tell(self, rows: Ints) -> None:
        told, taken_ns = self._own[rows], self._own_ns[rows]
        self._told[rows] = told

        def arrive() -> None:
            self._there[rows], self._there_ns[rows] = told, taken_ns
            self._stale_ns = 0

        self._agenda.after(self._message_ns, arrive)


def _highest_of_others(values: Floats) -> Floats:
    """Return for each entry the highest of all the others, 0 where there is none."""
    if len(values) < 2:
        return np.zeros(len(values))
    first = int(values.argmax())
    highest = np.full(len(values), values[first])
    highest[first] = np.delete(values, first).max()
    return highest
