"""Costs on a machine as measured by `probe`: plain values that can be stored."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from testbed.capacity.load import Load
from testbed.files import records
from testbed.files.records import Count
from testbed.units import NS_PER_S


class Slope(NamedTuple):
    """A cost that grows along a straight line: what is there anyway, and what each unit adds."""

    fixed: float
    each: float

    def at(self, units: float) -> float:
        """Return the cost of so many units."""
        return self.fixed + self.each * units

    @classmethod
    def through(cls, first: tuple[float, float], second: tuple[float, float]) -> Slope:
        """Return the line through two pairs of units and cost; neither part of it is less than nothing.

        Of one point alone (or two of equal units) it is the line from zero: all units are assumed equal.
        """
        (few, less), (many, more) = sorted((first, second))
        if many <= 0:
            return cls(max(less, more), 0.0)
        each = (more - less) / (many - few) if many > few else more / many
        each = min(max(each, 0.0), more / many)
        return cls(max(0.0, more - each * many), each)


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of a machine for scenarios with the settings of one.

    Shares are of one core, times in ns.

    Attributes:
        cores: how many processors we may use.
        other_ratio: what other work on the machine takes of a core, at the time of the measurement.
        agents_ratio: of all agents whose nodes tick one by one, by ticks a second.
        cohort_ratio: of all agents whose nodes tick together, by wake-ups a second.
        mesh_ratio: of all members of the mesh, by messages a second.
        control_ratio, rest_ratio: of the controllers, and of all that is not named here, by nodes.
        record_ratio: of who writes the samples down, by ticks a second.
        agent_processes, mesh_processes: number of processes of agents and of the mesh, by nodes.
        paces_pps: the rates at which switch and sender were measured, ascending; the last is more than can be done.
        switch_ns: what a packet costs the switch at each of them, by ports.
        send_ns: what it costs a sender at each of them.
        flow_ns: what the first packet of a flow costs the switch beside.
        late_ns: how late an agent wakes that waits for nobody: the median.
        turn_variation: squared coefficient of variation of an agent's tick.
        node_bytes: memory of a node's processes.
        fixed_bytes: memory of all else.
    """

    cores: Count
    other_ratio: float
    agents_ratio: Slope
    cohort_ratio: Slope
    mesh_ratio: Slope
    control_ratio: Slope
    rest_ratio: Slope
    record_ratio: Slope
    agent_processes: Slope
    mesh_processes: Slope
    paces_pps: tuple[float, ...]
    switch_ns: tuple[Slope, ...]
    send_ns: tuple[float, ...]
    flow_ns: float
    late_ns: float
    turn_variation: float
    node_bytes: float
    fixed_bytes: float

    def __post_init__(self) -> None:
        """Refuse curves without a point, or with a point that only one of them has.

        Raises:
            ValueError: they are such.
        """
        if not self.paces_pps or not len(self.paces_pps) == len(self.switch_ns) == len(self.send_ns):
            raise ValueError("the costs of switch and sender are given for different packet rates")

    def switch_packet_ns(self, pps: float, ports: int) -> float:
        """Return what a packet costs a switch of so many ports at a rate."""
        return float(np.interp(pps, self.paces_pps, [slope.at(ports) for slope in self.switch_ns]))

    def agents_at(self, load: Load) -> float:
        """Return the share of a core that all agents of a load take."""
        own = self.agents_ratio.at(load.own_ticks * NS_PER_S / load.interval_ns) if load.own_ticks else 0.0
        return own + self.cohort_ratio.at(load.common_ticks * NS_PER_S / load.interval_ns)

    def densest_ns(self, ports: int) -> float:
        """Return what a packet costs the switch when it has more of them than it can do."""
        return self.switch_ns[-1].at(ports)

    def send_packet_ns(self, pps: float) -> float:
        """Return what a packet costs its sender at a rate."""
        return float(np.interp(pps, self.paces_pps, self.send_ns))

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dataclasses.asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Costs:
        """Return the costs that `to_record` wrote.

        Raises:
            pydantic.ValidationError: it is none of them.
        """
        return records.made(record, cls)
