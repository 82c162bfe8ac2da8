"""Faults in the order of time: when each begins and when it is over.

A fault ends after its `for`, or by the entry that heals it (`restart` a crash, `link_up` a link that is down), or not
at all.  Entries that heal are no faults of their own: they are the end of the one before.  A flap is as many faults as
it has periods: its *turns*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from testbed.scenario.fault import FaultSpec
from testbed.scenario.fault_kinds import FAULT_KINDS


class FaultStep(NamedTuple):
    """One moment of a fault; steps sort by time, and at one time what ends comes before what begins.

    Attributes:
        at_ns: of the run.
        begins: whether it begins or is over.
        fault: its number in the scenario.
        turn: which turn of a flap; 0 for any other fault.
    """

    at_ns: int
    begins: bool
    fault: int
    turn: int = 0


class Order(NamedTuple):
    """An order of the scenario to its cluster: when, which node, and whether it is added or drained."""

    at_ns: int
    node: str
    adds: bool


def timeline(faults: Sequence[FaultSpec]) -> tuple[FaultStep, ...]:
    """Return every step of the faults, in order of time; orders to the cluster are in `orders`."""
    steps = [FaultStep(end_ns, False, n) for n, end_ns in _ends_ns(faults) if not faults[n].row.order]
    for number, spec in enumerate(faults):
        if spec.row.order:
            continue
        if spec.row.repeats:
            steps += _turns(number, spec)
        elif not spec.row.heals:
            steps.append(FaultStep(spec.at_ns, True, number))
    return tuple(sorted(steps))


def orders(faults: Sequence[FaultSpec]) -> tuple[Order, ...]:
    """Return the orders to the cluster, in order of time."""
    given = [Order(spec.at_ns, spec.node, spec.kind == "add") for spec in faults if spec.row.order]
    ends = [Order(end_ns, faults[n].node, True) for n, end_ns in _ends_ns(faults) if faults[n].row.order]
    return tuple(sorted({*given, *ends}))


def turns_of(spec: FaultSpec) -> int:
    """Return how often a flap takes its link down; 0 for any other fault."""
    if not spec.row.repeats:
        return 0
    assert spec.period_ns is not None
    assert spec.for_ns is not None
    return -(-spec.for_ns // spec.period_ns)


def _turns(number: int, spec: FaultSpec) -> Iterator[FaultStep]:
    assert spec.period_ns is not None
    assert spec.for_ns is not None
    for turn, at_ns in enumerate(range(spec.at_ns, spec.at_ns + spec.for_ns, spec.period_ns)):
        yield FaultStep(at_ns, True, number, turn)
        yield FaultStep(min(at_ns + spec.period_ns // 2, spec.at_ns + spec.for_ns), False, number, turn)


def astray(faults: Sequence[FaultSpec], absent: Iterable[str] = ()) -> Iterator[tuple[int, str]]:
    """Yield the number of each entry that meets its target in a state it cannot change, and that state.

    Args:
        faults: as a scenario has them.
        absent: nodes that are out of service at the start.
    """
    down: dict[tuple[str, str], int | None] = {("drain", node): None for node in absent}  # until when
    for number, spec in _by_time(faults):
        broken, heals = spec.row.state, bool(spec.row.heals)
        if not spec.place:
            continue
        until_ns = down.get((broken, spec.place), -1)
        is_down = until_ns is None or until_ns > spec.at_ns
        if is_down != heals:
            yield number, f"{spec.link or spec.node} is {FAULT_KINDS[broken].states[is_down]} at that time"
        elif heals:
            down[broken, spec.place] = -1
        else:
            down[broken, spec.place] = None if spec.for_ns is None else spec.at_ns + spec.for_ns


def _ends_ns(faults: Sequence[FaultSpec]) -> Iterator[tuple[int, int]]:
    """Yield each fault that ends, and when."""
    lasting: dict[tuple[str, str], int] = {}
    for number, spec in _by_time(faults):
        if spec.row.heals:
            healed = lasting.pop((spec.row.heals, spec.place), None)
            if healed is not None:
                yield healed, spec.at_ns
        elif spec.for_ns is not None and not spec.row.repeats:
            yield number, spec.at_ns + spec.for_ns
        elif spec.for_ns is None:
            lasting[spec.kind, spec.place] = number


def _by_time(faults: Sequence[FaultSpec]) -> list[tuple[int, FaultSpec]]:
    return sorted(enumerate(faults), key=lambda entry: (entry[1].at_ns, entry[0]))
