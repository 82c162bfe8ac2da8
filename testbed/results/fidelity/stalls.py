"""Checks of stalls: no stage was stopped for long, except by the faults of the scenario.

A fraction of the time would hide a stall: if the switch stops for 100 ms, that is half a per cent of a run of 20 s, but
it delays every burst of that time by up to 100 ms.  So the longest stall of each stage is checked.

*Bounds.*  They are the same for all stages, since they concern the run and not the stage.  A buffer of 0.5 MB at
100 Mbit/s takes 40 ms to fill or to empty, and the horizon of a forecast is 50 to 100 ms.  A stall of a fifth of that
does not change a compared result; a stall of all of it causes a burst.  Between the two, one burst of the run was not
as planned: the results have a caveat, which names the stall.

*Detection.*  A process runs its loop every 10 ms, so a stall is measured as up to 10 ms too short.  A stall of the
switch or a link is measured from the first packet that is affected.  Hence, with packets in transit at all times, a
stop of 32 ms of any stage is at least DEGRADED, and one of 95 ms is INVALID.  A stall that affected no packet and no
loop changed nothing.

*Cause.*  Simultaneous stalls of several stages have one cause.  If all nodes wait for packets, it is the switch; if one
does, it is its link; if senders, agents and packets stop together, it is the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from testbed.records.engines import is_real_time
from testbed.records.stages import Stage, StageKind, Stall, unordered
from testbed.results.fidelity.check import Bound, Measured, Question, Run
from testbed.units import NS_PER_MS, NS_PER_S

STALL_MS = Bound(20.0, 80.0)
_LOOK_NS = 60 * NS_PER_MS  # so far apart are two looks at the processes
_FIND_OUT = "find out what stopped it or took its CPU time (a signal, a real-time process, a CPU quota), and run again"
_OPTIONAL = ("mesh", "tcp")
_TOGETHER = 3  # so many kinds of stage that stand still at one time have no other cause than the machine


class _Found(NamedTuple):
    """A stall, and whose it was."""

    stall: Stall
    stage: Stage


def _found(run: Run, *kinds: StageKind) -> Iterator[_Found]:
    """Yield all stalls of these kinds of stages (all kinds when none is given) that no fault ordered."""
    for stage in run.evidence.stages:
        if not kinds or stage.kind in kinds:
            yield from (_Found(stall, stage) for stall in unordered(stage, run.evidence.ordered))


def _measured(run: Run, kind: StageKind) -> bool:
    """Return whether the stage was watched; what a scenario does not have (TCP, a mesh of one) cannot stand still."""
    watched = any(stage.kind == kind for stage in run.evidence.stages)
    return watched or (is_real_time(run.evidence.engine) and kind in _OPTIONAL)


def _longest(kind: StageKind, cause: Callable[[Run, _Found], str]) -> Callable[[Run], Measured | None]:
    """Return the measurement of the longest stall of a kind of stage."""

    def measure(run: Run) -> Measured | None:
        if not _measured(run, kind):
            return None
        worst = max(_found(run, kind), key=lambda found: found.stall.lasted_ns, default=None)
        if worst is None:
            return Measured(0.0)
        value = worst.stall.lasted_ns / NS_PER_MS
        seen = {"where": worst.stage.place, "at_s": worst.stall.began_ns / NS_PER_S}
        good = STALL_MS.verdict(value) == "VALID"
        return Measured(value, seen, "" if good else _full_cause(run, worst, cause))

    return measure


# ------------------------------------------------------------------------------------------------------------- causes


def _full_cause(run: Run, worst: _Found, cause: Callable[[Run, _Found], str]) -> str:
    return cause(run, worst) + _machine(run, worst) + _by_a_signal(run, worst)


def _when(stall: Stall) -> str:
    return f"for {stall.lasted_ns / NS_PER_MS:.0f} ms from {stall.began_ns / NS_PER_S:.3f} s on"


def _meanwhile(run: Run, worst: _Found, *kinds: StageKind) -> list[_Found]:
    """Return the stalls of other stages that lay within this one for at least half of its time."""
    stall = worst.stall

    def shared_ns(other: Stall) -> int:
        return min(stall.ended_ns, other.ended_ns) - max(stall.began_ns, other.began_ns)

    return [f for f in _found(run, *kinds) if f.stage is not worst.stage and 2 * shared_ns(f.stall) >= stall.lasted_ns]


def _machine(run: Run, worst: _Found) -> str:
    kinds = {found.stage.kind for found in _meanwhile(run, worst)} | {worst.stage.kind}
    return "; the whole machine stalled at that time" if len(kinds - {"stamp"}) >= _TOGETHER else ""


def _by_a_signal(run: Run, worst: _Found) -> str:
    """Return who was stopped by a signal during the stall, as the watch over the processes saw it."""
    from_ns, until_ns = worst.stall.began_ns - _LOOK_NS, worst.stall.ended_ns + _LOOK_NS
    stopped = {
        change.thing.removesuffix(" state")
        for change in run.evidence.changes or ()
        if change.kind == "process" and any(value.startswith("stopped") for value in change.values)
        and change.first_ns is not None and from_ns <= change.first_ns <= until_ns
    }  # fmt: skip
    return f"; {', '.join(sorted(stopped))} was stopped by a signal" if stopped else ""


def _way_cause(run: Run, worst: _Found) -> str:
    waiting = {found.stage.place for found in _meanwhile(run, worst, "way")} | {worst.stage.place}
    nodes, when = ", ".join(sorted(waiting)), _when(worst.stall)
    served = [stage.place for stage in run.evidence.stages if stage.kind == "way"]
    if 2 * len(waiting) > len(served):
        return f"the switch (ovs-vswitchd) did not forward {when} (seen at {nodes})"
    return f"packets between the switch and {nodes} were held {when}; packets to other nodes were not"


def _stood_still(who: str) -> Callable[[Run, _Found], str]:
    return lambda _run, worst: f"{who.format(worst.stage.place)} {_when(worst.stall)}"


def _stall_question(name: str, kind: StageKind, means: str, who: Callable[[Run, _Found], str]) -> Question:
    return Question(f"longest stall of {name}", means, _FIND_OUT, _longest(kind, who), STALL_MS, "ms")


CHECKS = (
    _stall_question(
        "a sender", "send",
        "packets were sent later than planned by this time, then all at once; the sender measures every packet",
        _stood_still("the sender of {} sent nothing that was due"),
    ),
    _stall_question(
        "a sender, by the stamps in the packets", "stamp",
        "sender lateness from the timestamps in each packet, measured at the node",
        _stood_still("some packets that reached {} had been sent late"),
    ),
    _stall_question(
        "the way from client to node", "way",
        "packets were held on the path between the client's send call and the node's program; every packet is measured",
        _way_cause,
    ),
    _stall_question(
        "the way from node to sink", "queue",
        "packets were held on the path from node to sink, beyond the node's queue and rate; "
        "every delivered packet is measured",
        _stood_still("the egress of {}, or its backend, held packets"),
    ),
    _stall_question(
        "an agent", "agent",
        "an agent took no sample and decided nothing; detected if it lasts one sample interval or longer",
        _stood_still("the agent of {} did not run"),
    ),
    _stall_question(
        "a mesh member", "mesh",
        "a mesh member sent and received no heartbeat; detected if it lasts 10 ms or longer",
        _stood_still("the mesh member of {} did not run"),
    ),
    _stall_question(
        "a controller", "controller",
        "a controller received no notification and changed nothing; detected if it lasts 10 ms or longer",
        _stood_still("the {} did not run"),
    ),
    _stall_question(
        "a TCP endpoint", "tcp",
        "a TCP source sent nothing, or the sink received nothing; detected if it lasts 10 ms or longer",
        _stood_still("the {} did not run"),
    ),
)  # fmt: skip
