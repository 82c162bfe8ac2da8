"""Whole runs in virtual time: physics with known answers, determinism by bytes, one brain or many."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from testbed import topologies
from testbed.errors import InputError
from testbed.files.event_records import from_record
from testbed.records.events import RequestLimit, TrafficSampled
from testbed.records.written import digest
from testbed.results.accounting import account
from testbed.scenario.model import Scenario
from testbed.scenario.network import bucket_bytes
from testbed.simulation.engine import SETTLE_NS
from testbed.simulation.network_model import NetworkModel
from testbed.traffic.plan import make_plan
from testbed.units import NS_PER_MS
from tests import simulated_run

ROOT = Path(__file__).resolve().parent.parent


def constant(rate: str, limit: str = "0.05MB", packet: str = "1000B") -> Scenario:
    """One node at 10 Mbit/s under a constant load."""
    return Scenario.model_validate(
        {
            **{"version": 1, "name": "constant", "duration": "2s"},
            "topology": {"family": "single", "node_rate": "10Mbit"},
            "buffer": {"policy": "static-min", "min": limit, "max": limit},
            "traffic": [{"name": "load", "from": "c1", "shape": "constant", "rate": rate, "packet": packet}],
        }
    )


# ---------------------------------------------------------------------------------------------------------- physics


def test_below_the_rate_nothing_waits() -> None:
    run = simulated_run.run(constant("9Mbit"), model=NetworkModel(switch_ns=0, node_ns=0))
    (node,) = run.evidence.nodes
    assert node.dropped_pkts == 0
    assert node.delay is not None
    assert node.delay.largest_ns == 0  # the bucket serves each packet at once


def test_an_overload_loses_what_the_link_cannot_take_and_the_buffer_cannot_hold() -> None:
    run = simulated_run.run(constant("20Mbit"))
    (node,) = run.evidence.nodes
    seen_bytes = (
        2 * 10_000_000 // 8 + 50_000 + bucket_bytes(10_000_000)
    )  # two seconds of the link, one buffer, one bucket
    assert abs(node.delivered_bytes - seen_bytes) <= 2000
    assert node.delay is not None
    assert node.delay.largest_ns is not None
    assert abs(node.delay.largest_ns - (50_000 * 800 + 100_000)) <= 1000 * 800  # a full buffer at 800 ns a byte


def test_delays_are_those_of_the_links_and_the_model() -> None:
    spec = constant("1Mbit")
    network = topologies.describe(spec.topology.model_copy(update={"link_delay_ns": 5 * NS_PER_MS}))
    plan = make_plan(spec, network, Path())
    recorded = simulated_run.Recorded()
    evidence = simulated_run._simulate(spec, network, plan, recorded, model=NetworkModel(switch_ns=7, node_ns=9))
    (node,) = evidence.nodes
    assert node.delay is not None
    assert node.delay.largest_ns == 10 * NS_PER_MS + 16


@pytest.mark.parametrize(
    "policy", ["static-min", "static-max", "dynamic-threshold", "reactive", "ewma", "lstm", "oracle"]
)
def test_every_packet_is_accounted_for(policy: str) -> None:
    run = simulated_run.run(simulated_run.scenario(policy, pool="2MB"))
    books = account(run.evidence)
    assert books.sent_pkts == len(run.plan)
    assert books.sent_bytes == run.plan.total_bytes
    assert books.unaccounted_pkts == 0
    assert sum(run.recorded.column("arrived_pkts")) == len(run.plan)
    assert sum(run.recorded.column("dropped_pkts")) == books.dropped_pkts["buffer"]
    assert simulated_run.summary(run)["verdict"] == "VALID"


def test_policies_rank_as_they_must() -> None:
    loss, memory = {}, {}
    for policy in ("static-min", "static-max", "reactive", "oracle"):
        spec = simulated_run.scenario(policy, balancer="round-robin", duration="4s", max="4MB")
        section = simulated_run.summary(simulated_run.run(spec))["buffer"]
        loss[policy], memory[policy] = section["loss_ratio"], section["reserved_mb_s"]
    assert loss["static-max"] <= loss["oracle"] <= loss["reactive"] < loss["static-min"]
    assert memory["static-min"] < memory["reactive"] < memory["static-max"]


def test_limits_in_force_follow_the_decisions_after_their_delay() -> None:
    model = NetworkModel(decision_ns=12 * NS_PER_MS)  # more than a sample interval
    run = simulated_run.run(simulated_run.scenario("reactive"), cohorts=3, model=model)
    limits = {"n1": 50_000, "n2": 50_000, "n3": 50_000}
    set_at = [event for event in run.recorded.events if event["kind"] == "SetBufferLimit"]
    assert set_at
    rows = zip(*(run.recorded.column(name) for name in ("t_ns", "node", "limit_bytes")), strict=True)
    for t_ns, node, limit in rows:
        while set_at and set_at[0]["t_ns"] + model.decision_ns <= t_ns:
            event = set_at.pop(0)
            limits.update(zip(event["nodes"], event["limit_bytes"], strict=True))
        assert limit == limits[node]


def test_each_packet_meets_the_limit_of_its_own_moment() -> None:
    spec = constant("30Mbit", limit="0.02MB").model_dump(by_alias=True, exclude_none=True, mode="json")
    spec["buffer"] = {**spec["buffer"], "policy": "reactive", "max": "0.4MB", "mean": None}
    model = NetworkModel(switch_ns=0, decision_ns=7 * NS_PER_MS)
    run = simulated_run.run(Scenario.model_validate(spec), model=model)
    changes = [
        (event["t_ns"] + model.decision_ns, event["limit_bytes"][0])
        for event in run.recorded.events
        if event["kind"] == "SetBufferLimit"
    ]
    byte, depth = 8 * 10**9, 8 * 10**9 * bucket_bytes(10_000_000)  # in nanobits: whole numbers, no ties by rounding
    limit, debt, last_ns, dropped_ns = 20_000, -depth, 0, []
    for t_ns in run.plan.t_ns.tolist():
        while changes and changes[0][0] < t_ns:
            limit = changes.pop(0)[1]
        debt, last_ns = max(-depth, debt - (t_ns - last_ns) * 10_000_000), t_ns
        if max(debt, 0) + 1000 * byte > limit * byte:
            dropped_ns.append(t_ns)
        else:
            debt += 1000 * byte
    assert len(changes) <= 1
    assert len(dropped_ns) > 100
    edges = [0, *(t_ns + 1 for t_ns in run.recorded.column("t_ns"))]  # the sums alone would not tell when
    assert run.recorded.column("dropped_pkts") == np.histogram(dropped_ns, edges)[0].tolist()


def test_brains_of_single_nodes_know_how_many_share_the_pool() -> None:
    spec = simulated_run.scenario("static-max", pool="1.5MB", duration="100ms")
    assert set(simulated_run.run(spec, cohorts=3).recorded.column("limit_bytes")) == {500_000}


def test_the_pool_is_never_overdrawn() -> None:
    run = simulated_run.run(simulated_run.scenario("reactive", pool="0.3MB", max="0.3MB"), cohorts=3)
    held = {"n1": 50_000, "n2": 50_000, "n3": 50_000}
    for event in run.recorded.events:
        if event["policy"] == "pool" and event["direction"] == "out":
            held.update(zip(event["nodes"], event["granted_bytes"], strict=True))
            assert sum(held.values()) <= 300_000


def test_flows_keep_their_node() -> None:
    """A flow's packets all arrive at one node: the load of a node is a sum of whole flows."""
    spec = simulated_run.scenario("static-max", balancer="hash", max="100MB", duration="1s")
    run = simulated_run.run(spec)
    by_flow = np.bincount(run.plan.flow, minlength=len(run.plan.flows))
    arrived = [node.arrived_pkts for node in run.evidence.nodes]
    assert sum(arrived) == by_flow.sum()
    assert run.evidence.moved_flows_ns == ()
    assert min(arrived) > 0


