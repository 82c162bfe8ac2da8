"""What a fault cost: the packets of the flows it hit, by their numbers.

A packet is *lost* when it was sent, is at no sink, and neither a buffer nor a link that loses packets at random dropped
it (`fates`).  Whose loss it is:

* A crashed node and a link that is down count which packets they dropped: these are losses of the fault that was in
  force there at that time.
* Nothing counts what was in the queue of a node when it crashed; the flows show it.  A run is divided into *epochs*,
  and a new one begins with every fault and with every end of a fault.  For each flow, each sink keeps the highest
  number that arrived and the first one of the present epoch.  A flow of the failed node was delivered there up to some
  number and continues, elsewhere or there again after the fault, with the first number of a later epoch: the packets in
  between are losses of the fault.  So are those that a flow lost before any of its packets arrived, if they were to be
  sent before the end of the fault.

Each packet is the loss of one fault, the earliest that fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from testbed.records.events import Ints
from testbed.records.faults import FaultLoss
from testbed.traffic.fates import NOWHERE
from testbed.traffic.numbers import Bools, PacketNumbers
from testbed.traffic.plan import PacketPlan

# Structured, one row a flow, with the fields pkts, highest_seq, epoch and epoch_first_seq.
FlowRows = NDArray[np.void]
_UNSEEN = -1
_NOT_YET = np.iinfo(np.int64).max


class Span(NamedTuple):
    """The epochs in which a fault was in force.

    Attributes:
        begun: the epoch that began with it.
        healed: the one that began with its end; None for a fault that lasted.
    """

    begun: int
    healed: int | None


class Failure(NamedTuple):
    """A fault that takes a node away: when by epochs, and when it was over; None for one that lasted."""

    node: str
    span: Span
    over_ns: int | None


@dataclass(frozen=True, eq=False)
class LostPackets:
    """The packets of a plan that are lost, an entry each, ascending in number.

    Attributes:
        flow, seq: which packet.
        t_ns: when it was to be sent.
        at: row of the node that swallowed it, or whose link did; `NOWHERE` where nobody knows.
        numbers: of the plan.
        planned_ns: when each packet of the plan was to be sent, in the order of the numbers.
    """

    flow: Ints
    seq: Ints
    t_ns: Ints
    at: Ints
    numbers: PacketNumbers
    planned_ns: Ints

    @classmethod
    def of(cls, plan: PacketPlan, lost: Bools, at: Ints) -> LostPackets:
        """Return those of a plan that are lost; `lost` and `at` are in the order of the numbers."""
        numbers = PacketNumbers.of_plan(plan)
        planned_ns, chosen = numbers.in_order(plan.t_ns, plan), np.flatnonzero(lost)
        flow = np.searchsorted(numbers.first, chosen, side="right") - 1
        return cls(flow, chosen - numbers.first[flow], planned_ns[chosen], at[chosen], numbers, planned_ns)

    def __len__(self) -> int:
        return len(self.flow)

    def longest_silence_ns(self, flow: int) -> int:
        """Return the longest time between two packets of a flow, as planned; 0 for a flow of one packet."""
        first = int(self.numbers.first[flow])
        return int(np.diff(self.planned_ns[first : first + int(self.numbers.count[flow])]).max(initial=0))


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
        """Process the flow tables at the end of the present epoch, by node; return the number of the next."""
        number = len(self._epochs)
        stacked = [tables[node] for node in self._rows]
        seen = np.array([table["pkts"] > 0 for table in stacked])
        now = seen & np.array([table["epoch"] == number for table in stacked])
        highest = np.array([table["highest_seq"] for table in stacked], dtype=np.int64)
        first = np.array([table["epoch_first_seq"] for table in stacked], dtype=np.int64)
        self._epochs.append(_Epoch(np.where(seen, highest, _UNSEEN), np.where(now, first, _NOT_YET)))
        return number + 1

    def losses(self, failures: Iterable[Failure], lost: LostPackets) -> Iterator[FaultLoss]:
        """Yield what each failure cost; call it when the last epoch has ended.

        Args:
            failures: in the order in which they began.
            lost: all packets that are lost.
        """
        left = np.ones(len(lost), dtype=np.bool_)
        for failure in failures:
            row, span = self._rows[failure.node], failure.span
            hit = self._epochs[span.begun - 1].last_at(row)
            begin = self._epochs[span.begun : span.healed][-1].highest[row] + 1
            resumed = self._resumed(row, span, begin)
            silent = np.where(hit, begin, 0), np.where(hit, resumed, self._first(span))
            mine = left & self._belongs(lost, failure, *silent)
            left &= ~mine
            moved = np.flatnonzero(hit & (resumed != _NOT_YET))
            times, good_ns = lost.t_ns[mine], lost.planned_ns[lost.numbers.of(moved, resumed[moved])]
            yield FaultLoss(
                flows=int(hit.sum()),
                moved_flows=len(moved),
                lost_pkts=len(times),
                first_lost_ns=min(times.tolist(), default=None),
                last_lost_ns=max(times.tolist(), default=None),
                first_good_ns=min(good_ns.tolist(), default=None),
            )

    def _belongs(self, lost: LostPackets, failure: Failure, begin: Ints, end: Ints) -> Bools:
        """Return which packets fit a failure.

        Those that nobody swallowed fit within the numbers `begin` to `end` of their flow, if it was at the node last,
        or nowhere before.
        """
        row, flow, before = self._rows[failure.node], lost.flow, self._epochs[failure.span.begun - 1]
        in_time = np.ones(len(lost), np.bool_) if failure.over_ns is None else lost.t_ns < failure.over_ns
        silent = (lost.at == NOWHERE) & (begin[flow] <= lost.seq) & (lost.seq < end[flow])
        silent &= before.last_at(row)[flow] | in_time & ~before.seen[flow]
        belongs: Bools = silent | in_time & (lost.at == row)
        return belongs

    def _first(self, span: Span) -> Ints:
        """Return the first number of each flow that anybody has delivered since a fault began: `_NOT_YET` for none."""
        first: Ints = np.min([epoch.first.min(axis=0) for epoch in self._epochs[span.begun :]], axis=0)
        return first

    def _resumed(self, row: int, span: Span, begin: Ints) -> Ints:
        """Return the number with which each flow went on: `_NOT_YET` where it did not."""
        resumed = np.full(len(begin), _NOT_YET)
        for number, epoch in enumerate(self._epochs[span.begun :], span.begun):
            first = np.where(epoch.first >= begin, epoch.first, _NOT_YET)
            if span.healed is None or number < span.healed:
                first[row] = _NOT_YET  # what it still delivers was in its queue
            resumed = np.where(resumed == _NOT_YET, first.min(axis=0), resumed)
        return resumed

    def moved_flows(self, failures: Iterable[tuple[str, Span]], lost: LostPackets) -> Ints:
        """Return the flows that changed node though no failure of a node they were at explains it.

        A flow that was behind a failed node, or from which that node or its link swallowed a packet, has had to move,
        and may do so twice: the switch's own fallback is quicker than the balancer, which then deals by load.
        """
        moved = (self._epochs[-1].highest != _UNSEEN).sum(axis=0) > 1
        for node, span in failures:
            row = self._rows[node]
            moved &= ~self._epochs[span.begun - 1].last_at(row)
            for epoch in self._epochs[span.begun : span.healed]:
                moved &= epoch.first[row] == _NOT_YET
            moved[lost.flow[lost.at == row]] = False
        return np.flatnonzero(moved)


class PlaceHistory:
    """What failures cost where every lost packet is known by its place, so that no flow needs to be followed.

    The tables of a `FlowHistory` have a row for each pair of node and flow, which a thousand nodes cannot afford.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        self._rows = {node: row for row, node in enumerate(nodes)}
        self._epochs = 0

    def end_epoch(self, tables: Mapping[str, FlowRows]) -> int:
        """Return the number of the next epoch; there are no tables to process."""
        self._epochs += 1
        return self._epochs

    def losses(self, failures: Iterable[Failure], lost: LostPackets) -> Iterator[FaultLoss]:
        """Yield what each failure cost: see `FlowHistory.losses`; `flows` are those that lost a packet."""
        left = np.ones(len(lost), dtype=np.bool_)
        for failure in failures:
            in_time = True if failure.over_ns is None else lost.t_ns < failure.over_ns
            mine = left & (lost.at == self._rows[failure.node]) & in_time
            left &= ~mine
            times = lost.t_ns[mine].tolist()
            yield FaultLoss(
                flows=len(np.unique(lost.flow[mine])),
                moved_flows=0,
                lost_pkts=len(times),
                first_lost_ns=min(times, default=None),
                last_lost_ns=max(times, default=None),
            )

    def moved_flows(self, failures: Iterable[tuple[str, Span]], lost: LostPackets) -> Ints:
        """Return none: where flows were is not known."""
        return np.zeros(0, dtype=np.int64)
