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
    """The part of a policy that asks to be woken."""

    def next_deadline_ns(self) -> int | None:
        """See `Policy.next_deadline_ns`."""
        ...


class Policy(Protocol):
    """One event in, actions out."""

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """Process one event that happened at `now_ns`; return the actions, in order.

        `now_ns` never decreases.  An event type that the policy does not use returns no action.
        """
        ...

    def next_deadline_ns(self) -> int | None:
        """Return when the policy wants a `DeadlineReached`, or None.  Valid until the next `handle`.

        Another event may make a deadline due at once.  After a `DeadlineReached` at `now_ns`, the next deadline must be
        later than `now_ns`; otherwise the engine would wake the policy for ever.
        """
        ...


def require_progress(name: str, policy: Sleeper, now_ns: int) -> None:
    """Refuse a deadline that is still due after it was handled at `now_ns`; both engines call this after each wake-up.

    Raises:
        PolicyError: names the policy.
    """
    due_ns = policy.next_deadline_ns()
    if due_ns is not None and due_ns <= now_ns:
        happened = f"it was called at {now_ns} ns for its deadline and wants to be called at {due_ns} ns again"
        remedy = "after DeadlineReached, next_deadline_ns() must be later than now_ns, or None"
        raise PolicyError(f"driving the policy {name}", happened, remedy)


def replay(policy: Policy, history: Iterable[tuple[int, Event]]) -> list[tuple[int, Action]]:
    """Pass a recorded history to a new policy and return its actions with their times."""
    return [(now_ns, action) for now_ns, event in history for action in policy.handle(event, now_ns)]
