"""Checks that nothing a run relies on was changed, except by the faults of the scenario."""

from __future__ import annotations

from collections.abc import Callable

from testbed.records.changes import Change
from testbed.results.fidelity.check import Bound, Measured, Question, Run

# After any change on the path of packets, however short, the run is not the one that the scenario describes.
CHANGES_ON_THE_WAY = Bound(0, 0)
# For changes off the path (scheduling, a stopped process, a sysctl), the checks of time and loss show the effect.
CHANGES_BESIDE = Bound(0, float("inf"))
_NAMED = 3


def _changed(on_the_way: bool) -> Callable[[Run], Measured | None]:
    def measure(run: Run) -> Measured | None:
        if run.evidence.changes is None:
            return None
        found = [change for change in run.evidence.changes if change.on_the_way == on_the_way]
        return Measured(len(found), cause=_named(found))

    return measure


def _named(found: list[Change]) -> str:
    more = f" and {len(found) - _NAMED} more in evidence.json" if len(found) > _NAMED else ""
    return "; ".join(map(str, found[:_NAMED])) + more


CHECKS = (
    Question(
        "changes of what packets meet",
        "something on the path between sender and sink changed, even if only briefly, and "
        "no fault of the scenario explains it",
        "do not change the namespaces or processes of a run, or make the change a fault of the scenario",
        _changed(True),
        CHANGES_ON_THE_WAY,
        "changes",
    ),
    Question(
        "changes beside the way of packets",
        "a process or a setting that is not on the path of packets was changed, and no fault explains it",
        "do not change the namespaces or processes of a run",
        _changed(False),
        CHANGES_BESIDE,
        "changes",
    ),
)