# ------------------------------------------------------------------------------------------------------- the course


def test_samples_cover_traffic_and_drain() -> None:
    run = simulated_run.run(simulated_run.scenario("static-max"), cohorts=1)
    t_ns = np.array(run.recorded.column("t_ns"))
    assert t_ns[0] == 10 * NS_PER_MS
    assert set(np.diff(np.unique(t_ns)).tolist()) == {10 * NS_PER_MS}
    assert t_ns[-1] >= run.scenario.duration_ns + SETTLE_NS - 10 * NS_PER_MS
    assert run.recorded.column("backlog_bytes")[-3:] == [0, 0, 0]


@pytest.mark.parametrize(("nodes", "phases_ns"), [(4, [0, 2_500_000, 5_000_000, 7_500_000]), (9, [0])])
def test_few_nodes_tick_one_after_the_other_as_on_the_wire(nodes: int, phases_ns: list[int]) -> None:
    run = simulated_run.run(simulated_run.scenario("static-min", nodes=nodes, duration="200ms"))
    assert sorted({t_ns % (10 * NS_PER_MS) for t_ns in run.recorded.column("t_ns")}) == phases_ns


def test_the_run_lasts_until_the_queues_are_empty() -> None:
    run = simulated_run.run(constant("20Mbit", limit="1MB"))  # a full buffer drains for 0.8 s
    last_ns = run.recorded.column("t_ns")[-1]
    assert 2_800 * NS_PER_MS + SETTLE_NS - 20 * NS_PER_MS < last_ns <= 2_800 * NS_PER_MS + SETTLE_NS
    assert run.recorded.column("backlog_bytes")[-22] > 0
    assert run.recorded.column("backlog_bytes")[-20:] == [0] * 20


def test_cohorts_tick_one_after_the_other_and_change_little() -> None:
    spec = simulated_run.scenario("lstm", balancer="round-robin", duration="4s")  # no feedback that feeds on timing
    together, apart = simulated_run.run(spec), simulated_run.run(spec, cohorts=3)
    policies = {event["policy"] for event in apart.recorded.events}
    assert {"brain:n1", "brain:n2", "brain:n3"} <= policies
    assert sorted(set(apart.recorded.column("t_ns")))[:3] == [10_000_000, 13_333_333, 16_666_666]
    one, three = (simulated_run.summary(run)["buffer"] for run in (together, apart))
    assert three["reserved_mb_s"] == pytest.approx(one["reserved_mb_s"], rel=0.1)
    assert three["loss_ratio"] == pytest.approx(one["loss_ratio"], abs=0.02)


