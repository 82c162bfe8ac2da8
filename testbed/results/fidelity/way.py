"""Checks of the typical delay on the path of a packet: from client to node, and from the node's buffer to the sink.

    sent ── way ──▶ node: arrives, waits by the model ── departs ──▶ ... ──▶ sink

The scenario has no queue on the first stage, and only the modelled queue of the node on the second.  Any further delay
is added by the emulated network itself.  The percentiles bound this delay in general, the longest stall (`stalls`)
bounds single events.
"""

from __future__ import annotations

from collections.abc import Callable

from testbed.records.evidence import total
from testbed.records.histogram import merged
from testbed.records.stages import StageKind
from testbed.results.fidelity.check import A_QUIETER_MACHINE, Bound, Measured, Question, Run
from testbed.units import NS_PER_MS

# A switch that receives bursts at its full rate holds a packet for a few milliseconds. With 5 ms a burst reaches the
# node half a sample interval late; with 20 ms, two intervals late, it is another burst.
WAY_P99_MS = Bound(5.0, 20.0)
# Forwarding takes some 10 us. A millisecond is a tenth of a sample interval; at 5 ms, delays are not due to the buffer.
QUEUE_P99_MS = Bound(1.0, 5.0)
# Packets that bypass the buffer cannot be dropped by it, so the run studied another system.
UNBUFFERED_PKTS = Bound(0, 0)


def _taken(kind: StageKind) -> Callable[[Run], Measured | None]:
    def measure(run: Run) -> Measured | None:
        histogram = merged(stage.delays for stage in run.evidence.stages if stage.kind == kind)
        if histogram is None or not histogram.total:
            return None
        p50, p99, p999 = ((histogram.quantile_ns(ratio) or 0.0) / NS_PER_MS for ratio in (0.5, 0.99, 0.999))
        seen = {"p50_ms": p50, "p999_ms": p999, "max_ms": (histogram.largest_ns or 0) / NS_PER_MS}
        return Measured(p99, seen)

    return measure


def _unbuffered(run: Run) -> Measured | None:
    pkts = total(node.unbuffered_pkts for node in run.evidence.nodes)
    which = [node.node for node in run.evidence.nodes if node.unbuffered_pkts]
    cause = f"packets reached the sinks of {', '.join(which)} that no buffer had admitted" if which else ""
    return None if pkts is None else Measured(pkts, cause=cause)


CHECKS = (
    Question(
        "way from client to node p99",
        "delay from client to node in excess of the configured link delay: packets were "
        "held up before they reached a buffer",
        A_QUIETER_MACHINE,
        _taken("way"),
        WAY_P99_MS,
        "ms",
    ),
    Question(
        "way from node to sink p99, beyond the queue",
        "packets took longer on the path from node to sink than the node's backlog and the link's rate explain",
        "check whether another queue or limit applies to the node's link, or end other work on this machine",
        _taken("queue"),
        QUEUE_P99_MS,
        "ms",
    ),
    Question(
        "packets past the buffer",
        "packets reached a sink without passing the XDP program of the node",
        "check whether the node's XDP program was replaced or detached",
        _unbuffered,
        UNBUFFERED_PKTS,
        "packets",
    ),
)
