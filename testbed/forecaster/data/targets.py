"""What the network is taught: the buffer that the near future will need, and whether a burst starts in it.

The *need* within horizon h is the highest backlog of the fluid queue (``policies/fluid.py``) from a sample to h
samples later, both included, with nothing dropped: exactly the limit that would have saved every packet.  Taught is
the *growth* over what is there already, ``log(1 + (need - q0) / u)`` with u = rate x interval and q0 the backlog at
the sample: what lies in the queue is measured, not guessed.

A *burst* is a stay of the queue above `BURST_INTERVALS` of link time; its onset is the sample in which it gets there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, LOOK_AHEAD
from testbed.policies import fluid
from testbed.records.events import Floats, Ints

BURST_INTERVALS = 2.0

Bools = NDArray[np.bool_]


def limited_path(arrived_bytes: Ints, served_bytes: Floats, limit_bytes: Ints) -> Floats:
    """Return the backlog at the end of every bin of queues with a limit, shape [n, bins].

    Args:
        arrived_bytes: arrivals per bin, shape [n, bins].
        served_bytes: service of one bin, shape [n].
        limit_bytes: buffer limits, shape [n].
    """
    path = np.empty(arrived_bytes.shape)
    backlog = np.zeros(len(arrived_bytes))
    for index in range(arrived_bytes.shape[1]):
        backlog, _ = fluid.serve_bin(backlog, arrived_bytes[:, index], served_bytes, limit_bytes)
        path[:, index] = backlog
    return path


def needs(arrived_bytes: Ints, served_bytes: Floats, backlog_bytes: Ints, bins_per_sample: int) -> Ints:
    """Return the need from each sample on, shape [n, samples - LOOK_AHEAD, horizons].

    Args:
        arrived_bytes: arrivals per bin, shape [n, bins].
        served_bytes: service of one bin, shape [n].
        backlog_bytes: backlog at the end of each sample, shape [n, samples]; the last LOOK_AHEAD of them have no full
            future and are left out.
        bins_per_sample: bins in a sample.
    """
    samples = backlog_bytes.shape[1] - LOOK_AHEAD
    horizon_bins = np.array(HORIZON_SAMPLES, dtype=np.int64) * bins_per_sample
    result = np.empty((len(arrived_bytes), samples, len(horizon_bins)), dtype=np.int64)
    for step in range(samples):
        start = (step + 1) * bins_per_sample
        future = arrived_bytes[:, start : start + LOOK_AHEAD * bins_per_sample]
        result[:, step] = fluid.peak_within(future, served_bytes, backlog_bytes[:, step], horizon_bins)
    return result


def bursts(backlog_peak: Floats, interval_service: Floats) -> tuple[Bools, Bools]:
    """Return in which samples a burst is in progress and in which one starts, both [n, samples].

    Args:
        backlog_peak: highest backlog within each sample, nothing dropped, shape [n, samples].
        interval_service: bytes served in a sample interval, shape [n].
    """
    inside = backlog_peak > BURST_INTERVALS * interval_service[:, None]
    starts = inside.copy()
    starts[:, 1:] &= ~inside[:, :-1]
    return inside, starts


def onset_within(starts: Bools) -> Bools:
    """Return whether a burst starts in the next h samples, shape [n, samples - LOOK_AHEAD, horizons]."""
    samples = starts.shape[1] - LOOK_AHEAD
    counts = np.cumsum(starts, axis=1, dtype=np.int32)
    return np.stack([counts[:, h : h + samples] > counts[:, :samples] for h in HORIZON_SAMPLES], axis=2)
