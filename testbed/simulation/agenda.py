"""The event queue of virtual time.

A heap of (time, number, what): entries with equal times keep the order in which they were added, so a run depends only
on its inputs.

If virtual time did not advance, a run would never end.  So two cases are errors that name the policy: its deadline is
still due after it was woken for it, or it is woken more than `MOST_WAKES` times within `WAKES_WITHIN_NS`.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator

from testbed.errors import PolicyError
from testbed.policies.base import Sleeper, require_progress
from testbed.units import NS_PER_MS

Do = Callable[[], None]

MOST_WAKES = 10_000  # ten thousand times what the fastest policy asks for
WAKES_WITHIN_NS = NS_PER_MS


class Agenda:
    """The entries still to come.

    Args:
        trunk: one whose entries it shares, for policies of another cluster that have the same names.
    """

    def __init__(self, trunk: Agenda | None = None) -> None:
        self._clock: list[int] = [0] if trunk is None else trunk._clock
        self._entries: list[tuple[int, int, Do]] = [] if trunk is None else trunk._entries
        self._numbers: Iterator[int] = itertools.count(1) if trunk is None else trunk._numbers
        self._woken_ns: dict[str, int] = {}
        self._serving = ""  # whose deadline is being handled
        self._wakes: dict[str, tuple[int, int]] = {}  # of each policy: since when they are counted, and how many

    @property
    def now_ns(self) -> int:
        """Return the time of the present entry."""
        return self._clock[0]

    @now_ns.setter
    def now_ns(self, t_ns: int) -> None:
        self._clock[0] = t_ns

    def at(self, t_ns: int, do: Do) -> None:
        """Enter what is to be done at `t_ns`, which is not in the past."""
        heapq.heappush(self._entries, (t_ns, next(self._numbers), do))

    def after(self, delay_ns: int, do: Do) -> None:
        """Enter what is to be done after a delay."""
        self.at(self.now_ns + delay_ns, do)

    def next_ns(self) -> int:
        """Return when the next entry is due; there is always one as long as somebody ticks."""
        return self._entries[0][0]

    def step(self) -> None:
        """Do the next entry."""
        self._clock[0], _, do = heapq.heappop(self._entries)
        do()

    def wake(self, name: str, policy: Sleeper, feed: Do) -> None:
        """Enter the policy's deadline, if it has a new one: `feed` is done if it is still wanted by then.

        Call it after each event that the policy handled.

        Raises:
            PolicyError: the policy has just handled its deadline, and it is still due.
        """
        if self._serving == name:
            self._serving = ""
            require_progress(name, policy, self.now_ns)
        due_ns = policy.next_deadline_ns()
        if due_ns is None or self._woken_ns.get(name) == due_ns:
            return
        self._woken_ns[name] = due_ns

        def wake() -> None:
            now_due_ns = policy.next_deadline_ns()
            if self._woken_ns.get(name) == due_ns:
                del self._woken_ns[name]
            if now_due_ns is not None and now_due_ns <= self.now_ns:
                self._count_wake(name)
                self._serving = name
                feed()
                self._serving = ""

        self.at(max(due_ns, self.now_ns + 1), wake)  # what an event made due at once is served an instant later

    def _count_wake(self, name: str) -> None:
        since_ns, count = self._wakes.get(name, (self.now_ns, 0))
        if self.now_ns - since_ns >= WAKES_WITHIN_NS:
            since_ns, count = self.now_ns, 0
        self._wakes[name] = (since_ns, count + 1)
        if count >= MOST_WAKES:
            happened = f"it was called {count} times within {self.now_ns - since_ns} ns of virtual time"
            raise PolicyError(f"driving the policy {name}", happened, "its deadlines must lie further apart")
