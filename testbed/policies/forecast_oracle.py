"""The oracle: reads the traffic plan instead of predicting.

From the present backlog and the planned arrivals it computes the peak of the fluid queue within each horizon: the exact
answer to the question that forecasters estimate.  Forecasters are compared with it, so this is what it knows:

* `KnownArrivals` is the plan per node.  The answer is exact to one bin.  Use it if the node of each packet is known in
  advance: for one node, or for a static assignment of flows.
* `SharedArrivals` is the plan of the whole cluster.  The balancer decides during the run to which node a flow goes, so
  this cannot be known in advance.  So this oracle knows *when* and *how much* arrives, but not *where*, and it
  overestimates only.  Of flows that have been sending for `SHARE_MEMORY_NS`, a node is assumed to get its own recent
  share of the planned traffic.  Flows that begin, or began less than that ago, may all go to this node and count fully.
  The loss is therefore a lower bound: no placement of a burst needs more than the whole burst.  The memory is not a
  bound: every node reserves memory for every burst, so another forecaster may reserve less.  And if the `pool` is too
  small for that, nodes that do not need their memory hold what another node lacks; then the loss is no bound either.
* Any other `FutureArrivals` may be passed in, such as an engine that knows the pins of the flows already placed.

Planned packets count as sent: losses before the node, faults and deflection are not known to the oracle.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from testbed.policies import fluid
from testbed.records.events import Floats, ForecastMade, Ints, TrafficSampled

SHARE_MEMORY_NS = 500_000_000


class FutureArrivals(Protocol):
    """What an oracle knows about the future of n nodes.

    Attributes:
        bin_ns: length of a bin; bin k covers ``[k × bin_ns, (k + 1) × bin_ns)`` since the start of the run.
    """

    bin_ns: int

    def observe(self, sample: TrafficSampled, now_ns: int) -> None:
        """Note the arrivals of the last interval, before the future is read."""
        ...

    def bins(self, first: int, count: int) -> Floats:
        """Return the arrivals of `count` bins from bin `first`, in bytes, shape [n, count]; 0 beyond the plan."""
        ...


class KnownArrivals:
    """The plan per node: `arrived_bytes` int64 [n, bins]."""

    def __init__(self, arrived_bytes: Ints, bin_ns: int) -> None:
        self.bin_ns = bin_ns
        self._arrived: Floats = arrived_bytes.astype(np.float64)

    def observe(self, sample: TrafficSampled, now_ns: int) -> None:
        """Do nothing: the plan is known."""

    def bins(self, first: int, count: int) -> Floats:
        """Return the planned arrivals, shape [n, count]."""
        known = self._arrived[:, first : first + count]
        missing = count - known.shape[1]
        return known if not missing else np.pad(known, ((0, 0), (0, missing)))


class ArrivalCells(NamedTuple):
    """Planned arrivals by their bin and by the bin in which their flow began to send; int64, shape [k], bins ascend.

    A flow starts again when it has been silent for `SHARE_MEMORY_NS`.
    """

    bin: Ints
    begun: Ints
    size_bytes: Ints

    def within(self, first: int, end: int) -> ArrivalCells:
        """Return the cells of bins `first` to `end` - 1."""
        low, high = np.searchsorted(self.bin, (first, end)).tolist()
        return ArrivalCells(*(column[low:high] for column in self))


class SharedArrivals:
    """The plan of the cluster: new flows count fully, older flows by the node's recent share of the traffic.

    The share of a node is the ratio of two sums with exponential decay (`SHARE_MEMORY_NS`): the bytes that arrived at
    it, and the bytes planned for all nodes.  Before the first planned packet, the shares are equal.

    Args:
        cells: planned arrivals of all nodes together, divided by the start times of their flows.
        bin_ns: length of a bin.
        count: number of nodes for which it predicts.
        members: number of nodes in the cluster, for the initial shares.
    """

    def __init__(self, cells: ArrivalCells, bin_ns: int, count: int, members: int) -> None:
        self.bin_ns = bin_ns
        self._cells = cells
        self._young_from = 0
        self._arrived: Floats = np.bincount(cells.bin, weights=cells.size_bytes).astype(np.float64)
        self._sent_by: Floats = np.concatenate([np.zeros(1), np.cumsum(self._arrived)])
        self._seen, self._planned = np.zeros(count), 0.0
        self.share_ratio: Floats = np.full(count, 1.0 / members)

    def observe(self, sample: TrafficSampled, now_ns: int) -> None:
        """Compare the arrivals of the interval with the bytes planned for all nodes."""
        self._young_from = (now_ns - SHARE_MEMORY_NS) // self.bin_ns
        fade = float(np.exp(-sample.interval_ns / SHARE_MEMORY_NS))
        self._seen *= fade
        self._seen += sample.arrived_bytes
        self._planned = self._planned * fade + self._sent(now_ns) - self._sent(now_ns - sample.interval_ns)
        if self._planned > 0.0:
            self.share_ratio = np.minimum(self._seen / self._planned, 1.0)

    def _sent(self, at_ns: int) -> float:
        """Return the bytes planned up to `at_ns`, linear within a bin."""
        whole, rest = divmod(max(at_ns, 0), self.bin_ns)
        if whole >= len(self._arrived):
            return float(self._sent_by[-1])
        return float(self._sent_by[whole] + self._arrived[whole] * (rest / self.bin_ns))

    def bins(self, first: int, count: int) -> Floats:
        """Return an upper bound of the arrivals at each node, shape [n, count]."""
        cells = self._cells.within(first, first + count)
        young = np.where(cells.begun > self._young_from, cells.size_bytes, 0)
        whole, shared = (
            np.bincount(cells.bin - first, weights=part, minlength=count) for part in (young, cells.size_bytes - young)
        )
        return self.share_ratio[:, None] * shared + whole


class OracleForecaster:
    """Computes the coming peak backlog.

    Args:
        future: what is known.
        rate_bps: service rates, shape [n].
        horizon_ns: horizons, ascending.
    """

    def __init__(self, future: FutureArrivals, rate_bps: Ints, horizon_ns: tuple[int, ...]) -> None:
        self._future = future
        self._horizon_ns = horizon_ns
        self._served = fluid.service_bytes(rate_bps, future.bin_ns)
        self._horizon_bins: Ints = -(-np.array(horizon_ns, dtype=np.int64) // future.bin_ns)
        self._longest = int(self._horizon_bins[-1])

    @property
    def horizon_ns(self) -> tuple[int, ...]:
        """Return the horizons, ascending, counted from the sample."""
        return self._horizon_ns

    def step(self, sample: TrafficSampled, now_ns: int) -> ForecastMade:
        """Process the next sample of every node and return what the plan needs.

        Where `now_ns` falls inside a bin, that bin counts with the part of it that is still to come, and the horizons
        are counted from its end.
        """
        self._future.observe(sample, now_ns)
        first, past_ns = divmod(now_ns, self._future.bin_ns)
        start: Ints | Floats = sample.backlog_bytes
        if past_ns:
            left = 1.0 - past_ns / self._future.bin_ns
            start = np.maximum(start + left * (self._future.bins(first, 1)[:, 0] - self._served), 0.0)
            first += 1
        coming = self._future.bins(first, self._longest)
        need = fluid.peak_within(coming, self._served, start, self._horizon_bins)
        np.maximum(need, sample.backlog_bytes[:, None], out=need)
        onset = self._onset(sample.backlog_bytes, need[:, -1])
        return ForecastMade(nodes=sample.nodes, horizon_ns=self._horizon_ns, need_bytes=need, onset_ratio=onset)

    def _onset(self, start: Ints, peak: Ints) -> Floats:
        """Return 1 where the queue will grow by a tenth of the bytes served in the longest horizon, else 0."""
        burst = 0.1 * self._served * self._longest
        return (peak - start > burst).astype(np.float64)
