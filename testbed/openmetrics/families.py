"""The metrics of a trial for Prometheus: one row for each metric family, live or from a finished run.

A family says where its values come from: a column of the samples (`records.samples`) or records of ``events.jsonl``.
`live.py` and `history.py` read these rows, ``docs/reference/openmetrics.md`` is made from them.  Names follow the
conventions of Prometheus: a prefix, base units (seconds, bytes, ratios of 1), and ``_total`` at a counter, which the
exposition adds.  Every series has the labels of `run_labels`; one about a node has ``node`` beside.

Source: https://prometheus.io/docs/practices/naming/ and the OpenMetrics specification 1.0.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.records.events import NodesNotified, PlaceFlow, Record, RemoveNode, RestoreNode, SetBufferLimit, SetSlots
from testbed.records.facts import RunFacts
from testbed.records.faults import FaultCommanded, FaultHealed, FaultObserved
from testbed.records.processes import ControllerTookOver, MemberDied, MemberSilent, NotificationLost
from testbed.units import NS_PER_S

BUCKETS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the buckets of every histogram but the last, which has none; in seconds."""


def run_labels(run: str, facts: RunFacts) -> dict[str, str]:
    """Return the labels of every series; `run` is the name of the run directory, ``policy`` the buffer's."""
    return {"run": run, "scenario": facts.scenario, "policy": facts.buffer_policy}


class Fold(enum.Enum):
    """How the rows of a sample column become the value of a series."""

    LAST = "gauge"
    SUM = "counter"
    RUNNING = "counter of a column that is cumulative already"
    SPREAD = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFamily:
    """A metric family that comes from a column of the samples, a series for each node.

    Attributes:
        name: without ``_total``.
        doc: what it means; the HELP line.
        column: of `records.samples.COLUMNS`.
        fold: how its rows become a value.
        divisor: what the column is divided by for the base unit.
    """

    name: str
    doc: str
    column: str
    fold: Fold = Fold.LAST
    divisor: int = 1

    @property
    def kind(self) -> str:
        """Return the type of OpenMetrics: gauge, counter or histogram."""
        return "counter" if self.fold is Fold.RUNNING else self.fold.value


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFamily:
    """A metric family of the run as a whole, or of what only the end of a run tells.

    Attributes:
        name, doc: as of a `SampleFamily`.
        kind: the type of OpenMetrics.
        labels: beside those of the run.
        only: ``live`` or ``export``, when the other has no such value; empty: both have.
    """

    name: str
    doc: str
    kind: str
    labels: tuple[str, ...] = ()
    only: str = ""

    @property
    def sample(self) -> str:
        """Return the name of its samples; a histogram has several, with suffixes."""
        return self.name + {"info": "_info", "counter": "_total"}.get(self.kind, "")


