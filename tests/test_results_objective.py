"""The cost of a run: its parts by hand, and the integral over samples against the sum over packets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml

import testbed
from testbed.records.events import Ints
from testbed.records.samples import NodeSamples
from testbed.results.objective import late_byte_s, objective_section
from testbed.scenario.objective import ObjectiveSpec
from testbed.units import NS_PER_MS, NS_PER_S
from tests import simulated_run, synthetic_run

RATE_BPS = 80_000_000  # 10,000 bytes a ms
TARGET_NS = 50 * NS_PER_MS  # 500,000 bytes
END_NS = NS_PER_S


def samples(backlog: dict[int, int]) -> NodeSamples:
    """Return samples of one node: time in ms → backlog in bytes."""
    none = np.zeros(len(backlog), dtype=np.int64)
    t_ns, held = (np.array(list(part), dtype=np.int64) for part in (backlog.keys(), backlog.values()))
    return NodeSamples(t_ns * NS_PER_MS, none, none, none, none, held, none, {})


def late(backlog: dict[int, int], *down: tuple[int, int | None], end_ns: int = END_NS) -> float:
    spans = [(begin * NS_PER_MS, None if end is None else end * NS_PER_MS) for begin, end in down]
    return late_byte_s(samples(backlog), RATE_BPS, TARGET_NS, spans, end_ns)


def test_a_queue_within_the_target_costs_nothing() -> None:
    assert late({10: 0, 20: 500_000, 30: 499_999, 40: 0}) == 0


def test_a_line_counts_where_it_is_above_the_target() -> None:
    assert late({100: 0, 200: 1_000_000, 300: 1_000_000, 400: 0}) == pytest.approx(
        0.05 * 500_000 / 2 + 0.1 * 500_000 + 0.05 * 500_000 / 2
    )


def test_what_is_queued_at_the_end_of_the_traffic_drains() -> None:
    drains = 0.05 * 500_000 / 2  # from 1,000,000 to 500,000 bytes at 10,000 a ms
    assert late({999: 0, 1000: 1_000_000}) == pytest.approx(0.0005 * 500_000 / 2 + drains)
    assert late({999: 0, 1000: 1_000_000, 1001: 990_000}) == late({999: 0, 1000: 1_000_000}), "counted by one rule"


def test_a_crash_throws_the_queue_away() -> None:
    before = 0.1 * 500_000 / 4 + 0.02 * (500_000 + 300_000) / 2  # it drains for 20 ms until the crash
    assert late({100: 0, 200: 1_000_000}, (220, None)) == pytest.approx(before)
    assert late({100: 0, 200: 1_000_000, 500: 0}, (220, 480)) == pytest.approx(before)
    assert late({200: 0, 500: 1_000_000, 600: 0}, (220, 480)) == pytest.approx(
        0.02 * 500_000 / 4 + 0.1 * 500_000 / 4
    ), "the rise begins when the node is back"


def packets(seed: int) -> tuple[Ints, int]:
    """Return arrival times in ns of packets that come in bursts at four times the rate, and their length."""
    rng, length = np.random.default_rng(seed), 1000
    starts = np.cumsum(rng.exponential(400e6, 12))
    times = [start + np.cumsum(rng.exponential(length / 0.04, 6000)) for start in starts]
    return np.sort(np.concatenate(times)).astype(np.int64), length


def test_the_integral_is_the_sum_over_packets() -> None:
    times, length = packets(1)
    rate = RATE_BPS / 8 / NS_PER_S
    last, backlog, waited, seen = 0, 0.0, 0.0, {}
    tick = 10 * NS_PER_MS
    for at in times.tolist():
        for k in range(last // tick + 1, at // tick + 1):
            seen[k * 10] = round(max(0.0, backlog - rate * (k * tick - last)))
        backlog = max(0.0, backlog - rate * (at - last)) + length
        last = at
        waited += length * max(0.0, backlog / rate - TARGET_NS)
    assert late(seen, end_ns=int(times[-1])) == pytest.approx(waited / NS_PER_S, rel=0.005)


def test_the_cost_is_the_sum_of_its_weighed_parts() -> None:
    facts = dataclasses.replace(
        synthetic_run.facts("static-min", nodes=1, seconds=1), loss_weight=2.0, delay_weight_per_s=10.0,
        memory_weight_per_s=0.5, delay_target_ns=1,
    )  # fmt: skip
    made = synthetic_run.make(facts)
    node = dataclasses.replace(made.evidence.nodes[0], dropped_bytes=3_000_000)
    evidence = dataclasses.replace(made.evidence, nodes=(node,))
    found = objective_section(facts, evidence, {"n1": samples({0: 1_000_000, 1000: 1_000_000})}, {}, 4.0)
    assert (found["loss"], found["memory"]) == (6.0, 2.0)
    assert found["delay"] == pytest.approx(10 * found["late_mb_s"])
    assert found["cost"] == pytest.approx(sum(found[part] for part in ("loss", "delay", "memory")))


def test_a_byte_second_weighs_one_over_the_target_unless_written() -> None:
    assert ObjectiveSpec.model_validate({"delay": {"target": "20ms"}}).delay.per_s == pytest.approx(50)
    assert ObjectiveSpec.model_validate({"delay": {"target": "20ms", "weight": 3.0}}).delay.per_s == 3.0


def test_a_run_has_its_cost_and_can_be_held_to_it(tmp_path: Path) -> None:
    def cost(**weights: float) -> dict[str, float]:
        made = simulated_run.scenario("static-max", duration="1s").resolved()
        made |= {"objective": weights, "expect": ["objective.cost < 0.0001"]}
        path = tmp_path / "held.yaml"
        path.write_text(yaml.safe_dump(made))
        summary = testbed.simulate(path, out=tmp_path / f"run{len(weights)}").summary
        assert summary["expectations"][0]["value"] == summary["objective"]["cost"] > 0
        assert not summary["expectations"][0]["passed"]
        return {**summary["objective"], "reserved": summary["buffer"]["reserved_mb_s"]}

    usual, dear = cost(), cost(memory=1.0)
    assert usual["late_mb_s"] > 0, "a buffer of 1 MB holds 400 ms"
    assert usual["delay"] == pytest.approx(20 * usual["late_mb_s"])
    assert usual["memory"] == pytest.approx(0.02 * usual["reserved"])
    assert dear["memory"] == pytest.approx(usual["reserved"])
    assert (dear["loss"], dear["delay"]) == (usual["loss"], usual["delay"]), "weights change no packet"