def test_history_of_a_large_cluster_is_short() -> None:
    spec = simulated_run.scenario("lstm", nodes=70, node_rate="1Mbit", duration="300ms")
    run = simulated_run.run(spec)
    sampled = [event for event in run.recorded.events if event["kind"] == "TrafficSampled"]
    assert sampled[0] == {
        "t_ns": 10 * NS_PER_MS, "policy": "brain", "direction": "in", "kind": "TrafficSampled", "rows": 70,
        "interval_ns": 10 * NS_PER_MS,
    }  # fmt: skip
    assert all("nodes" in event for event in run.recorded.events if event["kind"] == "SetBufferLimit")


@pytest.mark.parametrize("changed", ["nodes", "wanted_bytes", "used_bytes"])
def test_the_digest_covers_every_value(changed: str) -> None:
    asked = RequestLimit(nodes=("n1", "n2"), wanted_bytes=np.array([1, 2]), used_bytes=np.array([3, 4]))
    other = {"nodes": ("n1", "n3"), "wanted_bytes": np.array([1, 5]), "used_bytes": np.array([3, 5])}
    assert digest(asked) == digest(replace(asked))
    assert digest(asked) != digest(replace(asked, **{changed: other[changed]}))


def test_history_of_a_small_cluster_reads_back_as_events() -> None:
    run = simulated_run.run(simulated_run.scenario("reactive", duration="200ms"), cohorts=1)
    first = from_record(run.recorded.events[0])
    assert isinstance(first, TrafficSampled)
    assert first.arrived_pkts.tolist() == run.recorded.column("arrived_pkts")[:3]


# -------------------------------------------------------------------------------------------------------- determinism

_WRITE = """
import sys
from pathlib import Path
from tests import simulated_run
simulated_run.write(simulated_run.scenario({policy!r}, nodes={nodes}, balancer="two-choices"), Path(sys.argv[1]))
"""


@pytest.mark.parametrize(("policy", "nodes"), [("lstm", 3), ("reactive", 70)])
def test_equal_runs_give_equal_bytes_whatever_the_hash_seed(tmp_path: Path, policy: str, nodes: int) -> None:
    digests = set()
    for hash_seed in ("0", "4711"):
        target = tmp_path / hash_seed
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", _WRITE.format(policy=policy, nodes=nodes), str(target)]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
        files = [(target / name).read_bytes() for name in ("samples.parquet", "events.jsonl", "plan.parquet")]
        digests.add(tuple(hashlib.sha256(content).hexdigest() for content in files))
    assert len(digests) == 1


def test_another_seed_is_another_run() -> None:
    one, two = (simulated_run.run(simulated_run.scenario("reactive", seed=seed)) for seed in (1, 2))
    assert one.recorded.events != two.recorded.events


# ---------------------------------------------------------------------------------------------------------- bad input


def test_a_negative_delay_is_refused() -> None:
    with pytest.raises(InputError, match="switch_ns: a delay of -1 ns is negative"):
        NetworkModel(switch_ns=-1)


def test_a_buffer_the_kernel_could_not_have_is_refused() -> None:
    with pytest.raises(ValidationError, match="2GB is more than the 1GB of a node"):
        simulated_run.scenario("static-max", max="2GB")


def test_a_client_that_is_farther_away_than_another_delays_its_own_packets_alone() -> None:
    spec = simulated_run.scenario("reactive")
    network = topologies.describe(spec.topology)
    links = tuple(replace(e, delay_ns=5 * NS_PER_MS if e.a == "c1" else 0) for e in network.links)
    slower = replace(network, links=links)
    plan = make_plan(spec, network, Path())
    near, far = (simulated_run._simulate(spec, n, plan, simulated_run.Recorded()) for n in (network, slower))
    assert account(far).unaccounted_pkts == 0
    late = [node.delay.largest_ns - before.delay.largest_ns for node, before in zip(far.nodes, near.nodes, strict=True)]
    assert max(late) >= 4 * NS_PER_MS
    quickest = [node.delay.counts.nonzero()[0][0] for evidence in (near, far) for node in evidence.nodes[:1]]
    assert quickest[0] == quickest[1], "packets of the other client come as they came"


def test_a_node_that_serves_nothing_is_refused() -> None:
    spec = simulated_run.scenario("reactive")
    network = topologies.describe(spec.topology)
    links = tuple(link for link in network.links if link.a != "n2" or link.b != "b2")
    with pytest.raises(InputError, match="n2 has no service rate"):
        simulated_run._simulate(spec, replace(network, links=links), make_plan(spec, network, Path()), None)


def test_no_cohort_is_refused() -> None:
    with pytest.raises(InputError, match="0 cohorts"):
        simulated_run.run(simulated_run.scenario("reactive"), cohorts=0)
