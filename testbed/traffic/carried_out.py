"""The faults that an engine has carried out: what they hit, for how long, and what they cost."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from testbed.records.events import values_of
from testbed.records.faults import AboutFault, FaultLosses
from testbed.scenario.fault import FaultSpec
from testbed.scenario.fault_timeline import FaultStep
from testbed.traffic.fault_losses import Failure, FlowHistory, FlowRows, LostPackets, PlaceHistory, Span

_About = TypeVar("_About", bound=AboutFault)


@dataclass(slots=True)
class Fault:
    """A fault that was carried out.

    Attributes:
        step: its beginning.
        spec: what it is.
        commanded_ns: when.
        epoch: the one that began with it (see `fault_losses`).
        over_ns: when it was healed; None: not yet.
        healed_epoch: the one that began with its end.
        counted_pkts: planned packets it cost, as counted at the place; None until that is known.
        stays: of a partition, the group that is to stay; `CarriedOut.add` says which.
    """

    step: FaultStep
    spec: FaultSpec
    commanded_ns: int
    epoch: int
    over_ns: int | None = None
    healed_epoch: int | None = None
    counted_pkts: int | None = None
    stays: tuple[str, ...] = ()

    @property
    def victims(self) -> tuple[str, ...]:
        """Return the nodes that may be suspected because of it: of a partition all but the group that stays."""
        if self.spec.node:
            return (self.spec.node,)
        return tuple(node for group in self.spec.groups if group != self.stays for node in group)

    @property
    def span(self) -> Span:
        """Return the epochs in which it was in force."""
        return Span(self.epoch, self.healed_epoch)

    @property
    def ends_with_traffic(self) -> bool:
        """Return whether it is over when sending ends, at the latest."""
        when = self.spec.row.ends_with_traffic
        return when == "always" or (when == "timed" and self.spec.for_ns is not None)

    def record_of(self, kind: type[_About], **fields: Any) -> _About:
        """Return a record about it; `fields` are those beyond `AboutFault`."""
        step = self.step
        return kind(fault=step.fault, turn=step.turn, what=self.spec.kind, nodes=self.victims, **fields)


def staying_group(groups: Sequence[tuple[str, ...]], nodes: Sequence[str], gone: Collection[str]) -> tuple[str, ...]:
    """Return the group of a divided mesh that stays, whatever the order in which the groups are written.

    It is the one with most nodes that live; of several as large the one with the first of the network's nodes.  So
    decides `policies.agreement`.
    """
    living = [[nodes.index(node) for node in group if node not in gone] for group in groups]
    ranked = [(-len(rows), min(rows, default=len(nodes)), place) for place, rows in enumerate(living)]
    return groups[min(ranked)[2]]


class CarriedOut:
    """All of them, and where every flow was meanwhile."""

    def __init__(self, nodes: tuple[str, ...], *, by_place: bool = False) -> None:
        """Begin with none; `by_place`: every packet that is lost is known by its place (`PlaceHistory`)."""
        self._faults: dict[tuple[int, int], Fault] = {}
        self._nodes = nodes
        self._history = PlaceHistory(nodes) if by_place else FlowHistory(nodes)

    @property
    def every(self) -> tuple[Fault, ...]:
        """Return all of them."""
        return tuple(self._faults.values())

    def of(self, step: FaultStep) -> Fault:
        """Return the fault that a step belongs to."""
        return self._faults[step.fault, step.turn]

    def add(self, fault: Fault) -> Fault:
        """Process a fault that has just been commanded."""
        if fault.spec.groups:
            fault.stays = staying_group(fault.spec.groups, self._nodes, self._crashed_now())
        self._faults[fault.step.fault, fault.step.turn] = fault
        return fault

    def __iter__(self) -> Iterator[Fault]:
        """Yield them in the order of their commands."""
        yield from self._faults.values()

    def to_end(self) -> list[Fault]:
        """Return the faults that are over when sending ends and not yet healed: what is stopped could not be ended."""
        return [fault for fault in self._faults.values() if fault.over_ns is None and fault.ends_with_traffic]

    def end_epoch(self, tables: Mapping[str, FlowRows]) -> int:
        """See `FlowHistory.end_epoch`; the last one ends when the queues are drained."""
        return self._history.end_epoch(tables)

    def moved_flows_ns(self, lost: LostPackets, idle_ns: int) -> tuple[int, ...]:
        """Return when the flows began that changed node though no fault hit them; when the last epoch has ended.

        A flow that is silent for `idle_ns` may rightly be assigned again, and the switch counts idle times no finer
        than by half of that: such flows are left out.
        """
        hits = [(node, fault.span) for fault in self._faults.values() for node in fault.victims]
        moved = self._history.moved_flows(hits, lost)
        steady = [flow for flow in moved.tolist() if lost.longest_silence_ns(flow) < idle_ns // 2]
        return tuple(lost.planned_ns[lost.numbers.first[steady]].tolist())

    def _crashed_now(self) -> set[str]:
        return {f.spec.node for f in self._faults.values() if f.spec.row.ends_processes and f.over_ns is None}

    def crashes(self, node: str) -> int:
        """Return how often the processes of a node were killed."""
        return sum(fault.spec.row.ends_processes for fault in self._of(node))

    def absent_ns(self, node: str, ran_ns: int) -> int:
        """Return how long, until `ran_ns`, the processes of a node did not run."""
        return sum(
            min(ran_ns, fault.over_ns or ran_ns) - min(ran_ns, fault.commanded_ns)
            for fault in self._of(node)
            if fault.spec.row.holds_processes
        )

    @property
    def breaking(self) -> list[Fault]:
        """Return those that took a node away."""
        return [fault for fault in self._faults.values() if fault.spec.row.takes_node_away]

    def losses(self, lost: LostPackets) -> Iterator[FaultLosses]:
        """Yield what each fault cost, as it is recorded; call it when the last epoch has ended."""
        failures = [Failure(fault.spec.node, fault.span, fault.over_ns) for fault in self.breaking]
        for fault, loss in zip(self.breaking, self._history.losses(failures, lost), strict=True):
            yield fault.record_of(FaultLosses, counted_pkts=fault.counted_pkts, **values_of(loss))

    def _of(self, node: str) -> list[Fault]:
        return [fault for fault in self._faults.values() if fault.spec.node == node]
