"""Checks of queue and link: the rate is as configured, and the queue used for drops equals the queue that delays.

The quantities are defined in `testbed.results.queues`.
"""

from __future__ import annotations

import numpy as np

from testbed.results.fidelity.check import A_QUIETER_MACHINE, Bound, Measured, Question, Run, joined
from testbed.results.queues import queue_distances, window_rate_errors

# 2 % is the accuracy that a run guarantees for the rate of its links. The median shows the rate of the link: if it is
# off by more than 2 %, the link was not the configured one.
RATE_ERROR_MEDIAN_RATIO = Bound(0.02, 0.02)
# One slow window (the machine stalled) is a caveat. If one in twenty is slow, the link was not the configured one.
RATE_ERROR_RATIO = 0.02
RATE_WINDOWS_OFF_RATIO = Bound(0.0, 0.05)
# The two queues may differ by 2 packets plus 2 % of the backlog (the accuracy of the rate). They are read one after the
# other, and sometimes packets arrive in between, so up to 1 % of the samples may differ by more. Beyond 10 % the queue
# used for drops is not the queue that delays.
QUEUE_GRAIN_PKTS = 2
QUEUES_APART_RATIO = Bound(0.01, 0.10)
# With few backlogged samples a single such race would exceed 1 %, so this number of samples may always differ.
QUEUES_APART_FREE_SAMPLES = 2
# Generic XDP runs after the kernel has allocated its packet and possibly queued it: the decisions are the same, but
# costs and delays differ.
GENERIC_XDP_NODES = Bound(0, float("inf"))


def _rate_errors(run: Run) -> np.ndarray:
    grain = QUEUE_GRAIN_PKTS * run.facts.largest_packet_bytes
    rates = run.facts.node_rate_bps
    nodes = [node for node in run.samples if node in rates]
    return joined([window_rate_errors(run.samples[node], rates[node], grain) for node in nodes])


def _rate_median(run: Run) -> Measured | None:
    errors = _rate_errors(run)
    if not errors.size:
        return None
    return Measured(float(abs(np.median(errors))), {"windows": int(errors.size)})


def _rate_worst(run: Run) -> Measured | None:
    errors = _rate_errors(run)
    if not errors.size:
        return None
    worst = float(errors[np.argmax(np.abs(errors))])
    share = float(np.mean(np.abs(errors) > RATE_ERROR_RATIO))
    seen = {"worst_error": worst, "windows": int(errors.size)}
    return Measured(share, seen)


def _queues_agree(run: Run) -> Measured | None:
    grain = QUEUE_GRAIN_PKTS * run.facts.largest_packet_bytes
    distances = [queue_distances(rows, grain) for rows in run.samples.values()]
    excess = joined([distance - allowed for distance, allowed in distances])
    if not excess.size:
        return None
    apart = int(np.sum(excess > 0))
    share = 0.0 if apart <= QUEUES_APART_FREE_SAMPLES else apart / excess.size
    seen = {"samples": int(excess.size), "apart": apart, "worst_excess_bytes": int(max(excess.max(), 0))}
    return Measured(share, seen)


def _native_xdp(run: Run) -> Measured | None:
    modes = {node.node: node.xdp_mode for node in run.evidence.nodes if node.xdp_mode is not None}
    generic = [node for node, mode in modes.items() if mode != "native"]
    if not modes:
        return None
    return Measured(len(generic), {"which": " ".join(generic)} if generic else {})


CHECKS = (
    Question(
        "delivered rate while backlogged, median error",
        "the link did not have the configured rate",
        "check whether another limit applies to the node's link, or the machine is too slow for the rate",
        _rate_median,
        RATE_ERROR_MEDIAN_RATIO,
        "of the rate",
    ),
    Question(
        "delivered rate off by more than 2 %",
        "a backlogged link was served slower or faster than configured for 100 ms",
        A_QUIETER_MACHINE,
        _rate_worst,
        RATE_WINDOWS_OFF_RATIO,
        "of the windows",
    ),
    Question(
        "XDP queue apart from the qdisc's backlog",
        "the backlog that the XDP program used for its drop decisions differed from the real queue in the qdisc",
        A_QUIETER_MACHINE,
        _queues_agree,
        QUEUES_APART_RATIO,
        "of backlogged samples",
    ),
    Question(
        "nodes without native XDP",
        "the XDP program ran in generic mode, after the kernel had allocated the socket "
        "buffer: the decisions are the same, but CPU cost and delay differ",
        "use interfaces whose driver has native XDP, such as veth",
        _native_xdp,
        GENERIC_XDP_NODES,
        "nodes",
    ),
)
