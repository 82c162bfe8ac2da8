"""What is to happen in virtual time, and in which order.

A heap of (time, number, what): equal times keep the order in which they were entered, so a run depends on nothing but
its inputs.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

Do = Callable[[], None]


class Sleeper(Protocol):
    """A policy, as far as it wants to be woken."""

    def next_deadline_ns(self) -> int | None:
        """See `policies.base.Policy`."""
        ...


class Agenda:
    """The entries still to come.

    Attributes:
        now_ns: the time of the entry under way.
    """

    def __init__(self) -> None:
        self.now_ns = 0
        self._entries: list[tuple[int, int, Do]] = []
        self._entered = 0
        self._woken_ns: dict[str, int] = {}

    def at(self, t_ns: int, do: Do) -> None:
        """Enter what is to be done at `t_ns`, which is not in the past."""
        self._entered += 1
        heapq.heappush(self._entries, (t_ns, self._entered, do))

    def after(self, delay_ns: int, do: Do) -> None:
        """Enter what is to be done after a delay."""
        self.at(self.now_ns + delay_ns, do)

    def next_ns(self) -> int:
        """Return when the next entry is due; there is always one as long as somebody ticks."""
        return self._entries[0][0]

    def step(self) -> None:
        """Do the next entry."""
        self.now_ns, _, do = heapq.heappop(self._entries)
        do()

    def wake(self, name: str, policy: Sleeper, feed: Do) -> None:
        """Enter the policy's deadline, if it has a new one: `feed` is done if it is still wanted by then."""
        due_ns = policy.next_deadline_ns()
        if due_ns is None or self._woken_ns.get(name) == due_ns:
            return
        self._woken_ns[name] = due_ns

        def wake() -> None:
            now_due_ns = policy.next_deadline_ns()
            if self._woken_ns.get(name) == due_ns:
                del self._woken_ns[name]
            if now_due_ns is not None and now_due_ns <= self.now_ns:
                feed()

        self.at(max(due_ns, self.now_ns + 1), wake)  # virtual time must pass, whatever a policy asks for
