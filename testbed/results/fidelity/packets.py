"""Checks of what became of the packets that were sent: each accounted for, none lost where none may be lost.

The accounting is defined in `testbed.results.evidence`.
"""

from __future__ import annotations

from testbed.results.evidence import account, total
from testbed.results.fidelity.check import A_QUIETER_MACHINE, Bound, Measured, Question, Run

# A packet that nobody can place means that some counter lies: no loss figure of the run can be trusted.
UNACCOUNTED_PKTS = Bound(0, 0)
# A duplicate and an unnoticed loss cancel in the accounting, so duplicates void it.
DUPLICATE_PKTS = Bound(0, 0)
# Loss outside the buffer is not what is studied. Up to 0.1 % of the packets it is a caveat: losses that are compared
# between policies are percents.
STRAY_LOSS_RATIO = Bound(0.0, 0.001)


def _conservation(run: Run) -> Measured | None:
    books = account(run.evidence)
    seen = {"sent": books.sent_pkts, "delivered": books.delivered_pkts}
    return Measured(abs(books.unaccounted_pkts), UNACCOUNTED_PKTS, "packets", seen)


def _duplicates(run: Run) -> Measured | None:
    twice = total(node.duplicate_pkts for node in run.evidence.nodes)
    return None if twice is None else Measured(twice, DUPLICATE_PKTS, "packets")


def _stray_loss(run: Run) -> Measured | None:
    evidence = run.evidence
    places = {
        "qdisc": total(node.qdisc_dropped_pkts for node in evidence.nodes),
        "switch": evidence.switch_dropped_pkts,
        "veth": total(
            [*(c.veth_dropped_pkts for c in evidence.clients), *(n.veth_dropped_pkts for n in evidence.nodes)]
        ),
        "malformed": total(node.malformed_pkts for node in evidence.nodes),
        "aborted": total(node.aborted_pkts for node in evidence.nodes),
    }
    lost = total(places.values())
    if lost is None:
        return None
    return Measured(lost / max(account(evidence).sent_pkts, 1), STRAY_LOSS_RATIO, "of the packets sent", places)


CHECKS = (
    Question(
        "unaccounted packets",
        "sent packets were neither delivered, nor dropped at a place that counts, nor in flight at the end",
        "a place lost packets that nothing counts: look at logs/ and at the counts in evidence.json",
        _conservation,
    ),
    Question(
        "duplicated packets",
        "packets were delivered twice, which hides losses in the accounting",
        "look for a loop or a mirror in the network",
        _duplicates,
    ),
    Question(
        "loss outside the buffer",
        "packets were lost where the scenario loses none",
        A_QUIETER_MACHINE,
        _stray_loss,
    ),
)
