"""Checks of the senders: every packet of the plan was sent, and on time.

    planned = sent + refused and given up + not tried because the sender failed        (else: unexplained)

The sender measures the lateness of a packet after the system call that sent it.  The percentiles bound the fraction of
late packets: 1 % at p99, 0.1 % at p99.9.  These are the percentiles of the delay that a summary reports.  Rarer
lateness is bounded by the longest stall (`stalls`).
"""

from __future__ import annotations

from collections.abc import Callable

from testbed.records.histogram import merged
from testbed.results.accounting import account
from testbed.results.fidelity.check import A_QUIETER_MACHINE, Bound, Measured, Question, Run
from testbed.units import NS_PER_MS

# If a sender gave up, the load was not the planned one, however little is missing.
FAILED_SENDERS = Bound(0, 0)
# Packets that were planned but not sent change the load.
UNSENT_RATIO = Bound(0.0, 0.01)
# If the sender counts a packet neither as sent nor as unsent, its counters are wrong.
UNEXPLAINED_PKTS = Bound(0, 0)
# A packet that is 1 ms late moves by a tenth of a sample interval. At 5 ms the burst is not the planned one.
SEND_LATENESS_MS = Bound(1.0, 5.0)
# A single DEGRADED stall (`stalls`) affects 1 % of the packets of a run of a few seconds; more is not a single stall.
SEND_LATENESS_P999_MS = Bound(5.0, 80.0)


def _failed(run: Run) -> Measured | None:
    failed = [client for client in run.evidence.clients if client.failure]
    causes = [f"the sender of {c.client} failed {c.failure}; {c.failed_pkts} packets were not sent" for c in failed]
    return Measured(len(failed), cause="; ".join(causes))


def _unsent(run: Run) -> Measured | None:
    clients = run.evidence.clients
    planned = sum(client.planned_pkts for client in clients)
    unsent = planned - account(run.evidence).sent_pkts
    seen = {
        "unsent": unsent,
        "send_errors": sum(client.send_errors for client in clients),
        "failed": sum(client.failed_pkts for client in clients),
    }
    return Measured(abs(unsent) / max(planned, 1), seen)


def _unexplained(run: Run) -> Measured | None:
    unexplained = {client.client: abs(client.unexplained_pkts) for client in run.evidence.clients}
    return Measured(sum(unexplained.values()), {c: n for c, n in unexplained.items() if n})


def _lateness(ratio: float) -> Callable[[Run], Measured | None]:
    def measure(run: Run) -> Measured | None:
        histogram = merged(client.lateness for client in run.evidence.clients)
        if histogram is None or not histogram.total:
            return None
        seen = {"max_ms": (histogram.largest_ns or 0) / NS_PER_MS}
        return Measured((histogram.quantile_ns(ratio) or 0.0) / NS_PER_MS, seen)

    return measure


CHECKS = (
    Question(
        "senders that failed",
        "a sender failed before the end, and the rest of its packets is missing",
        "look at the client's interface (is it up, is its MTU as large as the packets) and run again",
        _failed,
        FAILED_SENDERS,
        "senders",
    ),
    Question(
        "planned packets not sent",
        "the traffic was not the planned one",
        A_QUIETER_MACHINE,
        _unsent,
        UNSENT_RATIO,
        "of the plan",
    ),
    Question(
        "planned packets that nobody sent or gave up",
        "a sender reported these planned packets neither as sent nor as not sent",
        "report this, with the run directory",
        _unexplained,
        UNEXPLAINED_PKTS,
        "packets",
    ),
    Question(
        "sender lateness p99",
        "1 % of the packets were sent later than planned by more than the bound; the bursts differed from the plan",
        A_QUIETER_MACHINE,
        _lateness(0.99),
        SEND_LATENESS_MS,
        "ms",
    ),
    Question(
        "sender lateness p99.9",
        "0.1 % of the packets were sent later than planned by more than the bound; this "
        "can change the p99.9 of the delay",
        A_QUIETER_MACHINE,
        _lateness(0.999),
        SEND_LATENESS_P999_MS,
        "ms",
    ),
)
