"""The faults that an engine has carried out: what they hit, for how long, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from testbed.spec.scenario import FaultSpec
from testbed.traffic.fault_losses import FlowRows, PlannedTimes, loss_of
from testbed.traffic.plan import PacketPlan

BREAKING = ("crash", "link_down")  # kinds that cost packets
ABSENT = ("crash", "pause")  # kinds that keep the processes of a node from running


@dataclass(slots=True)
class Fault:
    """A fault that was carried out.

    Attributes:
        number: in the scenario.
        spec: what it is.
        commanded_ns: when.
        over_ns: when it was healed; None: not yet.
        flows: flow tables of all sinks just before a fault that costs packets, by node.
    """

    number: int
    spec: FaultSpec
    commanded_ns: int
    over_ns: int | None = None
    flows: Mapping[str, FlowRows] = field(default_factory=dict)

    @property
    def victims(self) -> tuple[str, ...]:
        """Return the nodes that may be suspected because of it: of a partition all but the largest group."""
        groups = self.spec.partition
        if groups is None:
            return (self.spec.node,) if self.spec.node else ()
        largest = max(groups, key=len)
        return tuple(node for group in groups if group is not largest for node in group)

    def record(self) -> dict[str, Any]:
        """Return what every line about it in ``events.jsonl`` begins with."""
        return {"fault": self.number, "what": self.spec.kind, "nodes": list(self.victims)}


class CarriedOut:
    """All of them, by number."""

    def __init__(self) -> None:
        self._faults: dict[int, Fault] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._faults

    def __getitem__(self, number: int) -> Fault:
        return self._faults[number]

    def add(self, fault: Fault) -> Fault:
        """Take in a fault that has just been commanded."""
        self._faults[fault.number] = fault
        return fault

    @property
    def failed(self) -> frozenset[str]:
        """Return the nodes that a fault hit in a way that may move their flows."""
        return frozenset(node for fault in self._faults.values() for node in fault.victims)

    def crashes(self, node: str) -> int:
        """Return how often the processes of a node were killed."""
        return sum(fault.spec.kind == "crash" for fault in self._of(node))

    def absent_ns(self, node: str, ran_ns: int) -> int:
        """Return how long, until `ran_ns`, the processes of a node did not run."""
        return sum(
            min(ran_ns, fault.over_ns or ran_ns) - min(ran_ns, fault.commanded_ns)
            for fault in self._of(node)
            if fault.spec.kind in ABSENT
        )

    def losses(
        self, after: Mapping[str, FlowRows], plan: PacketPlan, ran_ns: int
    ) -> Iterator[tuple[Fault, dict[str, Any]]]:
        """Yield what each fault cost, as it is recorded; `after` are the flow tables at the end of the run."""
        times = PlannedTimes(plan)
        for fault in self._faults.values():
            if fault.flows:
                yield fault, asdict(loss_of(fault.spec.node, fault.flows, after, times, ran_ns))

    def _of(self, node: str) -> list[Fault]:
        return [fault for fault in self._faults.values() if fault.spec.node == node]
