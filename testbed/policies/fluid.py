"""Fluid queue arithmetic: backlogs and their peaks from arrivals per bin.

A queue with the service rate C receives ``a[k]`` bytes in bin k.  At the end of each bin its backlog is (Lindley's
recursion)

    q[k] = max(0, q[k-1] + a[k] - c),        c = C × bin

Unrolled, with ``S[k] = q[-1] + sum of (a[j] - c), j <= k``, this is ``q[k] = S[k] - min(0, min of S[j], j <= k)``: two
cumulative operations instead of a loop over the bins, for any number of queues at once.

Accuracy.  Bytes are treated as a fluid that arrives evenly within a bin.  So a peak inside a bin that has drained at
the end of the bin is not seen; the error is smaller than the arrivals of one bin.  The service of a bin is a real
number of bytes (a bin of 1 ms at 33 Mbit/s serves 4125 bytes).  So backlogs are float64 and are rounded up to whole
bytes only when they become sizes.

Source: D. V. Lindley, "The theory of queues with a single server", 1952.  Ours is the fluid form with a fixed service
per bin, on arrays.
"""

from __future__ import annotations

import numpy as np

from testbed.records.events import Floats, Ints

BITS_TIMES_NS = 8e9  # bit/s × ns in one byte
_ROUNDING_BYTES = 1e-3  # tolerance for sums of floats slightly above a whole number


def service_bytes(rate_bps: Ints, bin_ns: int) -> Floats:
    """Return the bytes that a queue with `rate_bps` (any shape) serves in `bin_ns`."""
    return np.asarray(rate_bps, dtype=np.float64) * (bin_ns / BITS_TIMES_NS)


def whole_bytes(amount: Floats) -> Ints:
    """Return `amount` rounded up to whole bytes."""
    return np.ceil(amount - _ROUNDING_BYTES).astype(np.int64)


def backlog_path(arrived_bytes: Ints | Floats, served_bytes: Floats, start_bytes: Ints | Floats) -> Floats:
    """Return the backlog at the end of every bin if nothing is dropped, shape [n, bins].

    Args:
        arrived_bytes: arrivals per bin, shape [n, bins].
        served_bytes: service of one bin, shape [n].
        start_bytes: backlog before the first bin, shape [n].
    """
    path: Floats = np.add.accumulate(arrived_bytes - served_bytes[:, None], axis=1)
    path += start_bytes[:, None]
    lowest = np.minimum.accumulate(path, axis=1)
    np.minimum(lowest, 0.0, out=lowest)
    path -= lowest
    return path


def peak_within(
    arrived_bytes: Ints | Floats, served_bytes: Floats, start_bytes: Ints | Floats, horizon_bins: Ints
) -> Ints:
    """Return the highest backlog within each horizon, the present one included, shape [n, horizons].

    This is the smallest limit without a drop in the horizon.

    Args:
        arrived_bytes: coming arrivals per bin, shape [n, bins]; at least the longest horizon.
        served_bytes: service of one bin, shape [n].
        start_bytes: present backlog, shape [n].
        horizon_bins: horizons as numbers of bins, each at least 1, shape [horizons].
    """
    path = backlog_path(arrived_bytes, served_bytes, start_bytes)
    np.maximum.accumulate(path, axis=1, out=path)
    peaks = path.take(horizon_bins - 1, axis=1)
    return whole_bytes(np.maximum(peaks, start_bytes[:, None]))


def peaks_ahead(path_bytes: Floats, bins: int) -> Floats:
    """Return, for every bin of a path, its maximum from that bin to `bins` later; same shape [n, bins of the path].

    Near the end, the window is the rest of the path.  The cost grows with log(bins).
    """
    peaks: Floats = path_bytes.copy()
    span, window = 1, min(bins + 1, path_bytes.shape[1])
    while span < window:
        shift = min(span, window - span)
        np.maximum(peaks[:, :-shift], peaks[:, shift:], out=peaks[:, :-shift])
        span += shift
    return peaks


def serve_bin(
    backlog_bytes: Floats, arrived_bytes: Ints | Floats, served_bytes: Floats, limit_bytes: Ints
) -> tuple[Floats, Floats]:
    """Return backlog and dropped bytes after one bin of finite buffers, each shape [n].

    If a limit is below the backlog (after a shrink), nothing is admitted and nothing removed: the queue drains.
    """
    uncut = np.maximum(backlog_bytes + arrived_bytes - served_bytes, 0.0)
    highest = np.maximum(limit_bytes, backlog_bytes - served_bytes)
    backlog = np.minimum(uncut, highest)
    return backlog, uncut - backlog
