"""The metrics of a run: ``summary.json``.

Definitions.  *Reserved memory* is the integral of the limits over time, summed over the nodes (a limit holds from its
sample to the next), in MB·s.  A *resize* is a `SetBufferLimit` that changes a node's limit.  *Loss ratio* is the number
of packets dropped by the buffers divided by the packets that arrived there (each counted once, however often it was
deflected).  An *expansion* is an interval with a limit above the floor.  It was *wasted* if the node's demand
(`queues.demand_bytes`) did not exceed the floor during it or within 200 ms after it.  `control_loop_us` is the duration
of the agent's loop, from the tick to the notification.  *decision* is that of the controller, from the arrival of the
event that made it change the switch to the barrier reply that confirms the change.  `first_packet_ms` is the delay of
the first packet of each flow, which includes the time until the flow is assigned to a node.

A section that does not apply is absent, never zero-filled; `metrics` has a row for every possible metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from testbed.records.engines import is_real_time
from testbed.records.events import SetBufferLimit
from testbed.records.evidence import Evidence, NodeEvidence, total
from testbed.records.facts import RunFacts
from testbed.records.histogram import Histogram, merged
from testbed.records.processes import ActionsAcknowledged
from testbed.records.samples import NodeSamples
from testbed.records.written import is_a
from testbed.results.accounting import Accounting, account
from testbed.results.elasticity import autoscaler_section
from testbed.results.expectations import Expectation, evaluate
from testbed.results.failover import FaultLines, broken_flows, failover_section
from testbed.results.fidelity import Fidelity
from testbed.results.metrics import METRICS, Measured, Metric, counted
from testbed.results.node_time import ClusterLines, node_time
from testbed.results.objective import objective_section
from testbed.results.prediction import REACH_NS, bursts_of, overlapped, prediction_section
from testbed.results.queues import Spans, stretches
from testbed.results.reserved import crashes, reserved_byte_ns
from testbed.results.sites import TravelLines, sites_section
from testbed.results.tcp import tcp_section
from testbed.results.violation import violation_s
from testbed.units import NS_PER_MS, NS_PER_S, NS_PER_US

Status = Literal["completed", "interrupted", "failed"]

_BYTES_PER_MB = 10**6


def summarise(
    facts: RunFacts,
    evidence: Evidence,
    rows: Mapping[str, NodeSamples],
    events: Iterable[Mapping[str, Any]],
    fidelity: Fidelity,
    status: Status = "completed",
    plugged: Sequence[Metric] = (),
) -> dict[str, Any]:
    """Return the summary of a run as JSON data.

    Args:
        facts: the scenario's facts.
        evidence: what the engine handed over.
        rows: the samples of each node.
        events: records of ``events.jsonl``, in order; read once, and by a metric of a plug-in.
        fidelity: the verdict of `fidelity.judge`.
        status: how the run ended.
        plugged: metrics of plug-ins, beside our own.

    Raises:
        InputError: when an expectation cannot be read.
        PolicyError: a metric of a plug-in is no number.
    """
    summary: dict[str, Any] = {
        "schema": 1,
        "scenario": facts.scenario,
        "engine": facts.engine,
        "seed": facts.seed,
        "status": status,
        "verdict": fidelity.verdict,
        "verdict_reasons": list(fidelity.reasons),
        **{name: found for name, found in _sections(facts, evidence, rows, events).items() if found is not None},
    }
    measured = Measured(facts, evidence, rows, events, summary)
    for metric in (*(row for row in METRICS if METRICS.is_ours(row.name) and row.count), *plugged):
        _place(summary, metric.name, counted(metric, measured))
    summary["expectations"] = [evaluate(Expectation.parse(text), summary) for text in facts.expect]
    return summary


def _place(summary: dict[str, Any], path: str, value: float | None) -> None:
    """Put a figure where its path says; nothing where there is none."""
    *above, last = path.split(".")
    if value is not None:
        for key in above:
            summary = summary.setdefault(key, {})
        summary[last] = value


def _sections(
    facts: RunFacts, evidence: Evidence, rows: Mapping[str, NodeSamples], events: Iterable[Mapping[str, Any]]
) -> dict[str, dict[str, Any] | None]:
    """Return the sections in their order; None for one that does not apply."""
    faults, cluster, travel, needs = FaultLines(), ClusterLines(), TravelLines(), bursts_of(rows, facts)
    passing = cluster.passing(faults.passing(travel.passing(events)))
    buffer = {
        **_buffer(facts, evidence, rows, passing, faults),
        **_expansions(facts, rows, needs),
    }  # it reads the events, which the other sections need
    reserved = buffer.get("reserved_mb_s")
    return {
        "traffic": _traffic(evidence, account(evidence)),
        "delay_ms": _delay(merged(node.delay for node in evidence.nodes)),
        "tcp": tcp_section(evidence),
        "buffer": buffer,
        "objective": objective_section(facts, evidence, rows, crashes(faults.lines), reserved) if reserved else None,
        "prediction": prediction_section(rows, needs, facts),
        "control_loop_us": _control_loop(evidence, rows),
        "balancer": _balancer(facts, evidence, faults.lines),
        "failover": failover_section(faults.lines),
        "sites": sites_section(evidence, travel.lines),
        "nodes": _nodes(facts, evidence, rows, cluster),
        "autoscaler": autoscaler_section(cluster.lines, facts, rows),
    }


def _traffic(evidence: Evidence, accounting: Accounting) -> dict[str, Any]:
    section: dict[str, Any] = {
        "sent_packets": accounting.sent_pkts,
        "sent_bytes": accounting.sent_bytes,
        "delivered_packets": accounting.delivered_pkts,
        "dropped_packets": dict(accounting.dropped_pkts),
        "in_flight_packets": accounting.in_flight_pkts,
        "unaccounted_packets": accounting.unaccounted_pkts,
    }
    reordered = total(node.reordered_pkts for node in evidence.nodes)
    if reordered is not None:
        section["reordered_packets"] = reordered
    if evidence.ran_ns:
        section["goodput_bps"] = round(accounting.delivered_bytes * 8 * NS_PER_S / evidence.ran_ns)
    lateness = _percentiles(merged(client.lateness for client in evidence.clients), NS_PER_US)
    return {**section, **({"send_lateness_us": lateness} if lateness else {})}


def _percentiles(histogram: Histogram | None, unit_ns: int) -> dict[str, float] | None:
    if histogram is None or not histogram.total:
        return None
    found = {name: histogram.quantile_ns(ratio) for name, ratio in (("p50", 0.5), ("p99", 0.99))}
    return {name: value / unit_ns for name, value in found.items() if value is not None}


def _delay(histogram: Histogram | None) -> dict[str, float] | None:
    section = _percentiles(histogram, NS_PER_MS)
    if section is None or histogram is None:
        return None
    p999, largest = histogram.quantile_ns(0.999), histogram.largest_ns
    return {**section, "p999": (p999 or 0.0) / NS_PER_MS, "max": (largest or 0) / NS_PER_MS}


def _control_loop(evidence: Evidence, rows: Mapping[str, NodeSamples]) -> dict[str, float] | None:
    kept = merged([evidence.control_loop, *(node.loop for node in evidence.nodes)])
    if kept is None:
        sampled = [node.optional["loop_ns"] for node in rows.values() if "loop_ns" in node.optional]
        values = np.concatenate([*sampled, np.zeros(0)])
        kept = Histogram.of(values[~np.isnan(values)])
    return _percentiles(kept, NS_PER_US)


def _balancer(facts: RunFacts, evidence: Evidence, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    loads = [_own_load(node) for node in evidence.nodes if node.node not in facts.second_tier]
    section: dict[str, Any] = {"policy": facts.balancer_policy}
    if evidence.moved_flows_ns is not None:
        section["broken_flows"] = broken_flows(evidence.moved_flows_ns, lines)
    if sum(loads):
        section["max_over_mean_load"] = max(loads) * len(loads) / sum(loads)
    if evidence.packet_ins is not None:
        section["packet_ins"] = evidence.packet_ins
    if evidence.fragments_dropped_pkts is not None:
        section["dropped_fragments"] = evidence.fragments_dropped_pkts
    first = _percentiles(evidence.first_delay, NS_PER_MS)
    if first is not None:
        section["first_packet_ms"] = first
    decisions = _decisions(lines) if is_real_time(facts.engine) else None  # wall time
    return {**section, **({"decision_us": decisions} if decisions else {})}


def _decisions(lines: Iterable[Mapping[str, Any]]) -> dict[str, float] | None:
    took_us = [line["control_loop_us"] for line in lines if is_a(line, ActionsAcknowledged)]
    return _percentiles(Histogram.of(np.array(took_us) * NS_PER_US), NS_PER_US)


def _nodes(
    facts: RunFacts, evidence: Evidence, rows: Mapping[str, NodeSamples], cluster: ClusterLines
) -> dict[str, float] | None:
    spent = node_time(cluster.lines, facts, evidence.ran_ns) or {}
    missed = {"violation_s": violation_s(facts, rows, evidence.ran_ns)} if rows else {}
    return {**spent, **missed} or None


def _own_load(node: NodeEvidence) -> float:
    """Return the bytes the balancer sent to a node: what arrived without its share that siblings deflected."""
    deflected_ratio = (node.deflected_in_pkts or 0) / max(node.arrived_pkts, 1)
    return node.arrived_bytes * (1 - deflected_ratio)


# ------------------------------------------------------------------------------------------------- buffer


def _buffer(
    facts: RunFacts,
    evidence: Evidence,
    rows: Mapping[str, NodeSamples],
    events: Iterable[Mapping[str, Any]],
    faults: FaultLines,
) -> dict[str, Any]:
    nodes = evidence.nodes
    arrived = sum(node.arrived_pkts - (node.deflected_in_pkts or 0) for node in nodes)
    section: dict[str, Any] = {"policy": facts.buffer_policy}
    resizes = count_resizes(events, rows)  # reads the events, and so those about faults
    if rows:
        end_ns, down = min(evidence.ran_ns, facts.duration_ns), crashes(faults.lines)
        reserved = sum(
            reserved_byte_ns(rows.get(node), down.get(node, ()), facts.floor_bytes, end_ns)
            for node in facts.node_rate_bps
        )
        section["reserved_mb_s"] = reserved / _BYTES_PER_MB / NS_PER_S
        section["mean_limit_bytes"] = round(reserved / max(end_ns * len(facts.node_rate_bps), 1))
    section["resizes"] = resizes
    if arrived:
        section["loss_ratio"] = sum(node.dropped_pkts for node in nodes) / arrived
    deflected, marked = total(node.deflected_pkts for node in nodes), total(node.marked_pkts for node in nodes)
    counts = {"deflected_packets": deflected, "marked_packets": marked}
    return {**section, **{name: count for name, count in counts.items() if count is not None}}


def count_resizes(events: Iterable[Mapping[str, Any]], rows: Mapping[str, NodeSamples]) -> int:
    """Return how many times a `SetBufferLimit` changed the limit of a node.

    The first one of a node is compared with the limit its first sample saw before it; without such a sample it set the
    initial limit and changed nothing.
    """
    limits: dict[str, int] = {}
    changes = 0
    for record in events:
        if not is_a(record, SetBufferLimit):
            continue
        for node, limit in zip(record["nodes"], record["limit_bytes"], strict=True):
            before = limits[node] if node in limits else _first_limit(rows.get(node), record["t_ns"])
            changes += before is not None and before != limit
            limits[node] = limit
    return changes


def _first_limit(rows: NodeSamples | None, before_ns: int) -> int | None:
    if rows is None or not len(rows.t_ns) or rows.t_ns[0] > before_ns:
        return None
    return int(rows.limit_bytes[0])


def _expansions(facts: RunFacts, rows: Mapping[str, NodeSamples], needs: Mapping[str, Spans]) -> dict[str, int]:
    """Return how many expansions the nodes made and of how many nothing came."""
    made = {node: stretches(rows[node].t_ns, rows[node].limit_bytes > facts.floor_bytes) for node in needs}
    used = sum(int(np.sum(overlapped(made[node], needs[node], REACH_NS))) for node in needs)
    expansions = sum(len(spans) for spans in made.values())
    return {"expansions": expansions, "wasted_expansions": expansions - used}
