"""What a run will come to: the model in plain numbers, the nearest scenario that would be VALID, what is kept."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed import doctor
from testbed.capacity import foresight, measured
from testbed.capacity.costs import Costs, Slope
from testbed.capacity.load import Load, load_of
from testbed.capacity.model import Forecast, all_taken_ratio, forecast
from testbed.capacity.nearest import most_nodes, nearest
from testbed.capacity.small_trial import LONGEST_INTERVAL_NS, PHASES, in_small
from testbed.capacity.spent import AGENTS, CONTROL, MESH, REST, SENDERS, SWITCH, kind_of
from testbed.emulation import bounds
from testbed.errors import EXIT_MACHINE_LACKS, EXIT_OK, ToolError
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.topologies import describe
from testbed.traffic.plan import make_plan
from testbed.units import NS_PER_MS
from tests.command import call, write_tiny

US = 1000.0
COSTS = Costs(
    cores=2,
    other_ratio=0.0,
    agents_ratio=Slope(0.0, 0.0005),  # a tick of 500 us
    cohort_ratio=Slope(0.0, 0.0015),  # one of many nodes takes 1.5 ms
    mesh_ratio=Slope(0.0, 0.0001),
    control_ratio=Slope(0.05, 0.005),
    rest_ratio=Slope(0.0, 0.0),
    record_ratio=Slope(0.0, 0.0),
    agent_processes=Slope(0.0, 1.0),
    mesh_processes=Slope(0.0, 1.0),
    paces_pps=(2_000.0, 10_000.0, 100_000.0),
    switch_ns=(Slope(50 * US, 5 * US), Slope(25 * US, 2.5 * US), Slope(10 * US, US)),
    send_ns=(20 * US, 15 * US, 5 * US),
    flow_ns=200 * US,
    late_ns=30 * US,
    turn_variation=0.2,
    node_bytes=12e6,
    fixed_bytes=100e6,
)


def load(nodes: int = 3, pps: float = 1_000.0, *, ms: int = 4_000, **changed: Any) -> Load:
    """Return a load of one client that sends evenly."""
    usual = Load(
        nodes=nodes, clients=2, interval_ns=10 * NS_PER_MS, heartbeat_ns=10 * NS_PER_MS, sync_ns=100 * NS_PER_MS,
        watchers=3, sent_ms=np.full((1, ms), pps / 1000), begun_ms=np.zeros(ms), bits_per_s=pps * 8000,
    )  # fmt: skip
    return replace(usual, **changed)


def value(made: Forecast, name: str) -> float:
    return next(expected.value for expected in made.values if name in expected.name)


def scenario(**changed: Any) -> Scenario:
    data = {
        "version": 1, "name": "x", "duration": "2s", "topology": {"family": "cluster", "nodes": 3, "clients": 2},
        "traffic": [{"name": "a", "from": "c1", "shape": "constant", "rate": "8Mbit", "packet": "1000B", "flows": 10}],
    }  # fmt: skip
    return Scenario.model_validate({**data, **changed})


# ------------------------------------------------------------------------------------------------------------ demand


def test_messages_and_ticks_are_counted_from_the_scenario() -> None:
    asked = load(nodes=10)
    assert asked.ticks_per_s == 1_000
    assert asked.messages_per_s == 10 * (3 * 100 + 10 * 10)
    assert load(nodes=1).messages_per_s == 0
    assert load(nodes=30).messages_per_s == 30 * (3 * 100 + (5 + 1) * 10), "in a large mesh states go to five"


def test_nodes_that_tick_together_wake_their_agents_once() -> None:
    assert [load(nodes=nodes).wake_ups_per_s for nodes in (1, 8, 9, 100)] == [100, 800, 100, 100]
    assert [load(nodes=nodes).ticks_per_s for nodes in (8, 9)] == [800, 900]
    agents = [forecast(load(nodes=nodes), COSTS).cores_ratio["agents"] for nodes in (8, 9, 100)]
    assert agents == pytest.approx([0.4, 0.15, 0.15])
    two_apart, all_apart = load(nodes=30, apart=2), load(nodes=30, apart=30)
    assert (two_apart.own_ticks, two_apart.common_ticks) == (2, 3)
    assert (all_apart.own_ticks, all_apart.common_ticks) == (30, 0)
    assert all_apart.of_nodes(9).own_ticks == 9


def test_a_small_load_is_valid_and_its_cores_are_the_sum_of_its_parts() -> None:
    made = forecast(load(), COSTS)
    assert made.verdict == "VALID"
    assert made.cores_ratio["agents"] == pytest.approx(0.15)
    assert made.cores_ratio["mesh"] == pytest.approx(3 * (2 * 100 + 3 * 10) * 0.0001)
    assert made.cores_ratio["control"] == pytest.approx(0.065)
    assert made.cores_ratio["switch"] == pytest.approx(1_000 * 75e-6)  # five ports, packets by themselves
    assert made.cores_ratio["senders"] == pytest.approx(1_000 * 20e-6)


def test_the_mean_of_a_burst_is_not_its_peak() -> None:
    even, burst = np.full((1, 4_000), 4.0), np.zeros((1, 4_000))
    burst[0, 1_000:1_200] = 80.0  # as many packets, all in 200 ms: more than the switch takes
    assert forecast(load(sent_ms=even), COSTS).verdict == "VALID"
    made = forecast(load(sent_ms=burst), COSTS)
    assert made.verdict == "INVALID"
    assert made.limit.resource == "the switch"
    # 80,000 packets of 15 us a second ask for 1.2 cores: 40 ms are behind after 200 ms
    assert value(made, "longest stall") == pytest.approx(40, rel=0.1)


def test_new_flows_cost_the_switch_by_themselves() -> None:
    begun = np.zeros(4_000)
    begun[100:200] = 10.0  # a thousand flows of 200 us in 100 ms
    assert value(forecast(load(begun_ms=begun), COSTS), "longest stall") > 100


def test_what_goes_before_the_switch_is_missing_to_it() -> None:
    slow = replace(COSTS, mesh_ratio=Slope(0.0, 0.0005))
    made = forecast(load(nodes=10, pps=10_000), slow)
    assert made.verdict == "INVALID"
    assert math.isinf(value(made, "way from client to node p99"))
    assert "grows without bound" in foresight.expected(slow, load(nodes=10, pps=10_000)).words


def test_the_switch_goes_before_agents_and_makes_them_late() -> None:
    slow = replace(COSTS, cohort_ratio=Slope(0.0, 0.018))
    made = forecast(load(nodes=10, pps=10_000), slow)
    assert made.verdict == "INVALID"
    assert math.isinf(value(made, "agent loop lateness p99"))
    assert value(made, "way from client to node p99") < 1
    few, many = (forecast(load(nodes=3, pps=pps), COSTS) for pps in (1_000, 30_000))
    assert value(few, "agent loop lateness p99") < value(many, "agent loop lateness p99")


def test_one_process_for_all_agents_has_one_core() -> None:
    shared = replace(COSTS, agent_processes=Slope(1.0, 0.0))
    asked = load(nodes=19, pps=100, apart=19)
    assert value(forecast(asked, shared), "by an agent process") == pytest.approx(0.95)
    assert value(forecast(asked, COSTS), "by an agent process") == pytest.approx(0.05)


def test_other_work_makes_the_cores_busy() -> None:
    made = forecast(load(), replace(COSTS, other_ratio=1.46))
    assert (made.verdict, made.limit.resource) == ("DEGRADED", "cores")
    assert 0.90 < value(made, "CPU busy") < 0.97


def test_the_probability_of_waiting_is_erlangs() -> None:
    assert all_taken_ratio(0.5, 1) == pytest.approx(0.5)
    assert all_taken_ratio(0.5, 2) == pytest.approx(1 / 3)


def test_a_line_through_two_points_has_no_negative_part() -> None:
    assert Slope.through((3, 0.3), (6, 0.45)) == pytest.approx((0.15, 0.05))
    assert Slope.through((3, 0.3), (6, 0.2)) == pytest.approx((0.2, 0.0))
    assert Slope.through((3, 0.1), (6, 0.4)) == pytest.approx((0.0, 0.4 / 6))
    assert Slope.through((3, 0.3), (3, 0.3)) == pytest.approx((0.0, 0.1))
    assert Slope.through((0, 0.0), (0, 0.0)) == (0.0, 0.0)


# ----------------------------------------------------------------------------------------------------------- nearest


def test_the_nearest_is_the_largest_that_is_valid() -> None:
    asked = load(nodes=40, pps=40 * 300.0)
    nodes = most_nodes(asked, COSTS)
    assert 0 < nodes < 40
    assert forecast(asked.of_nodes(nodes), COSTS).verdict == "VALID"
    assert forecast(asked.of_nodes(nodes + 1), COSTS).verdict != "VALID"
    assert f"at most {nodes} nodes of 2.4Mbit" in nearest(asked, COSTS)


def test_longer_samples_are_offered_where_agents_are_what_limits() -> None:
    assert "a sample interval of 20ms" in nearest(
        load(nodes=8, pps=500), replace(COSTS, agents_ratio=Slope(0.0, 0.0019))
    )


def test_lower_rates_are_offered_where_the_switch_is_what_limits() -> None:
    asked = load(pps=70_000)
    assert any(text.startswith("rates multiplied by 0.") for text in nearest(asked, COSTS))


def test_other_work_is_named_first_where_it_is_what_is_in_the_way() -> None:
    first = nearest(load(), replace(COSTS, other_ratio=1.7))[0]
    assert first == "end other work on this machine (it uses 1.7 of 2 cores)"


# ---------------------------------------------------------------------------------------------- from a scenario, words


def test_the_load_of_a_scenario_is_that_of_its_plan() -> None:
    asked = scenario()
    network = describe(asked.topology)
    found = load_of(asked, network, make_plan(asked, network, Path()))
    assert found.arrived_ms.sum() == 2_000
    assert found.begun_ms.sum() == 10
    assert (found.ports, found.interval_ns) == (5, 10 * NS_PER_MS)
    assert found.bits_per_s == 8_000_000


def test_of_a_long_run_the_busiest_minute_is_looked_at() -> None:
    late = {"name": "late", "from": "c2", "shape": "on-off", "off": {"constant": "100s"}, "on": {"constant": "10s"},
            "peak": "80Mbit", "packet": "1000B", "flows": 20}  # fmt: skip
    asked = scenario(duration="110s", traffic=[*scenario().resolved()["traffic"], late])
    network = describe(asked.topology)
    found = load_of(asked, network, make_plan(asked, network, Path()))
    assert found.sent_ms.shape == (2, 60_000)
    assert found.sent_ms[1].sum() == pytest.approx(100_000, rel=0.05)


def test_the_words_name_verdict_limit_and_nearest() -> None:
    seen = foresight.expected(COSTS, load(nodes=40, pps=12_000))
    assert seen.words.startswith("expected INVALID, limited by ")
    assert seen.remedy.startswith("to be VALID here: at most ")
    assert json.loads(json.dumps(seen.to_record()))["verdict"] == "INVALID"
    assert foresight.expected(COSTS, load()).remedy == ""


def test_memory_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "free_bytes", lambda: 10**8)
    seen = foresight.expected(COSTS, load())
    assert not seen.fits
    assert seen.words == "it needs 0.1 GB of memory, but 0.1 GB are free"


def test_a_scenario_in_small_keeps_its_settings() -> None:
    asked = scenario(buffer={"policy": "reactive", "sample_interval": "5ms"}, faults=[{"at": "1s", "crash": "n2"}])
    small = in_small(asked, 2, 3)
    assert (small.buffer.policy, small.buffer.sample_interval_ns) == ("reactive", 5 * NS_PER_MS)
    assert (small.topology.nodes, small.topology.clients, small.faults) == (2, 3, ())
    slow = in_small(scenario(buffer={"sample_interval": "100ms"}), 2, 3)
    assert slow.buffer.sample_interval_ns == LONGEST_INTERVAL_NS  # its samples tell when packets arrived
    plan = make_plan(small, describe(small.topology), Path())
    assert len(plan) == pytest.approx(sum(phase.pps * phase.for_ms / 1000 for phase in PHASES), rel=0.05)


def test_processes_are_known_by_the_first_word_of_their_names() -> None:
    names = {"agent n1": AGENTS, "agents": AGENTS, "mesh n2": MESH, "mesh": MESH, "sender c1": SENDERS}
    names |= {"balancer": CONTROL, "standby": CONTROL, "ovs-vswitchd": SWITCH, "trial": REST}
    assert {name: kind_of(name) for name in names} == names


@pytest.mark.parametrize(("name", "refused"), [("n1", False), ("node-in-oslo1", True)])
def test_an_interface_whose_name_is_too_long_is_refused_before_the_run(name: str, refused: bool) -> None:
    asked = scenario(topology={"family": "single", "nodes": 1})
    network = describe(asked.topology)
    hosts = tuple(replace(host, name=name) if host.name == "n1" else host for host in network.hosts)
    links = tuple(
        replace(link, a=name if link.a == "n1" else link.a, b=name if link.b == "n1" else link.b)
        for link in network.links
    )
    found = [complaint.happened for complaint in bounds.check(asked, Network(hosts, network.switches, links))]
    assert any("node-in-oslo1-eth" in happened for happened in found) == refused


def test_a_measurement_that_failed_is_a_finding() -> None:
    finding = doctor.unmeasured(ToolError("measuring this machine", "of 100 packets 3 were seen", "end other work"))
    assert (finding.name, finding.status, finding.remedy) == ("capacity", "limited", "end other work")
    assert "of 100 packets 3 were seen" in finding.detail


# -------------------------------------------------------------------------------------------------------------- kept


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "testbed" / "capacity.json"


def test_what_was_measured_is_recalled_for_the_same_settings(cache: Path) -> None:
    measured.keep(scenario(), COSTS)
    larger = scenario(seed=7, duration="5s", topology={"family": "cluster", "nodes": 9})
    assert measured.recall(larger) == (COSTS, True)


def test_without_one_under_the_settings_the_last_measurement_serves_and_the_words_say_so(cache: Path) -> None:
    slow = replace(COSTS, agents_ratio=Slope(0.0, 0.01))
    measured.keep(scenario(buffer={"policy": "holt"}), COSTS)
    measured.keep(scenario(), slow)
    other = scenario(buffer={"policy": "static-min"})
    assert measured.recall(other) == (slow, False)
    network = describe(other.topology)
    seen = foresight.recalled(other, network, make_plan(other, network, Path()))
    assert seen is not None
    assert "measured with other settings" in seen.words


@pytest.mark.parametrize("content", ["", "{}", "[", '{"x": 1}', None])
def test_a_cache_that_cannot_be_read_is_as_good_as_none(cache: Path, content: str | None) -> None:
    measured.keep(scenario(), COSTS)
    cache.unlink() if content is None else cache.write_text(content)
    assert measured.recall(scenario()) is None


def test_a_measurement_of_another_machine_or_form_is_not_recalled(cache: Path) -> None:
    measured.keep(scenario(), COSTS)
    kept = json.loads(cache.read_text())
    for entry in kept.values():
        entry["costs"]["cores"] = "two"
    cache.write_text(json.dumps(kept))
    assert measured.recall(scenario()) is None
    for entry in kept.values():
        entry["costs"]["cores"], entry["machine"] = 2, "another"
    cache.write_text(json.dumps(kept))
    assert measured.recall(scenario()) is None


def test_without_a_cache_folder_nothing_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/nowhere")
    measured.keep(scenario(), COSTS)
    assert measured.recall(scenario()) is None


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_doctor_measures_this_machine_and_says_what_a_scenario_will_come_to(cache: Path, tmp_path: Path) -> None:
    done = call("doctor", write_tiny(tmp_path), "--json")
    assert done.returncode in (EXIT_OK, EXIT_MACHINE_LACKS), done.stderr
    record = json.loads(done.stdout)
    assert record["findings"][-1]["name"] == "capacity"
    assert record["capacity"]["verdict"] in ("VALID", "DEGRADED", "INVALID")
    machine = record["capacity"]["machine"]
    assert machine["switch_pps"] > 1_000
    assert 0 < machine["switch_packet_dense_us"] < machine["switch_packet_alone_us"]
    assert machine["agent_tick_us"] > 0
    assert len(json.loads(cache.read_text())) == 1
