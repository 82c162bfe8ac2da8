"""A run made up from a fluid queue, exact to the packet, for tests of what reads runs.

Bursts come every 2 s to the nodes in turn.  The policies are caricatures with known figures: `static-min` stays at the
floor, `lstm` expands 100 ms before a burst and `reactive` when the backlog passes half of the floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from testbed.records.evidence import ClientEvidence, Evidence, NodeEvidence
from testbed.records.facts import RunFacts
from testbed.records.fates import FateEvidence
from testbed.records.histogram import Histogram
from testbed.records.samples import by_node, table_of
from testbed.records.stages import Stage, Stall
from testbed.results.fidelity import judge
from testbed.results.run_directory import RunDirectory
from testbed.results.summary import summarise
from testbed.units import NS_PER_MS, NS_PER_S

PACKET = 1000
RATE_BPS = 100_000_000
STEP_NS = 10 * NS_PER_MS
SERVED = RATE_BPS // 8 // 100 // PACKET  # packets a step
FLOOR = 500_000
CAP = 10_000_000
LEAD_STEPS = 10


def facts(
    policy: str = "lstm", nodes: int = 3, seconds: int = 6, expect: tuple[str, ...] = (), seed: int = 1
) -> RunFacts:
    return RunFacts(
        scenario="made-up", engine="emulation", seed=seed, duration_ns=seconds * NS_PER_S, buffer_policy=policy,
        balancer_policy="ready-first", floor_bytes=FLOOR, cap_bytes=CAP, sample_interval_ns=STEP_NS,
        largest_packet_bytes=PACKET, node_rate_bps={f"n{i + 1}": RATE_BPS for i in range(nodes)}, expect=expect,
        question="Does expanding a buffer before a burst save packets?\nLoss of static-min against lstm answers it.",
    )  # fmt: skip


@dataclass
class Made:
    facts: RunFacts
    evidence: Evidence
    columns: dict[str, Any]
    events: list[tuple[int, dict[str, Any]]]

    @property
    def samples(self):
        return table_of(self.columns)

    def records(self) -> list[dict[str, Any]]:
        return [{"t_ns": t_ns, **record} for t_ns, record in self.events]


def arrivals_pkts(node: int, steps: int, seed: int) -> np.ndarray:
    """Return packets per step: 60 % load with noise, and a burst of 200 ms at 250 Mbit/s every 2 s."""
    rng = np.random.default_rng([seed, node])
    load = rng.poisson(0.6 * SERVED, steps)
    for start in range(50 + 37 * node, steps, 200):
        load[start : start + 20] = 312
    return load


def make(run: RunFacts) -> Made:
    names = list(run.node_rate_bps)
    steps = run.duration_ns // STEP_NS
    rows: dict[str, list[Any]] = {}
    events: list[tuple[int, dict[str, Any]]] = []
    nodes = tuple(_node(run, index, name, steps, rows, events) for index, name in enumerate(names))
    events.sort(key=lambda event: event[0])
    order = np.argsort(rows["t_ns"], kind="stable")
    columns = {name: [values[k] for k in order] for name, values in rows.items()}
    if not run.predicts:
        del columns["predicted_bytes"]
    sent = sum(node.arrived_pkts for node in nodes)
    lateness = Histogram.of(np.random.default_rng(run.seed).exponential(40_000, sent))
    client = ClientEvidence("c1", sent, sent, sent * PACKET, 0, lateness)
    evidence = Evidence(
        engine=run.engine, ran_ns=run.duration_ns, clients=(client,), nodes=nodes, switch_dropped_pkts=0,
        softnet_dropped_pkts=0, neighbour_overflows=0, packet_ins=0, fragments_dropped_pkts=0, moved_flows_ns=(),
        cpu_idle_ratio=0.6, cpu_idle_worst_ratio=0.4, cpu_steal_ratio=0.001, cpu_demand_ratio=0.5,
        runqueue_mean=1.2, throttled_ns=0,
        real_time=True, suspended_ns=0, faults_unseen=(), changes=(), setup_s=1.5, teardown_s=0.3, stages=stages(names),
        fates=fates(client.sent_pkts, nodes), fault_counted_pkts=0, fault_numbered_pkts=0,
    )  # fmt: skip
    return Made(run, evidence, columns, events)


def fates(sent: int, nodes: tuple[NodeEvidence, ...]) -> FateEvidence:
    """Return what programs that know every packet say where nodes count so much, and each duplicate is at one sink."""
    twice = sum(node.duplicate_pkts or 0 for node in nodes)
    delivered = sum(node.delivered_pkts for node in nodes) - twice
    dropped, kept = sum(node.dropped_pkts for node in nodes), sum(node.fault_dropped_pkts or 0 for node in nodes)
    missing = sent - delivered - dropped - kept
    return FateEvidence(sent, delivered, dropped, kept, missing, repeated_pkts=twice, unsent_pkts=0, unplanned_pkts=0)


def stages(nodes: list[str]) -> tuple[Stage, ...]:
    """Return every stage of a run without TCP, each with a stall as every machine has them."""
    usual = (Stall(NS_PER_S, 2 * NS_PER_MS),)
    of_nodes = [Stage(kind, node, usual) for kind in ("stamp", "agent", "mesh") for node in nodes]
    delays = Histogram.of([100_000] * 1000)
    of_packets = [Stage(kind, node, usual, delays) for kind in ("way", "queue") for node in nodes]
    return (Stage("send", "c1", usual), *of_packets, *of_nodes, Stage("controller", "balancer", usual))


def _node(run: RunFacts, index: int, name: str, steps: int, rows: dict, events: list) -> NodeEvidence:
    arrivals = arrivals_pkts(index, steps, run.seed)
    rng = np.random.default_rng([run.seed, index, 7])
    floor, queue, delivered, dropped_total, delays = FLOOR // PACKET, 0, 0, 0, []
    limit = CAP // PACKET if run.buffer_policy == "static-max" else floor
    for step, arrived in enumerate(arrivals.tolist()):
        t_ns = (step + 1) * STEP_NS
        dropped = max(0, queue + arrived - SERVED - limit)
        accepted = arrived - dropped
        served = min(SERVED, queue + accepted)
        queue += accepted - served
        delivered, dropped_total = delivered + served, dropped_total + dropped
        delays += [(queue + 1) * PACKET * 8 * NS_PER_S // RATE_BPS + 100_000] * served
        coming = bool((arrivals[step + 1 : step + 1 + LEAD_STEPS] > 300).any())
        wanted = _wanted(run.buffer_policy, coming, queue, floor, limit)
        row = {
            "t_ns": t_ns, "node": name, "arrived_bytes": arrived * PACKET, "arrived_pkts": arrived,
            "dropped_bytes": dropped * PACKET, "dropped_pkts": dropped, "backlog_bytes": queue * PACKET,
            "qdisc_backlog_bytes": queue * PACKET, "limit_bytes": limit * PACKET,
            "predicted_bytes": 3_000_000 if coming or queue > 100 else 100_000, "delivered_bytes": delivered * PACKET,
            "delivered_t_ns": t_ns - 20_000, "weight": 21, "severity_ratio": 0.9 if coming else 0.1,
            "loop_ns": int(rng.integers(200_000, 500_000)), "lateness_ns": int(rng.integers(20_000, 300_000)),
        }  # fmt: skip
        for key, value in row.items():
            rows.setdefault(key, []).append(value)
        if wanted != limit:
            limit = wanted
            events.append((t_ns, {"kind": "SetBufferLimit", "nodes": [name], "limit_bytes": [limit * PACKET]}))
    total = int(arrivals.sum())
    return NodeEvidence(
        node=name, arrived_pkts=total, arrived_bytes=total * PACKET, dropped_pkts=dropped_total,
        dropped_bytes=dropped_total * PACKET, delivered_pkts=delivered, delivered_bytes=delivered * PACKET,
        in_flight_pkts=queue, malformed_pkts=0, aborted_pkts=0, qdisc_dropped_pkts=0, link_dropped_pkts=0,
        backend_link_dropped_pkts=0,
        reordered_pkts=0, duplicate_pkts=0, unbuffered_pkts=0, missing_pkts=dropped_total,
        delay=Histogram.of(delays), xdp_mode="native",
    )  # fmt: skip


def _wanted(policy: str, coming: bool, queue: int, floor: int, limit: int) -> int:
    large = CAP // PACKET
    if policy in ("lstm", "oracle"):
        return large // 2 if coming or queue > floor // 2 else floor
    if policy == "reactive":
        return min(2 * limit, large) if queue > limit // 2 else limit if queue > floor // 4 else floor
    return limit


def write(made: Made, path: Path, **manifest: Any) -> RunDirectory:
    """Write the made run as an engine would."""
    content = {"facts": made.facts.to_record(), "hashes": {"plan": f"sha256:{made.facts.seed:064x}"}, **manifest}
    run = RunDirectory.create(path, content)
    run.append_columns(made.columns)
    for t_ns, record in made.events:
        run.append_event(t_ns, record)
    fidelity = judge(made.evidence, by_node(run.samples()), made.facts)
    run.write_json("evidence.json", made.evidence.to_record())
    run.write_json("fidelity.json", fidelity.to_record())
    run.write_json(
        "summary.json", summarise(made.facts, made.evidence, by_node(run.samples()), made.records(), fidelity)
    )
    run.finish("completed", ended_utc="2030-01-01T00:00:00.000+00:00")
    return run
