"""What a run of a scenario will come to on this machine, in the words that `doctor` and `run` share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from testbed.capacity import measured, probe
from testbed.capacity.costs import Costs
from testbed.capacity.load import Load, load_of
from testbed.capacity.model import Expected, Forecast, forecast
from testbed.capacity.nearest import nearest
from testbed.results.fidelity.check import Verdict, short
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_S

_OTHER_SETTINGS = " (by a measurement under other settings; `doctor SCENARIO` makes one)"


@dataclass(frozen=True, slots=True)
class Foresight:
    """What is expected of a run.

    Attributes:
        forecast: what the verdict is expected to measure.
        nearest: the changes that would each make it VALID, in words.
        costs: what things cost here.
        load: what the scenario asks for.
        needed_bytes, free_bytes: memory that the processes will take, and that there is.
        caveat: what there is to know of the measurement.
    """

    forecast: Forecast
    nearest: tuple[str, ...]
    costs: Costs
    load: Load
    needed_bytes: int
    free_bytes: int
    caveat: str = ""

    @property
    def fits(self) -> bool:
        """Tell whether there is memory for it."""
        return self.needed_bytes <= self.free_bytes

    @property
    def verdict(self) -> Verdict:
        """Return the verdict that is expected."""
        return self.forecast.verdict

    @property
    def words(self) -> str:
        """Return one line: the verdict, and what limits it most."""
        if not self.fits:
            return f"it takes {self.needed_bytes / 1e9:.1f} GB of memory, and {self.free_bytes / 1e9:.1f} GB are free"
        if self.verdict == "VALID":
            return f"expected VALID{self.caveat}; next to its limit is {_value(self.forecast.limit)}"
        limit = self.forecast.limit
        return f"expected {self.verdict}{self.caveat}, for want of {limit.resource}: {_value(limit)}"

    @property
    def remedy(self) -> str:
        """Return what would be VALID here; empty where it is."""
        if self.fits and self.verdict == "VALID":
            return ""
        return (
            f"to be VALID here: {', or '.join(self.nearest)}"
            if self.nearest
            else "use --engine simulation, or more cores"
        )

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        values = [
            {"name": v.name, "resource": v.resource, "value": _finite(v.value), "unit": v.unit, "verdict": v.verdict,
             "good": v.bound.good, "usable": _finite(v.bound.usable)}
            for v in self.forecast.values
        ]  # fmt: skip
        return {
            "verdict": self.verdict if self.fits else None, "limit": self.forecast.limit.resource, "words": self.words,
            "nearest": list(self.nearest), "values": values, "cores": self.forecast.cores_ratio,
            "machine": machine(self.costs, self.load), "costs": self.costs.to_record(),
            "needed_bytes": self.needed_bytes, "free_bytes": self.free_bytes,
        }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _value(expected: Expected) -> str:
    if math.isinf(expected.value):
        return f"{expected.name} grows without end"
    bound = expected.bound
    usable = f", usable up to {short(bound.usable)}" if bound.good < bound.usable < math.inf else ""
    return f"{expected.name} {short(expected.value)} {expected.unit} (good up to {short(bound.good)}{usable})"


def machine(costs: Costs, load: Load) -> dict[str, float]:
    """Return what the machine does, at the scenario's number of ports and nodes, by a name with its unit."""
    messages = load.messages_per_s
    return {
        "cores": costs.cores,
        "other_work_cores": costs.other_ratio,
        "switch_pps": NS_PER_S / max(costs.densest_ns(load.ports), 1.0),
        "switch_packet_alone_us": costs.switch_packet_ns(0, load.ports) / 1e3,
        "switch_packet_dense_us": costs.densest_ns(load.ports) / 1e3,
        "switch_new_flow_us": costs.flow_ns / 1e3,
        "send_packet_us": costs.send_packet_ns(0) / 1e3,
        "agent_tick_us": costs.agents_at(load) / load.wake_ups_per_s * 1e6,
        "mesh_message_us": costs.mesh_ratio.at(messages) / messages * 1e6 if messages else 0.0,
        "agent_wake_up_us": costs.late_ns / 1e3,
        "node_memory_mb": costs.node_bytes / 1e6,
    }


def machine_lines(seen: Foresight) -> list[str]:
    """Return what the machine does and what the scenario asks of it, a line each."""
    does = machine(seen.costs, seen.load)
    asked = ", ".join(f"{kind} {cores:.2f}" for kind, cores in seen.forecast.cores_ratio.items())
    return [
        f"switch at {seen.load.ports} ports: {does['switch_pps']:,.0f} packets a second at most; "
        f"{does['switch_packet_alone_us']:.0f} us for a packet by itself, {does['switch_packet_dense_us']:.0f} us "
        f"among many, {does['switch_new_flow_us']:.0f} us for a new flow",
        f"agents: {does['agent_tick_us']:.0f} us a wake-up, {does['agent_wake_up_us']:.0f} us late; "
        f"mesh: {does['mesh_message_us']:.0f} us a message; {does['node_memory_mb']:.1f} MB a node",
        f"cores asked for, of {seen.costs.cores}: {asked}",
    ]


def foresee(scenario: Scenario, network: Network, plan: PacketPlan) -> Foresight:
    """Measure this machine, keep what was measured, and return what is expected of a run.  Takes up to 10 s, as root.

    Raises:
        TestbedError: a trial of the measurement failed.
    """
    costs = probe.measure(scenario)
    measured.keep(scenario, costs)
    return expected(costs, load_of(scenario, network, plan))


def recalled(scenario: Scenario, network: Network, plan: PacketPlan) -> Foresight | None:
    """Return what is expected by the last measurement of this machine; None without one.  Takes some 0.2 s.

    One under the scenario's settings goes before a later one under others, and of those the words say so.
    """
    found = measured.recall(scenario)
    if found is None:
        return None
    costs = replace(found.costs, other_ratio=probe.other_ratio())
    seen = expected(costs, load_of(scenario, network, plan))
    return seen if found.same_settings else replace(seen, caveat=_OTHER_SETTINGS)


def expected(costs: Costs, load: Load) -> Foresight:
    """Return what is expected of a load where things cost `costs`."""
    made = forecast(load, costs)
    changes = () if made.verdict == "VALID" else tuple(nearest(load, costs))
    needed = int(costs.node_bytes * load.nodes + costs.fixed_bytes)
    return Foresight(made, changes, costs, load, needed, measured.free_bytes())
