"""What a fault cost: the packets of the flows it hit, by sequence number.

A run is divided into *epochs*; one begins with every fault and with every end of a fault.  At each sink every flow
knows the highest number that arrived and the first one of the present epoch.  A flow of the failed node was delivered
there up to some number and goes on, elsewhere or there again when it is healed, with the first number of a later
epoch: the numbers between are lost, and the plan knows when each was to be sent.  So the loss is told packet by packet
without a record of every packet.  Numbers that a full buffer dropped at the seam count too; a flow that never goes on
has lost all that was still to come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from testbed.events import Ints
from testbed.traffic.plan import PacketPlan

# Structured, one row a flow, with the fields pkts, highest_seq, epoch and epoch_first_seq.
FlowRows = NDArray[np.void]
_UNSEEN = -1
_NOT_YET = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class FaultLoss:
    """The loss of one fault.

    Attributes:
        flows: those that were delivered behind the failed node last.
        moved_flows: those that went on, elsewhere or behind the node when it had healed.
        lost_pkts: numbers that were delivered nowhere.
        first_lost_ns, last_lost_ns: planned times of the first and the last of them; None without any.
        first_good_ns: planned time of the first packet with which a flow went on; None without any.
    """

    flows: int
    moved_flows: int
    lost_pkts: int
    first_lost_ns: int | None
    last_lost_ns: int | None
    first_good_ns: int | None


class Span(NamedTuple):
    """The epochs in which a fault was in force.

    Attributes:
        begun: the epoch that began with it.
        healed: the one that began with its end; None for a fault that lasted.
    """

    begun: int
    healed: int | None


class PlannedTimes:
    """When packet `seq` of a flow is planned."""

    def __init__(self, plan: PacketPlan) -> None:
        self._t_ns = plan.t_ns[np.argsort(plan.flow, kind="stable")]  # numbers rise with time within a flow
        self._starts = np.concatenate(([0], np.cumsum(np.bincount(plan.flow, minlength=len(plan.flows)))))

    def until(self, flow: int, end_ns: int) -> int:
        """Return how many packets of the flow are planned before `end_ns`."""
        return int(np.searchsorted(self._of(flow), end_ns))

    def at(self, flow: int, seq: int) -> int:
        """Return the planned time of one packet."""
        return int(self._of(flow)[seq])

    def _of(self, flow: int) -> Ints:
        times: Ints = self._t_ns[self._starts[flow] : self._starts[flow + 1]]
        return times


class _Epoch(NamedTuple):
    """What the sinks knew at the end of an epoch; arrays of shape [nodes, flows].

    Attributes:
        highest: highest number ever, `_UNSEEN` without any.
        first: first number of this epoch, `_NOT_YET` without any.
    """

    highest: Ints
    first: Ints

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Return which flows were delivered anywhere so far."""
        seen: NDArray[np.bool_] = (self.highest != _UNSEEN).any(axis=0)
        return seen

    def last_at(self, row: int) -> NDArray[np.bool_]:
        """Return which flows were delivered behind that node last."""
        last: NDArray[np.bool_] = (self.highest.argmax(axis=0) == row) & (self.highest[row] != _UNSEEN)
        return last


class FlowHistory:
    """Where every flow was, epoch by epoch."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._rows = {node: row for row, node in enumerate(nodes)}
        self._epochs: list[_Epoch] = []

    def end_epoch(self, tables: Mapping[str, FlowRows]) -> int:
        """Take in the flow tables at the end of the present epoch, by node; return the number of the next."""
        number = len(self._epochs)
        stacked = [tables[node] for node in self._rows]
        seen = np.array([table["pkts"] > 0 for table in stacked])
        now = seen & np.array([table["epoch"] == number for table in stacked])
        highest = np.array([table["highest_seq"] for table in stacked], dtype=np.int64)
        first = np.array([table["epoch_first_seq"] for table in stacked], dtype=np.int64)
        self._epochs.append(_Epoch(np.where(seen, highest, _UNSEEN), np.where(now, first, _NOT_YET)))
        return number + 1

    def loss_of(self, victim: str, span: Span, times: PlannedTimes, ran_ns: int) -> FaultLoss:
        """Return what the failure of a node cost; call it when the last epoch has ended.

        Args:
            victim: the node.
            span: when it failed.
            times: of the plan.
            ran_ns: when sending ended.
        """
        row = self._rows[victim]
        hit = self._epochs[span.begun - 1].last_at(row)
        begin = self._epochs[span.begun : span.healed][-1].highest[row] + 1
        resumed = self._resumed(row, span, begin)
        lost, first_lost_ns, last_lost_ns = 0, [], []
        for flow in np.flatnonzero(hit & (resumed > begin)).tolist():
            end = int(resumed[flow]) if resumed[flow] != _NOT_YET else times.until(flow, ran_ns)
            if end > begin[flow]:
                lost += end - int(begin[flow])
                first_lost_ns.append(times.at(flow, int(begin[flow])))
                last_lost_ns.append(times.at(flow, end - 1))
        moved = np.flatnonzero(hit & (resumed != _NOT_YET)).tolist()
        good_ns = [times.at(flow, int(resumed[flow])) for flow in moved]
        return FaultLoss(
            flows=int(hit.sum()),
            moved_flows=len(moved),
            lost_pkts=lost,
            first_lost_ns=min(first_lost_ns, default=None),
            last_lost_ns=max(last_lost_ns, default=None),
            first_good_ns=min(good_ns, default=None),
        )

    def _resumed(self, row: int, span: Span, begin: Ints) -> Ints:
        """Return the number with which each flow went on: `_NOT_YET` where it did not."""
        resumed = np.full(len(begin), _NOT_YET)
        for number, epoch in enumerate(self._epochs[span.begun :], span.begun):
            first = np.where(epoch.first >= begin, epoch.first, _NOT_YET)
            if span.healed is None or number < span.healed:
                first[row] = _NOT_YET  # what it still delivers was in its queue
            resumed = np.where(resumed == _NOT_YET, first.min(axis=0), resumed)
        return resumed

    def broken_flows(self, failures: Iterable[tuple[str, Span]]) -> int:
        """Return how many flows changed node although their node served.

        A flow that was behind a failed node has had to move, and may do so twice: the switch's own fallback is quicker
        than the balancer, which then deals by load.  The fallback may be the first to see a flow that began while the
        node failed and was meant for it, so such flows are excused too.
        """
        excused = np.zeros(self._epochs[-1].highest.shape[1], dtype=bool)
        for node, span in failures:
            row = self._rows[node]
            excused |= self._epochs[span.begun - 1].last_at(row)
            failing = self._epochs[span.begun : span.healed]
            for epoch in failing:
                excused |= epoch.first[row] != _NOT_YET
            excused |= failing[-1].seen & ~self._epochs[span.begun - 1].seen
        places = (self._epochs[-1].highest != _UNSEEN).sum(axis=0)
        return int(np.sum((places > 1) & ~excused))