Event = Mapping[str, Any]
Counts = Callable[[Event], tuple[str, ...]]
"""Returns the value of a family's label for each unit that a record counts for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFamily:
    """A counter of records in ``events.jsonl``.

    Attributes:
        name, doc: as of a `SampleFamily`.
        records: the kinds of records that are counted; empty: all.
        label: the label that distinguishes them; empty: none.
        counts: makes what counts a record; it is created for each trial, since it may compare a record with the
            one before.
    """

    name: str
    doc: str
    records: tuple[type[Record], ...] = ()
    label: str = "node"
    counts: Callable[[], Counts] = lambda: _nodes

    kind = "counter"


def _nodes(event: Event) -> tuple[str, ...]:
    """Return the nodes a record is about; of an abbreviated one, which lists none, an empty name for each."""
    if "node" in event:
        return (str(event["node"]),)
    return tuple(event["nodes"]) if "nodes" in event else ("",) * int(event.get("rows", 1))


def _kind(event: Event) -> tuple[str, ...]:
    return (str(event["kind"]),)


def _what(event: Event) -> tuple[str, ...]:
    return (str(event["what"]),)


def _once(_: Event) -> tuple[str, ...]:
    return ("",)


class _SlotsMoved:
    """Counts the slots that differ between a table and the one before; the first table moves none."""

    def __init__(self) -> None:
        self._slots: list[str] = []

    def __call__(self, event: Event) -> tuple[str, ...]:
        """Return an empty name for each slot moved; an abbreviated record lists no slots and counts for nothing."""
        slots = list(event.get("slots", self._slots))
        moved = sum(old != new for old, new in zip(self._slots, slots, strict=False))
        self._slots = slots
        return tuple("" for _ in range(moved))


BUILD = RunFamily(name="testbed_build", doc="Version of the testbed.", kind="info", labels=("version",))
RUN = RunFamily(
    name="testbed_run",
    doc="Engine, balancer policy and seed of the running trial.",
    kind="info",
    labels=("engine", "balancer", "seed"),
    only="live",
)
RUN_TIME = RunFamily(
    name="testbed_run_time_seconds", doc="Time of the last sample on the run's clock.", kind="gauge", only="live"
)
RUN_PLANNED = RunFamily(
    name="testbed_run_planned_seconds", doc="Planned duration of the traffic.", kind="gauge", only="live"
)
SCRAPE_CPU = RunFamily(
    name="testbed_scrape_cpu_seconds",
    doc="CPU time spent on answering scrapes.",
    kind="counter",
    only="live",
)
DELAY = RunFamily(
    name="testbed_node_delay_seconds",
    doc="One-way delay from client to sink through a node, over the whole run.",
    kind="histogram",
    labels=("node",),
    only="export",
)
VERDICT = RunFamily(
    name="testbed_verdict_check",
    doc="One series per check of the verdict, with the result of the check in the label "
    "`verdict`. The value is always 1.",
    kind="gauge",
    labels=("check", "verdict"),
    only="export",
)
RUN_FAMILIES = (BUILD, RUN, RUN_TIME, RUN_PLANNED, SCRAPE_CPU, DELAY, VERDICT)

SAMPLE_FAMILIES: tuple[SampleFamily, ...] = (
    SampleFamily(
        name="testbed_node_backlog_bytes", doc="Bytes that wait in the buffer of a node.", column="backlog_bytes"
    ),
    SampleFamily(name="testbed_node_limit_bytes", doc="Buffer limit in force at a node.", column="limit_bytes"),
    SampleFamily(
        name="testbed_node_predicted_backlog_bytes",
        doc="Largest forecast of the backlog of a node, where its policy makes one.",
        column="predicted_bytes",
    ),
    SampleFamily(
        name="testbed_node_burst_severity_ratio",
        doc="Severity of the burst precursor in the last sample of a node, 0 to 1.",
        column="severity_ratio",
    ),
    SampleFamily(
        name="testbed_node_weight_slots", doc="Slots of the balancer's table that belong to a node.", column="weight"
    ),
    SampleFamily(
        name="testbed_node_arrived_bytes",
        doc="Data bytes that reached the buffer of a node, dropped ones included.",
        column="arrived_bytes",
        fold=Fold.SUM,
    ),
    SampleFamily(
        name="testbed_node_arrived_packets",
        doc="Data packets that reached the buffer of a node, dropped ones included.",
        column="arrived_pkts",
        fold=Fold.SUM,
    ),
    SampleFamily(
        name="testbed_node_dropped_bytes",
        doc="Bytes that the buffer of a node dropped.",
        column="dropped_bytes",
        fold=Fold.SUM,
    ),
    SampleFamily(
        name="testbed_node_dropped_packets",
        doc="Packets that the buffer of a node dropped.",
        column="dropped_pkts",
        fold=Fold.SUM,
    ),
    SampleFamily(
        name="testbed_node_deflected_packets",
        doc="Packets that a full buffer forwarded to a sibling node.",
        column="deflected_pkts",
        fold=Fold.SUM,
    ),
    SampleFamily(
        name="testbed_node_delivered_bytes",
        doc="Bytes that left a node for its backend.",
        column="delivered_bytes",
        fold=Fold.RUNNING,
    ),
    SampleFamily(name="testbed_node_new_flows", doc="Flows first seen at a node.", column="new_flows", fold=Fold.SUM),
    SampleFamily(
        name="testbed_agent_loop_seconds",
        doc="Duration of one iteration of the control loop of a node's agent, from the start "
        "of the tick to the notification.",
        column="loop_ns",
        fold=Fold.SPREAD,
        divisor=NS_PER_S,
    ),
    SampleFamily(
        name="testbed_agent_lateness_seconds",
        doc="How late the tick of a node's agent began.",
        column="lateness_ns",
        fold=Fold.SPREAD,
        divisor=NS_PER_S,
    ),
)

EVENT_FAMILIES = (
    EventFamily(
        name="testbed_node_limit_changes", doc="Changes of the buffer limit of a node.", records=(SetBufferLimit,)
    ),
    EventFamily(
        name="testbed_balancer_notifications",
        doc="Notifications of a node that reached the balancer.",
        records=(NodesNotified,),
    ),
    EventFamily(
        name="testbed_balancer_notifications_lost",
        doc="Notifications that an agent could not send.",
        records=(NotificationLost,),
    ),
    EventFamily(
        name="testbed_balancer_nodes_removed",
        doc="Number of times the balancer removed a node from forwarding (failovers).",
        records=(RemoveNode,),
    ),
    EventFamily(
        name="testbed_balancer_nodes_restored",
        doc="Number of times the balancer put a node back into forwarding.",
        records=(RestoreNode,),
    ),
    EventFamily(
        name="testbed_balancer_flows_placed",
        doc="Flows that the balancer assigned individually to a node.",
        records=(PlaceFlow,),
    ),
    EventFamily(
        name="testbed_mesh_suspicions",
        doc="Number of times a monitor began to suspect a node.",
        records=(MemberSilent,),
    ),
    EventFamily(
        name="testbed_mesh_deaths", doc="Number of times a mesh member declared a node dead.", records=(MemberDied,)
    ),
    EventFamily(
        name="testbed_faults_commanded",
        doc="Faults that the scenario commanded, by kind.",
        records=(FaultCommanded,),
        label="fault",
        counts=lambda: _what,
    ),
    EventFamily(
        name="testbed_faults_observed",
        doc="Faults that were observed to be in effect, by kind.",
        records=(FaultObserved,),
        label="fault",
        counts=lambda: _what,
    ),
    EventFamily(
        name="testbed_faults_healed",
        doc="Faults whose end was observed, by kind.",
        records=(FaultHealed,),
        label="fault",
        counts=lambda: _what,
    ),
    EventFamily(
        name="testbed_controller_takeovers",
        doc="Number of times a standby controller took over.",
        records=(ControllerTookOver,),
        label="",
        counts=lambda: _once,
    ),
    EventFamily(
        name="testbed_balancer_slots_moved",
        doc="Slots of the balancer's table that were assigned to another node.",
        records=(SetSlots,),
        label="",
        counts=_SlotsMoved,
    ),
    EventFamily(
        name="testbed_records",
        doc="Records of the run, by kind (see the page Records).",
        label="kind",
        counts=lambda: _kind,
    ),
)
