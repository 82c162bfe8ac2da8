"""The policy interface: the same for both engines, which make no decisions themselves.

A policy is a state machine without I/O. It never uses a clock, a socket, a file or a global random generator.  The time
is an argument (``now_ns``, integer nanoseconds since the start of the run); a random generator is passed to its
constructor.  The engine records every ``(now_ns, event)`` that it passes to the policy.  If the recorded events are
passed to a new instance of the policy, it returns the same actions; `replay` does this in the tests.

State per node is an array over nodes.  An emulated agent has one row, the simulation thousands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from testbed.errors import PolicyError
from testbed.records.events import Action, Event


class Sleeper(Protocol):
    """A policy, as far as it wants to be woken."""

    def next_deadline_ns(self) -> int | None:
        """See `Policy.next_deadline_ns`."""
        ...


class Policy(Protocol):
    """One event in, actions out."""

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """Take in one event that happened at `now_ns` and return what to do about it, in order.

        `now_ns` never goes back.  An event kind the policy has no use for returns no action.
        """
        ...

    def next_deadline_ns(self) -> int | None:
        """Return when the policy wants a `DeadlineReached`, or None.  Valid until the next `handle`.

        Another event may make a deadline due at once.  A `DeadlineReached` that was handled at `now_ns` leaves none
        that is not later than `now_ns`: whoever drives the policy would wake it for ever.
        """
        ...


def require_progress(name: str, policy: Sleeper, now_ns: int) -> None:
    """Refuse a deadline that is still due although it was handled at `now_ns`; both engines ask after each waking.

    Raises:
        PolicyError: names the policy.
    """
    due_ns = policy.next_deadline_ns()
    if due_ns is not None and due_ns <= now_ns:
        happened = f"it was called at {now_ns} ns for its deadline and wants to be called at {due_ns} ns again"
        remedy = "after DeadlineReached, next_deadline_ns() must be later than now_ns, or None"
        raise PolicyError(f"driving the policy {name}", happened, remedy)


def replay(policy: Policy, history: Iterable[tuple[int, Event]]) -> list[tuple[int, Action]]:
    """Feed a recorded history to a fresh policy and return its actions with their times."""
    return [(now_ns, action) for now_ns, event in history for action in policy.handle(event, now_ns)]
