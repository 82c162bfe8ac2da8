"""Checks of the way of a packet as it goes as a rule: from client to node, through the node's buffer, on to the sink.

    sent ── way ──▶ node: arrives, waits by the model ── departs ──▶ ... ──▶ sink

The first stage has no queue that the scenario knows of, the second none that the node's model does not know of.  What
a packet takes beyond that the network adds by itself.  The percentiles bound what it adds all the time, the longest
stall (`stalls`) what it adds once.
"""

from __future__ import annotations

from collections.abc import Callable

from testbed.records.evidence import total
from testbed.records.histogram import merged
from testbed.records.stages import StageKind
from testbed.results.fidelity.check import A_QUIETER_MACHINE, Bound, Measured, Question, Run
from testbed.units import NS_PER_MS

# A switch that takes bursts at its full rate holds a packet for some milliseconds. At 5 ms a burst reaches the node
# half a sample late, at 20 ms two samples: it is another burst then.
WAY_P99_MS = Bound(5.0, 20.0)
# Forwarding takes some 10 us. A millisecond is a tenth of a sample; at 5 ms the delays are not those of the buffer.
QUEUE_P99_MS = Bound(1.0, 5.0)
# What the buffer has not admitted it could not have dropped: the run studied another system.
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
    cause = f"packets came to the sinks of {', '.join(which)} that no buffer had admitted" if which else ""
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
        "look for another queue or limit on the node's link, or end other work on this machine",
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
