"""The summary: the contract's keys, figures worked out by hand, and the scores of forecasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from testbed.records.evidence import RegionEvidence, TcpEvidence, TrunkEvidence
from testbed.records.histogram import Histogram
from testbed.records.samples import by_node
from testbed.results.failover import failover_section
from testbed.results.fidelity import judge
from testbed.results.metrics import paths
from testbed.results.prediction import leads_ns, overlapped
from testbed.results.queues import Spans
from testbed.results.summary import _decisions, count_resizes, summarise
from testbed.units import NS_PER_MS, NS_PER_S
from tests import synthetic_run


def summary_of(made: synthetic_run.Made) -> dict[str, Any]:
    fidelity = judge(made.evidence, by_node(made.samples), made.facts)
    return summarise(made.facts, made.evidence, by_node(made.samples), made.records(), fidelity)


def leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}.{key}" if path else key)
    elif isinstance(value, (int, float)):
        yield path


def spans(*pairs: tuple[int, int]) -> Spans:
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2) * NS_PER_MS
    return Spans(array[:, 0], array[:, 1])


@pytest.fixture(scope="module")
def lstm() -> dict[str, Any]:
    return summary_of(synthetic_run.make(synthetic_run.facts("lstm", seconds=10, expect=("buffer.resizes > 1",))))


FAILOVER = [
    {"kind": "FaultCommanded", "fault": 0, "what": "crash", "nodes": ["n1"], "t_commanded_ns": 5, "for_ns": None},
    {"kind": "NodeLeft", "t_ns": 6, "node": "n1", "reason": "mesh"},
    {"kind": "RemoveNode", "t_ns": 6, "node": "n1"},
    {"kind": "ActionsAcknowledged", "t_ns": 7, "control_loop_us": 900.0, "removed": ["n1"]},
    {"kind": "FaultCommanded", "fault": 1, "what": "kill", "nodes": [], "t_commanded_ns": 7, "for_ns": None},
    {"kind": "ControllerTookOver", "t_ns": 8, "reason": "died"},
    {"kind": "BalancerReady", "t_ns": 9},
    {"kind": "FaultLosses", "fault": 0, "lost_pkts": 3, "last_lost_ns": 6},
]


def test_it_has_the_keys_of_the_contract(lstm: dict[str, Any]) -> None:
    assert list(lstm) == [
        "schema", "scenario", "engine", "seed", "status", "verdict", "verdict_reasons", "traffic", "delay_ms", "buffer",
        "objective", "prediction", "control_loop_us", "balancer", "nodes", "setup_s", "teardown_s", "expectations",
    ]  # fmt: skip
    assert set(lstm["traffic"]) == {
        "sent_packets", "sent_bytes", "delivered_packets", "dropped_packets", "in_flight_packets",
        "unaccounted_packets", "reordered_packets", "goodput_bps", "send_lateness_us",
    }  # fmt: skip
    assert set(lstm["traffic"]["dropped_packets"]) == {"buffer", "qdisc", "switch", "fault", "other"}
    assert set(lstm["delay_ms"]) == {"p50", "p99", "p999", "max"}
    assert {"policy", "reserved_mb_s", "mean_limit_bytes", "resizes", "loss_ratio"} <= set(lstm["buffer"])
    assert {"lead_ms", "recall", "precision", "false_alarms_per_min"} <= set(lstm["prediction"])
    assert set(lstm["balancer"]) == {"policy", "broken_flows", "max_over_mean_load", "packet_ins", "dropped_fragments"}
    assert lstm["expectations"] == [{"text": "buffer.resizes > 1", "value": 29, "passed": True}]


def test_every_figure_it_can_hold_is_known_to_expectations() -> None:
    made = synthetic_run.make(synthetic_run.facts("lstm", seconds=10))
    more = {"deflected_pkts": 5, "deflected_in_pkts": 5, "marked_pkts": 3}
    tcp = {"tcp_arrived_pkts": 9, "tcp_dropped_pkts": 1, "tcp_marked_pkts": 2}
    nodes = tuple(replace(node, **more, **tcp) for node in made.evidence.nodes)
    source = TcpEvidence("bulk", "c1", "cubic", 2, 0, 10**9, 1000, 1, Histogram.of([10**6]))
    rest = {"tcp": (source,), "trunks": (TrunkEvidence("s1-s2"),), "first_delay": Histogram.of([10**6])}
    load, decided = {"load_bps": 9, "serving": 1, "joining": 0}, {"size": 2, "current": 1}
    events = [*made.events, (1, {"kind": "LoadMeasured", **load}), (2, {"kind": "LoadMeasured", **load})]
    events += [(2, {"kind": "ScaleDecided", **decided}), (2, {"kind": "StartNode", "node": "n1"})]
    events.append((2, {"kind": "StagesChanged", "nodes": ["n1"], "stage": [2]}))
    heard = {"kind": "SitesHeard", "policy": "a/travel", "sites": ["a"]}
    events += [(3, {**heard, "demand_bps": [1]}), (4, {**heard, "demand_bps": [9]})]
    region = RegionEvidence("a", 10, 9, (900,), Histogram.of([10**6]))
    rest |= {"regions": (region,), "wan_bytes": 0, "report_bytes": 0}
    full = summary_of(replace(made, events=events, evidence=replace(made.evidence, nodes=nodes, **rest)))
    outside = {"schema", "seed"}
    found = {path for path in leaves(full) if not path.startswith(("tcp.sources", "sites.regions"))}
    found |= {f"failover.{path}" for path in leaves(failover_section(FAILOVER) or {})}
    found |= {f"balancer.{path}" for path in leaves({"decision_us": _decisions(FAILOVER)})}
    assert found - outside == set(paths())


def test_a_deflected_packet_counts_once(lstm: dict[str, Any]) -> None:
    made = synthetic_run.make(synthetic_run.facts("lstm", seconds=10))
    first, second, *others = made.evidence.nodes
    handed = 1000
    first = replace(first, deflected_pkts=handed, deflected_in_pkts=0)
    second = replace(
        second,
        arrived_pkts=second.arrived_pkts + handed,
        arrived_bytes=second.arrived_bytes + handed * synthetic_run.PACKET,
        deflected_in_pkts=handed,
    )
    summary = summary_of(replace(made, evidence=replace(made.evidence, nodes=(first, second, *others))))
    assert summary["buffer"]["deflected_packets"] == handed
    assert summary["buffer"]["loss_ratio"] == lstm["buffer"]["loss_ratio"]
    assert summary["balancer"]["max_over_mean_load"] == pytest.approx(lstm["balancer"]["max_over_mean_load"])


def test_sections_that_do_not_apply_are_absent() -> None:
    made = synthetic_run.make(synthetic_run.facts("static-min", seconds=2))
    nodes = tuple(replace(node, delay=None, reordered_pkts=None) for node in made.evidence.nodes)
    bare = replace(made.evidence, nodes=nodes, setup_s=None, teardown_s=None, packet_ins=None)
    del made.columns["loop_ns"]
    summary = summary_of(replace(made, evidence=bare))
    assert not {"prediction", "delay_ms", "control_loop_us", "setup_s", "teardown_s", "failover"} & set(summary)
    assert "packet_ins" not in summary["balancer"]
    assert "reordered_packets" not in summary["traffic"]


def test_reserved_memory_is_the_integral_of_the_limits() -> None:
    made = synthetic_run.make(synthetic_run.facts("static-min", seconds=2, nodes=2))
    limits = np.where(np.array(made.columns["t_ns"]) >= 1 * NS_PER_S, 2_500_000, 500_000)
    buffer = summary_of(replace(made, columns={**made.columns, "limit_bytes": limits}))["buffer"]
    # two nodes, 0.5 MB in the first second and 2.5 MB in the second
    assert buffer["reserved_mb_s"] == pytest.approx(2 * (0.5 + 2.5))
    assert buffer["mean_limit_bytes"] == 1_500_000
    ended = replace(made, facts=replace(made.facts, duration_ns=NS_PER_S))  # the second one was draining
    buffer = summary_of(replace(ended, columns={**made.columns, "limit_bytes": limits}))["buffer"]
    assert buffer["reserved_mb_s"] == pytest.approx(2 * 0.5)
    assert buffer["mean_limit_bytes"] == 500_000


def test_loss_ratio_and_goodput() -> None:
    made = synthetic_run.make(synthetic_run.facts("static-min", seconds=4))
    summary = summary_of(made)
    nodes = made.evidence.nodes
    lost, arrived = sum(node.dropped_pkts for node in nodes), sum(node.arrived_pkts for node in nodes)
    assert summary["buffer"]["loss_ratio"] == lost / arrived > 0.05
    assert summary["traffic"]["goodput_bps"] == sum(node.delivered_bytes for node in nodes) * 8 / 4


def test_a_resize_is_a_change() -> None:
    made = synthetic_run.make(synthetic_run.facts("static-min", seconds=2))

    def limits(*pairs: tuple[int, int]) -> list[dict[str, Any]]:
        return [{"t_ns": t, "kind": "SetBufferLimit", "nodes": ["n1"], "limit_bytes": [size]} for t, size in pairs]

    rows = by_node(made.samples)
    late = 10**9
    assert count_resizes(limits((late, 500_000), (late, 500_000)), rows) == 0
    assert count_resizes(limits((late, 600_000), (late, 600_000), (late, 500_000)), rows) == 2
    assert count_resizes(limits((0, 10**7), (late, 10**7)), rows) == 0  # the first one set the initial limit
    many = [{"t_ns": late, "kind": "SetBufferLimit", "nodes": ["n1", "n2"], "limit_bytes": [1, 2]}]
    assert count_resizes([*many, {"t_ns": late, "kind": "Other"}, *many], rows) == 2


def test_expansions_that_no_burst_used_are_wasted() -> None:
    made = synthetic_run.make(synthetic_run.facts("static-min", seconds=4, nodes=1))
    times = np.array(made.columns["t_ns"])
    limits = np.full(len(times), 500_000)
    limits[(times > 450 * NS_PER_MS) & (times < 700 * NS_PER_MS)] = 2_000_000  # the burst of 0.5 s
    limits[(times > 1_500 * NS_PER_MS) & (times < 1_600 * NS_PER_MS)] = 2_000_000  # nothing comes
    buffer = summary_of(replace(made, columns={**made.columns, "limit_bytes": limits}))["buffer"]
    assert (buffer["expansions"], buffer["wasted_expansions"]) == (2, 1)


def test_forecasts_that_announce_every_burst(lstm: dict[str, Any]) -> None:
    score = lstm["prediction"]
    assert (score["recall"], score["precision"], score["false_alarms_per_min"]) == (1.0, 1.0, 0.0)
    # 100 ms of announcement, and 187 kB a step need 2.7 steps to pass the floor
    assert score["lead_ms"]["p50"] == pytest.approx(100 + 10 + 500 / 187 * 10 - 10, abs=11)


def test_a_forecast_of_the_present_has_no_recall_and_false_alarms_are_counted() -> None:
    made = synthetic_run.make(synthetic_run.facts("lstm", seconds=8, nodes=1))
    backlog = np.array(made.columns["backlog_bytes"])
    copied = summary_of(replace(made, columns={**made.columns, "predicted_bytes": backlog}))["prediction"]
    assert (copied["recall"], copied["precision"]) == (0.0, 1.0)
    assert "lead_ms" not in copied
    silent = np.zeros(len(backlog))
    silent[[160, 180, 360]] = 10**6  # after the backlog of one burst is gone and long before the next
    wrong = summary_of(replace(made, columns={**made.columns, "predicted_bytes": silent}))["prediction"]
    assert (wrong["recall"], wrong["precision"], wrong["alarms"]) == (0.0, 0.0, 3)
    assert wrong["false_alarms_per_min"] == pytest.approx(3 / (8 / 60))


def test_a_lead_begins_with_the_alarm_or_the_end_of_the_burst_before() -> None:
    found = spans((1000, 1100), (1300, 1400), (5000, 5100))
    assert (leads_ns(found, spans((900, 1500))) / NS_PER_MS).tolist() == [100, 200, 0]
    assert (leads_ns(found, spans((1000, 1500))) / NS_PER_MS).tolist() == [0, 200, 0]
    assert (leads_ns(found, spans((0, 6000))) / NS_PER_MS).tolist() == [1000, 200, 1000]
    assert (leads_ns(found, spans((800, 900))) / NS_PER_MS).tolist() == [0, 0, 0]
    assert leads_ns(found, spans()).tolist() == [0, 0, 0]


def test_overlap_reaches_forward_only() -> None:
    alarms = spans((100, 200), (1000, 1100), (3000, 3100))
    found = spans((300, 400), (1301, 1400), (2900, 2950))
    assert overlapped(alarms, found, 200 * NS_PER_MS).tolist() == [True, False, False]


def test_an_expectation_on_an_absent_figure_fails_and_says_so() -> None:
    made = synthetic_run.make(synthetic_run.facts("static-min", seconds=2, expect=("prediction.recall > 0.5",)))
    (result,) = summary_of(made)["expectations"]
    assert result["passed"] is False
    assert result["value"] is None
    assert result["reason"] == "the summary of this run has no prediction.recall"
