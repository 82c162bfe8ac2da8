"""The policy seam: what both engines drive and nothing else decides.

A policy is a state machine without I/O.  It never reads a clock, a socket, a file or a global random source: the time
is an argument (``now_ns``, integer nanoseconds since the start of the run), randomness a generator handed to its
constructor.  The engine records every ``(now_ns, event)`` it feeds in; feeding the record to a fresh policy gives the
same actions, and `replay` is how the tests say so.

State that is per node is an array over nodes.  An emulated agent holds one row, the simulation thousands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from testbed.events import Action, Event


class Policy(Protocol):
    """One event in, actions out."""

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """Take in one event that happened at `now_ns` and return what to do about it, in order.

        `now_ns` never goes back.  An event kind the policy has no use for returns no action.
        """
        ...

    def next_deadline_ns(self) -> int | None:
        """Return when the policy wants a `DeadlineReached`, or None.  Valid until the next `handle`."""
        ...


def replay(policy: Policy, history: Iterable[tuple[int, Event]]) -> list[tuple[int, Action]]:
    """Feed a recorded history to a fresh policy and return its actions with their times."""
    return [(now_ns, action) for now_ns, event in history for action in policy.handle(event, now_ns)]
