"""Checks of all packets that were sent: each is accounted for, and none is lost outside of buffers and faults.

The accounting is defined in `testbed.results.accounting`.
"""

from __future__ import annotations

from testbed.records.evidence import total
from testbed.results.accounting import account, counted_places
from testbed.results.fidelity.check import A_QUIETER_MACHINE, Bound, Measured, Question, Run

# An unaccounted packet means that some counter is wrong, so no loss metric of the run can be trusted.
UNACCOUNTED_PKTS = Bound(0, 0)
# A network that duplicates packets is not the one described, and buffers received packets that were not planned.
DUPLICATE_PKTS = Bound(0, 0)
# Packets that arrived but were not sent belong to another plan, or the report of a sender is wrong.
UNSENT_SEEN_PKTS = Bound(0, 0)
# The losses of a fault are measured twice, by counters and by packet numbers. If they differ, neither is reliable.
FAULT_LOSS_APART_PKTS = Bound(0, 0)
# Loss outside the buffers is a disturbance. Up to 0.1 % of the packets it is a caveat, because the losses that are
# compared between policies are of the order of per cents.
STRAY_LOSS_RATIO = Bound(0.0, 0.001)


def _conservation(run: Run) -> Measured | None:
    accounting = account(run.evidence)
    seen = {"sent": accounting.sent_pkts, "delivered": accounting.delivered_pkts}
    return Measured(abs(accounting.unaccounted_pkts), seen)


def _duplicates(run: Run) -> Measured | None:
    fates = run.evidence.fates
    same_sink = total(node.duplicate_pkts for node in run.evidence.nodes)
    twice = same_sink if fates is None else fates.repeated_pkts
    return None if twice is None else Measured(twice, {"at_one_sink": same_sink})


def _unsent_seen(run: Run) -> Measured | None:
    fates = run.evidence.fates
    if fates is None:
        return None
    seen = {"of_the_plan": fates.unsent_pkts, "of_no_plan": fates.unplanned_pkts}
    return Measured(fates.unsent_pkts + fates.unplanned_pkts, seen)


def _stray_loss(run: Run) -> Measured | None:
    counted, accounting = counted_places(run.evidence), account(run.evidence)
    if total(counted.values()) is None:
        return None
    lost, seen = sum(accounting.stray_pkts.values()), {_key(place): count for place, count in counted.items()}
    shared = {"of_other_traffic": sum(accounting.others_pkts.values())} if accounting.others_pkts else {}
    return Measured(lost / max(accounting.sent_pkts, 1), {**seen, **shared})


def _stray_tcp_loss(run: Run) -> Measured | None:
    """Measure what TCP lost: the places know no class, so it is what they counted beyond the planned packets."""
    evidence = run.evidence
    if not evidence.tcp:
        return Measured(0.0)
    arrived = total(node.tcp_arrived_pkts for node in evidence.nodes)
    if arrived is None:
        return None
    lost = {_key(place): count for place, count in account(evidence).others_pkts.items()}
    return Measured(sum(lost.values()) / max(arrived, 1), lost)


def _key(place: str) -> str:
    return place.replace(",", "").replace(" ", "_").replace("-", "_")


def _fault_losses(run: Run) -> Measured | None:
    """Measure how far counters and packet numbers are apart, beyond what was lost elsewhere meanwhile."""
    counted, numbered = run.evidence.fault_counted_pkts, run.evidence.fault_numbered_pkts
    if counted is None or numbered is None:
        return None
    stray = sum(account(run.evidence).stray_pkts.values())
    seen = {"by_counters": counted, "by_numbers": numbered, "lost_elsewhere": stray}
    return Measured(max(0, abs(counted - numbered) - stray), seen)


CHECKS = (
    Question(
        "unaccounted packets",
        "sent packets were neither delivered, nor dropped at a place with a counter, nor in flight at the end",
        "packets were lost where nothing counts them: look at logs/ and at the counters in evidence.json",
        _conservation,
        UNACCOUNTED_PKTS,
        "packets",
    ),
    Question(
        "duplicated packets",
        "packets were delivered twice, at one backend or at several, or delivered and dropped",
        "check the network for a loop or a mirror",
        _duplicates,
        DUPLICATE_PKTS,
        "packets",
    ),
    Question(
        "packets that nobody sent",
        "packets of this run arrived that are not in the plan, or that no sender reports as sent",
        "check for a second sender, or one whose report is wrong",
        _unsent_seen,
        UNSENT_SEEN_PKTS,
        "packets",
    ),
    Question(
        "loss outside the buffer",
        "packets were lost elsewhere than in a buffer, in a link queue or by a fault",
        A_QUIETER_MACHINE,
        _stray_loss,
        STRAY_LOSS_RATIO,
        "of the packets sent",
    ),
    Question(
        "TCP lost outside the buffer",
        "TCP segments were lost elsewhere than in a buffer or by a fault; these counters include all traffic",
        A_QUIETER_MACHINE,
        _stray_tcp_loss,
        STRAY_LOSS_RATIO,
        "of the segments that arrived",
    ),
    Question(
        "loss to faults, by counters and by packets",
        "packets lost to faults: counters and packet numbers give different totals",
        "look at the FaultLosses in events.jsonl",
        _fault_losses,
        FAULT_LOSS_APART_PKTS,
        "packets",
    ),
)
