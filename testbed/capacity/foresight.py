"""The predicted verdict of a scenario on this machine, in the words used by `doctor` and `run`."""

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

_OTHER_SETTINGS = " (measured with other settings; `doctor SCENARIO` measures with these)"


@dataclass(frozen=True, slots=True)
class Foresight:
    """Prediction for a run.

    Attributes:
        forecast: predicted values of the checks of the verdict.
        nearest: changes, each of which would make it VALID, in words.
        costs: costs on this machine.
        load: load of the scenario.
        needed_bytes, free_bytes: memory that the processes need, and free memory.
        caveat: a caveat about the measurement.
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
        """Return whether there is enough memory."""
        return self.needed_bytes <= self.free_bytes

    @property
    def verdict(self) -> Verdict:
        """Return the predicted verdict."""
        return self.forecast.verdict

    @property
    def words(self) -> str:
        """Return one line: the verdict, and the value closest to (or furthest beyond) its bound."""
        if not self.fits:
            return f"it needs {self.needed_bytes / 1e9:.1f} GB of memory, but {self.free_bytes / 1e9:.1f} GB are free"
        if self.verdict == "VALID":
            return f"expected VALID{self.caveat}; closest to its bound: {_value(self.forecast.limit)}"
        limit = self.forecast.limit
        return f"expected {self.verdict}{self.caveat}, limited by {limit.resource}: {_value(limit)}"

    @property
    def remedy(self) -> str:
        """Return what would be VALID here; empty if the scenario is."""
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
        return f"{expected.name} grows without bound"
    bound = expected.bound
    usable = f", DEGRADED up to {short(bound.usable)}" if bound.good < bound.usable < math.inf else ""
    return f"{expected.name} {short(expected.value)} {expected.unit} (VALID up to {short(bound.good)}{usable})"


def machine(costs: Costs, load: Load) -> dict[str, float]:
    """Return measured speeds of the machine, for the scenario's number of ports and nodes, by a name with its unit."""
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
    """Return lines with the speeds of the machine and the demand of the scenario."""
    does = machine(seen.costs, seen.load)
    asked = ", ".join(f"{kind} {cores:.2f}" for kind, cores in seen.forecast.cores_ratio.items())
    return [
        f"switch with {seen.load.ports} ports: at most {does['switch_pps']:,.0f} packets/s; "
        f"{does['switch_packet_alone_us']:.0f} us per packet at low load, {does['switch_packet_dense_us']:.0f} us "
        f"at high load, {does['switch_new_flow_us']:.0f} us per new flow",
        f"agents: {does['agent_tick_us']:.0f} us per wake-up, woken {does['agent_wake_up_us']:.0f} us late; "
        f"mesh: {does['mesh_message_us']:.0f} us per message; {does['node_memory_mb']:.1f} MB per node",
        f"CPU demand in cores, of {seen.costs.cores}: {asked}",
    ]


def foresee(scenario: Scenario, network: Network, plan: PacketPlan) -> Foresight:
    """Measure this machine, store the result, and return the prediction for a run.  Takes up to 10 s, needs root.

    Raises:
        TestbedError: a trial of the measurement failed.
    """
    costs = probe.measure(scenario)
    measured.keep(scenario, costs)
    return expected(costs, load_of(scenario, network, plan))


def recalled(scenario: Scenario, network: Network, plan: PacketPlan) -> Foresight | None:
    """Return the prediction from the last measurement of this machine; None without one.  Takes some 0.2 s.

    A measurement with the scenario's settings is preferred to a later one with others; the words mention the latter.
    """
    found = measured.recall(scenario)
    if found is None:
        return None
    costs = replace(found.costs, other_ratio=probe.other_ratio())
    seen = expected(costs, load_of(scenario, network, plan))
    return seen if found.same_settings else replace(seen, caveat=_OTHER_SETTINGS)


def expected(costs: Costs, load: Load) -> Foresight:
    """Return the prediction for a load with the given costs."""
    made = forecast(load, costs)
    changes = () if made.verdict == "VALID" else tuple(nearest(load, costs))
    needed = int(costs.node_bytes * load.nodes + costs.fixed_bytes)
    return Foresight(made, changes, costs, load, needed, measured.free_bytes())
