"""What the samples of one node show about its queue and its link; used by verdict and summary.

Busy windows.  Over a window the fluid queue has served ``accepted − (backlog at the end − backlog at the start)``
bytes.  If that is what the rate C serves in the window, the queue was never empty, and the real link must have
delivered at C too.  The delivered rate of a window is the difference of the sink's cumulative bytes divided by the
difference of the times of their last deliveries.  Between two departures of a busy link it is exact, no matter when the
samples were taken.

Demand.  What a burst *needs* must not depend on the policy under test, so it is the backlog the node would have with
the largest limit: ``v ← min(cap, max(0, v + arrived − C·dt))`` over the sampled arrivals.  A burst is an interval with
v above the floor; its onset is the time at which v exceeds the floor, interpolated between two samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from testbed.records.events import Floats, Ints
from testbed.records.samples import NodeSamples
from testbed.units import NS_PER_MS, NS_PER_S

WINDOW_NS = 100 * NS_PER_MS
QUEUE_ERROR_RATIO = 0.02
BUSY_SHARE = 0.995  # a window this full of service was busy; the rest is the jitter of two samples


@dataclass(frozen=True, slots=True)
class Spans:
    """Stretches of time of one node, ascending and apart.

    Attributes:
        begin_ns, end_ns: int64, shape [k].
    """

    begin_ns: Ints
    end_ns: Ints

    def __len__(self) -> int:
        return len(self.begin_ns)


def window_rate_errors(samples: NodeSamples, rate_bps: int, grain_bytes: int) -> Floats:
    """Return the relative error of the delivered rate over every window of 100 ms in which the node was backlogged.

    Windows start at each sample and are as much longer than 100 ms as the sampling makes them.

    Args:
        samples: rows of one node.
        rate_bps: its configured rate.
        grain_bytes: backlogs up to this many bytes count as empty.

    Returns:
        Signed ratios (−0.02: 2 % too slow), float64, shape [windows]; empty when nothing was backlogged or the
        engine does not measure what was delivered.
    """
    delivered = samples.optional.get("delivered_bytes")
    if delivered is None or len(samples.t_ns) < 2:
        return np.zeros(0)
    times = samples.optional.get("delivered_t_ns", samples.t_ns.astype(np.float64))
    first = np.arange(len(samples.t_ns))
    last = np.searchsorted(samples.t_ns, samples.t_ns + WINDOW_NS)
    first, last = first[last < len(first)], last[last < len(first)]
    busy = _busy_windows(samples, rate_bps, grain_bytes, first, last)
    first, last = first[busy], last[busy]
    seconds = (times[last] - times[first]) / NS_PER_S
    sent_bits = (delivered[last] - delivered[first]) * 8
    known = ~np.isnan(seconds) & ~np.isnan(sent_bits)
    seconds, sent_bits = seconds[known], sent_bits[known]
    stalled = seconds <= 0  # backlogged, and nothing came out in all the window
    return np.where(stalled, -1.0, sent_bits / np.where(stalled, 1.0, seconds) / rate_bps - 1)


def _busy_windows(samples: NodeSamples, rate_bps: int, grain_bytes: int, first: Ints, last: Ints) -> np.ndarray:
    deflected = np.nan_to_num(samples.optional.get("deflected_bytes", np.zeros(len(samples.t_ns))))
    accepted = np.cumsum(samples.arrived_bytes - samples.dropped_bytes - deflected.astype(np.int64))
    served = accepted[last] - accepted[first] - (samples.backlog_bytes[last] - samples.backlog_bytes[first])
    could = rate_bps / 8 * (samples.t_ns[last] - samples.t_ns[first]) / NS_PER_S
    empty = np.concatenate(([0], np.cumsum(samples.backlog_bytes <= grain_bytes)))
    busy: np.ndarray = (empty[last + 1] == empty[first]) & (served >= BUSY_SHARE * could)
    return busy


def queue_distances(samples: NodeSamples, grain_bytes: int) -> tuple[Floats, Floats]:
    """Return how far the XDP queue and the qdisc are apart, and how far they may be: the grain and 2 % of the larger.

    Of the samples in which either holds more than the grain; both float64, shape [k], bytes.  Empty where the engine
    has no qdisc.
    """
    qdisc = samples.optional.get("qdisc_backlog_bytes")
    if qdisc is None:
        return np.zeros(0), np.zeros(0)
    fluid = samples.optional.get("backlog_beside_bytes", samples.backlog_bytes.astype(np.float64))
    larger = np.fmax(fluid, qdisc)
    seen = ~np.isnan(qdisc) & (larger > grain_bytes)
    return np.abs(fluid - qdisc)[seen], (grain_bytes + QUEUE_ERROR_RATIO * larger)[seen]


def demand_bytes(samples: NodeSamples, rate_bps: int, cap_bytes: int) -> Floats:
    """Return the backlog at each sample if the limit were `cap_bytes` throughout; float64, shape [n]."""
    change = samples.arrived_bytes - rate_bps / 8 * samples.interval_ns() / NS_PER_S
    backlog = np.empty(len(change))
    level = 0.0
    for k, step in enumerate(change.tolist()):
        level = min(float(cap_bytes), max(0.0, level + step))
        backlog[k] = level
    return backlog


def stretches(t_ns: Ints, active: np.ndarray, join_gap_ns: int = 0) -> Spans:
    """Return the stretches of samples with `active` (bool, shape [n]); gaps of at most `join_gap_ns` are bridged.

    A stretch begins at its first active sample and ends at the first that is not (or at the last sample of all).
    """
    edges = np.diff(np.concatenate(([0], active.astype(np.int8), [0])))
    begin, after = np.nonzero(edges == 1)[0], np.nonzero(edges == -1)[0]
    begin_ns, end_ns = t_ns[begin], t_ns[np.minimum(after, len(t_ns) - 1)]
    if not len(begin_ns):
        return Spans(begin_ns, end_ns)
    apart = begin_ns[1:] - end_ns[:-1] > join_gap_ns
    return Spans(begin_ns[np.concatenate(([True], apart))], end_ns[np.concatenate((apart, [True]))])


def bursts(samples: NodeSamples, rate_bps: int, floor_bytes: int, cap_bytes: int, join_gap_ns: int) -> Spans:
    """Return the stretches in which the demand is above the floor, onsets interpolated between samples."""
    demand = demand_bytes(samples, rate_bps, cap_bytes)
    found = stretches(samples.t_ns, demand > floor_bytes, join_gap_ns)
    at = np.searchsorted(samples.t_ns, found.begin_ns)
    before = np.where(at > 0, demand[at - 1], 0.0)
    share = (demand[at] - floor_bytes) / np.maximum(demand[at] - before, 1.0)
    back_ns = np.round(np.clip(share, 0.0, 1.0) * samples.interval_ns()[at]).astype(np.int64)
    return Spans(found.begin_ns - back_ns, found.end_ns)
