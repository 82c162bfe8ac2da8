"""Several sites in virtual time: who serves a region, what a lost site and a cut WAN cost, and what reports are for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.errors import InputError
from testbed.policies.placement import SLOTS, Place, PlacementPolicy, filled, make_placement
from testbed.policies.travel import TravelForecast
from testbed.records.events import DemandExpected, SetSites, SitesHeard
from testbed.report.page import render
from testbed.results.accounting import account
from testbed.results.recorded_run import RecordedRun
from testbed.results.sites import leads_ns, loss_ratio, sites_section
from testbed.scenario.engine_checks import usual_engine
from testbed.scenario.loading import load
from testbed.scenario.model import Scenario
from testbed.scenario.placement import PlacementSpec
from testbed.scenario.sources import WaveSpec
from testbed.scenario.tables import PLACEMENT_POLICIES
from testbed.simulation.agenda import Agenda
from testbed.simulation.peers import Peers
from testbed.topologies import describe
from testbed.traffic import wave
from testbed.trials import checks
from testbed.trials.replay import replay
from testbed.units import NS_PER_MS, NS_PER_S
from testbed.wire import site_report
from testbed.wire.site_report import SiteReport
from tests import simulated_run

SITES = ("asia", "europe", "america")
MBIT = 10**6
STEADY = {"shape": "wave", "low": "4Mbit", "peak": "4Mbit", "period": "10s", "flows": 4000, "concurrent": 40}


def scenario(*faults: dict[str, Any], duration: str = "4s", peak: str = "4Mbit", **parts: Any) -> Scenario:
    traffic = [
        {**STEADY, "name": f"{site}-day", "from": f"c{number}", "flow_life": "200ms"}
        for number, site in enumerate(SITES, 1)
    ]
    crowd = {**STEADY, "name": "crowd", "from": "c1", "low": "0Mbit", "peak": peak, "width": "2s", "peak_at": "2s"}
    return Scenario.model_validate(
        {
            "version": 1,
            "name": "sites",
            "duration": duration,
            "topology": {
                "family": "multi-site",
                "node_rate": "10Mbit",
                "options": {"sites": {site: {"nodes": 2} for site in SITES}},
                "links": {"asia-america": {"delay": "60ms"}, "asia-europe": {"delay": "30ms"}},
            },
            "buffer": {"policy": "reactive", "min": "0.05MB", "max": "0.5MB", "sample_interval": "50ms"},
            "balancer": {"policy": "round-robin", "affinity_idle": "1s"},
            "traffic": [*traffic, {**crowd, "flow_life": "200ms"}],
            "faults": list(faults),
            **parts,
        }
    )


def shares(run: simulated_run.Simulated, region: str) -> list[float]:
    found = next(row for row in run.evidence.regions if row.region == region)
    return [amount / sum(found.delivered_bytes) for amount in found.delivered_bytes]


# -------------------------------------------------------------------------------------------------- the whole thing


def test_each_region_is_served_by_its_own_site_while_that_has_room() -> None:
    run = simulated_run.run(scenario())
    assert account(run.evidence).unaccounted_pkts == 0
    assert [shares(run, site)[row] for row, site in enumerate(SITES)] == [1.0, 1.0, 1.0]
    assert run.evidence.wan_bytes == 0
    assert (run.evidence.report_bytes or 0) > 0
    within_ms = [region.delay.quantile_ns(0.5) / NS_PER_MS for region in run.evidence.regions]  # type: ignore[operator]
    assert max(within_ms) < 10


def test_a_crowd_spills_to_the_nearest_site_that_has_room_and_loses_less_than_at_home() -> None:
    ready, nearest = (
        simulated_run.run(scenario(peak="40Mbit", placement={"policy": policy})) for policy in ("ready", "nearest")
    )
    at_home, to_europe, to_america = shares(ready, "asia")
    assert at_home > to_europe > to_america
    assert to_europe > 0.05
    assert shares(nearest, "asia") == [1.0, 0.0, 0.0]
    assert loss_ratio(ready.evidence.regions[0]) < loss_ratio(nearest.evidence.regions[0]) / 2
    for run in (ready, nearest):
        assert account(run.evidence).unaccounted_pkts == 0


def test_a_lost_site_is_served_by_others_and_comes_back() -> None:
    lost = {"at": "1s", "site_loss": "asia", "for": "1s"}
    run = simulated_run.run(scenario(lost, duration="5s"))
    assert account(run.evidence).unaccounted_pkts == 0
    assert run.evidence.fault_counted_pkts == run.evidence.fault_numbered_pkts
    tables = [
        (event["t_ns"] / NS_PER_MS, set(event["slots"]), event["lost"])
        for event in run.recorded.events
        if event["kind"] == "SetSites" and event["policy"] == "asia/placement"
    ]
    gone, back = tables[0], tables[-1]
    assert gone[1:] == ({"europe"}, ["asia"])
    assert 1000 < gone[0] <= 1000 + 500
    assert back[1:] == ({"asia"}, [])
    assert 3000 <= back[0] < 3500  # it has reported for a second again
    static = simulated_run.run(scenario(lost, duration="5s", placement={"policy": "static"}))
    assert loss_ratio(run.evidence.regions[0]) < loss_ratio(static.evidence.regions[0]) / 2


def test_a_cut_link_of_the_wan_loses_what_is_sent_into_it_and_is_left_alone_from_then_on() -> None:
    faults = ({"at": "1s", "site_loss": "asia"}, {"at": "2s", "wan_cut": "asia-europe", "for": "1s"})
    run = simulated_run.run(scenario(*faults, duration="5s"))
    accounting = account(run.evidence)
    assert accounting.unaccounted_pkts == 0
    cut = {trunk.link: trunk.fault_dropped_pkts for trunk in run.evidence.trunks}
    assert (cut["asia-europe"] or 0) > 0
    assert cut["asia-america"] == 0
    assert accounting.dropped_pkts["fault"] >= (cut["asia-europe"] or 0)
    assert shares(run, "asia")[2] > 0.1  # it went to america while europe was not reached


def test_a_link_of_the_wan_has_a_capacity() -> None:
    links = {"asia-europe": {"delay": "30ms", "rate": "1Mbit", "queue": "0.01MB"}, "asia-america": {"delay": "60ms"}}
    spec = scenario({"at": "1s", "site_loss": "asia"}, placement={"policy": "nearest"})
    topology = spec.topology.model_copy(
        update={
            "links": type(spec.topology)
            .model_validate({**spec.topology.model_dump(by_alias=True, mode="json", exclude_none=True), "links": links})
            .links
        }
    )
    run = simulated_run.run(spec.model_copy(update={"topology": topology}))
    accounting = account(run.evidence)
    assert accounting.unaccounted_pkts == 0
    assert accounting.dropped_pkts["link"] > 0


def test_the_same_seed_gives_the_same_bytes() -> None:
    spec = scenario({"at": "1s", "site_loss": "europe", "for": "500ms"}, peak="24Mbit", duration="3s")
    one, other = simulated_run.run(spec), simulated_run.run(spec)
    assert one.evidence.to_record() == other.evidence.to_record()
    assert json.dumps(one.recorded.events) == json.dumps(other.recorded.events)


@pytest.mark.parametrize("policy", PLACEMENT_POLICIES.names)
def test_a_run_is_replayed_decision_by_decision(policy: str, tmp_path: Path) -> None:
    spec = scenario({"at": "1s", "site_loss": "asia", "for": "500ms"}, peak="24Mbit", placement={"policy": policy})
    assert replay(simulated_run.write(spec, tmp_path / "run")) is None


def test_reports_are_all_that_sites_exchange_and_their_bytes_are_counted() -> None:
    by_share = {
        share: simulated_run.run(scenario(duration="1s", placement={"share": share})).evidence.report_bytes or 0
        for share in ("none", "load", "forecast")
    }
    messages = 3 * 2 * 10  # three sites, two others each, ten intervals
    assert by_share["load"] - by_share["none"] == messages * 3 * 8
    assert by_share["forecast"] - by_share["load"] == messages * 8


def test_sites_scale_by_themselves_and_nodes_that_were_added_serve() -> None:
    topology = {
        "family": "multi-site",
        "node_rate": "10Mbit",
        "options": {"sites": {site: {"nodes": 1, "max": 4} for site in SITES}},
    }
    scaler = {"policy": "predictive", "min": 1, "period": "200ms", "stabilisation": "1s", "boot": "100ms"}
    run = simulated_run.run(scenario(peak="20Mbit", topology=topology, autoscaler=scaler))
    assert account(run.evidence).unaccounted_pkts == 0
    started = [event for event in run.recorded.events if event["kind"] == "StartNode"]
    assert started
    assert {event["policy"] for event in started} >= {"asia/lifecycle"}
    assert next(node for node in run.evidence.nodes if node.node == "n2").delivered_pkts > 0


def test_an_announced_wave_is_a_severity_that_all_nodes_of_the_site_hear() -> None:
    peers = Peers(("n1", "n2"), 100 * NS_PER_MS, 0, Agenda())
    edition = peers.edition
    peers.announce(0.6)
    assert peers.heard(slice(0, 2)).tolist() == [0.6, 0.6]
    assert peers.edition > edition
    peers.announce(0.0)
    assert peers.heard(slice(0, 2)).tolist() == [0.0, 0.0]


def test_every_chart_of_the_page_has_its_place_with_a_summary_and_without(tmp_path: Path) -> None:
    spec = scenario(duration="500ms")
    path = simulated_run.write(spec, tmp_path / "run")
    evidence = simulated_run.run(spec).evidence
    (path / "evidence.json").write_text(json.dumps(evidence.to_record()))
    for summary in (None, {"sites": sites_section(evidence, [])}):
        if summary is not None:
            form = {"scenario": "sites", "engine": "simulation", "seed": 1, "status": "completed", "verdict": "VALID"}
            (path / "summary.json").write_text(json.dumps({**form, "verdict_reasons": [], **summary}))
        text = render(RecordedRun.open(path))
        figures = json.loads(text.split("const figures = ")[1].split(";\n")[0])
        assert "sites" in figures
        assert [name for name in figures if f'id="{name}"' not in text] == []
        assert ("<td>america</td>" in text) == (summary is not None)


# ------------------------------------------------------------------------------------------------------ placement


def heard(load: tuple[int, ...], sent: tuple[int, ...], **columns: tuple[int, ...]) -> SitesHeard:
    given = {"capacity_bps": (20, 20, 20), "age_ns": (0, 0, 0), "demand_bps": (0, 0, 0), **columns}
    given |= {"load_bps": load, "sent_bps": sent}
    arrays = {
        name: np.array(given.get(name, (0, 0, 0)), dtype=np.int64) * (1 if name == "age_ns" else MBIT)
        for name in ("age_ns", "capacity_bps", "load_bps", "demand_bps", "expected_bps", "sent_bps", "planned_bps")
    }
    return SitesHeard(sites=SITES, **arrays)


def policy(name: str = "ready", home: int = 0) -> PlacementPolicy:
    delay = np.array([[0, 30, 60], [30, 0, 20], [60, 20, 0]], dtype=np.int64) * NS_PER_MS
    place = Place(SITES, home, delay, np.full(3, 20 * MBIT))
    return make_placement(PlacementSpec.model_validate({"policy": name}), place)


def held(made: PlacementPolicy) -> list[int]:
    return np.bincount(made.table, minlength=3).tolist()


def test_a_demand_fills_the_nearest_rooms_first() -> None:
    taken, left = filled(10.0, np.array([4.0, -1.0, 3.0]), [2, 1, 0])
    assert taken.tolist() == [4.0, 0.0, 3.0]
    assert left == 3.0


def test_ready_leaves_room_for_a_wave_that_another_site_expects() -> None:
    calm, ahead = policy(), policy()
    calm.handle(heard((24, 4, 4), (24, 0, 0)), 0)
    ahead.handle(heard((24, 4, 4), (24, 0, 0), demand_bps=(24, 4, 4), expected_bps=(0, 16, 0)), 0)
    assert held(calm)[1] > 0
    assert held(calm)[2] == 0
    assert held(ahead)[1] == 0
    assert held(ahead)[2] > 0


def test_least_loaded_ignores_distance_and_nearest_ignores_load() -> None:
    event = heard((18, 10, 2), (18, 0, 0))
    for name, expected in (("least-loaded", 2), ("nearest", 0), ("static", 0)):
        made = policy(name)
        made.handle(event, 0)
        assert held(made)[expected] == SLOTS


def test_a_site_without_reports_is_lost_and_one_that_returns_is_used_after_a_while() -> None:
    made = policy("nearest")
    late = (400 * NS_PER_MS, 0, 0)
    assert made.handle(heard((0, 0, 0), (0, 0, 0)), 0) == []
    (action,) = made.handle(heard((0, 0, 0), (0, 0, 0), age_ns=late), NS_PER_S)
    assert isinstance(action, SetSites)
    assert (set(action.slots), action.lost) == ({"europe"}, ("asia",))
    assert made.handle(heard((0, 0, 0), (0, 0, 0)), NS_PER_S + 1) == []
    (back,) = made.handle(heard((0, 0, 0), (0, 0, 0)), 2 * NS_PER_S + 1)
    assert isinstance(back, SetSites)
    assert (set(back.slots), back.lost) == ({"asia"}, ())


def test_an_edge_that_hears_of_nobody_stays_where_it_is() -> None:
    made = policy("nearest")
    assert made.handle(heard((0, 0, 0), (0, 0, 0), age_ns=(NS_PER_S,) * 3), NS_PER_S) == []
    assert held(made) == [SLOTS, 0, 0]


# --------------------------------------------------------------------------------------------- waves that travel


def travelling(lag: int, seconds: int = 40, sync_ms: int = 100) -> tuple[TravelForecast, list[tuple[int, int, int]]]:
    """Return a forecaster of the third site, and at each interval the demand there and what was expected of it."""
    spec = PlacementSpec.model_validate({"lag": "5s"})
    made, course = TravelForecast(spec, SITES, 2, 500 * NS_PER_MS), []
    expected, steps = 0, seconds * 1000 // sync_ms
    for step in range(steps):
        demand = [2 + 20 * max(0.0, 1 - (((step - k * lag) % 80) - 20) ** 2 / 100) for k in range(3)]
        event = heard((0, 0, 0), (0, 0, 0), demand_bps=(0, 0, 0))
        event = SitesHeard(
            **{
                **{
                    n: getattr(event, n)
                    for n in ("sites", "age_ns", "capacity_bps", "load_bps", "expected_bps", "sent_bps", "planned_bps")
                },
                "demand_bps": np.array(demand, dtype=np.float64).astype(np.int64) * MBIT,
            }
        )
        for action in made.handle(event, step * sync_ms * NS_PER_MS):
            assert isinstance(action, DemandExpected)
            expected = action.expected_bps
        course.append((step, int(demand[2] * MBIT), expected))
    return made, course


def test_a_wave_that_was_seen_elsewhere_is_announced_before_it_arrives() -> None:
    _, course = travelling(lag=13)
    waves = [step for step, demand, _ in course[1:] if demand >= 11 * MBIT > course[step - 1][1]]
    last = waves[-1]
    assert [expected >= 11 * MBIT for _, _, expected in course[last - 5 : last + 1]] == [True] * 6
    assert course[last - 40][2] < 11 * MBIT  # and not all the time


def test_nothing_is_announced_before_a_wave_has_been_seen_in_both_regions() -> None:
    _, course = travelling(lag=13, seconds=3)
    assert all(expected == 0 for _, _, expected in course)


def test_the_lead_of_a_wave_is_how_long_it_was_announced() -> None:
    def line(t: int, **fields: Any) -> dict[str, Any]:
        return {"t_ns": t, "policy": "asia/travel", **fields}

    def demand(t: int, value: int) -> dict[str, Any]:
        return line(t, kind="SitesHeard", direction="in", sites=["asia"], demand_bps=[value])

    events = [
        *(demand(1, 0), line(1, kind="DemandExpected", direction="out", expected_bps=9), demand(2, 1), demand(3, 2)),
        *(demand(4, 10), line(4, kind="DemandExpected", direction="out", expected_bps=0), demand(5, 1), demand(6, 9)),
    ]
    assert leads_ns(events) == [2, 0]


def test_a_wave_has_its_rate_at_every_time_and_its_flows_come_and_go() -> None:
    spec = WaveSpec.model_validate(
        {
            **{"name": "w", "from": "c1", "shape": "wave", "low": "1Mbit", "peak": "9Mbit", "period": "10s"},
            **{"width": "4s", "peak_at": "3s", "flows": 1000, "concurrent": 20, "flow_life": "500ms"},
        }
    )
    rates = wave.rate_bps(spec, np.array([3.0, 13.0, 2.0, 5.5, 9.0]) * NS_PER_S)
    assert rates.tolist() == [9 * MBIT, 9 * MBIT, MBIT + 8 * MBIT * 0.5625, MBIT, MBIT]
    packets = wave.wave(spec, 20 * NS_PER_S, 1)
    assert (np.diff(packets.t_ns) >= 0).all()
    top = int(((packets.t_ns > 2.9 * NS_PER_S) & (packets.t_ns < 3.1 * NS_PER_S)).sum())
    assert abs(top - 9 * MBIT * 0.2 / 8000) < 5 * (9 * MBIT * 0.2 / 8000) ** 0.5  # five standard deviations
    assert abs(len(packets.t_ns) - spec_packets(spec)) < 5 * spec_packets(spec) ** 0.5
    early = set(packets.flow[packets.t_ns < 400 * NS_PER_MS].tolist())
    late = set(packets.flow[(packets.t_ns > NS_PER_S) & (packets.t_ns < 1.4 * NS_PER_S)].tolist())
    assert early
    assert not early & late


def spec_packets(spec: WaveSpec) -> float:
    return next(row for row in wave.ROWS).expected(spec, 20 * NS_PER_S, 1)


# ------------------------------------------------------------------------------------------------------- messages


def test_a_report_is_read_as_it_was_sent() -> None:
    report = SiteReport("asia", 5, 1, 2, 3, 4)
    assert site_report.decode(site_report.encode(report, "forecast")) == report
    assert site_report.decode(site_report.encode(report, "none")) == SiteReport("asia", 5)
    for body in (b"", site_report.encode(report, "load") + b"x", b"TBNB" + bytes(20)):
        with pytest.raises(ValueError, match=r"report|truncated"):
            site_report.decode(body)


# ------------------------------------------------------------------------------------------------------ bad input


TEXT = """# Is it refused?
version: 1
name: bad
duration: 2s
topology:
  family: multi-site
  options: {options}
  {more}
traffic: [{{name: base, from: c1, shape: constant, rate: 1Mbit}}]
{rest}
"""


@pytest.mark.parametrize(
    ("options", "more", "rest", "expected"),
    [
        ("{sites: {a1: {nodes: 0}, b2: {nodes: 1}}}", "", "", "options.sites.a1.nodes .*greater than or equal to 1"),
        ("{sites: {a1: {nodes: 9, max: 3}, b2: {}}}", "", "", r"nodes \(9\) is more than max \(3\)"),
        ("{sites: {a1: {nodes: 1000000}, b2: {}}}", "", "", "options.sites.a1.nodes .*less than or equal to 1000"),
        ("{sites: {a1: {nodes: 900}, b2: {nodes: 900}}}", "", "", "1,800 nodes in total; the maximum is 1,000"),
        ("{sites: {a1: {}, b2: {}}, wan_rate: 0Mbit}", "", "", "wan_rate .*greater than 0"),
        ("{sites: {a1: {}, b2: {}}, wan_delay: -5ms}", "", "", "wan_delay"),
        ("{sites: {a1: {}, b2: {}}}", "links: {a1-b2: {rate: 0Mbit}}", "", "expected more than 0"),
        ("{sites: {a1: {}, b2: {}}}", "links: {a1-b2: {delay: -1ms}}", "", "delay"),
        ("{sites: {a1: {}, b2: {}}, clients: {moon: 2}}", "", "", "region moon of clients has no site"),
        ("{sites: {a1: {}}}", "", "", "at least 2"),
        ("{sites: {a1: {}, b2: {}}}", "nodes: 5", "", r"nodes \(5\) is not that of the sites \(6\)"),
        ("{sites: {a1: {}, b2: {}}}", "", "faults: [{at: 1s, site_loss: moon}]", "there is no site 'moon'"),
        ("{sites: {a1: {}, b2: {}}}", "", "faults: [{at: 1s, wan_cut: b2-a1}]", "write it as a1-b2"),
        ("{sites: {a1: {}, b2: {}}}", "", "faults: [{at: 1s, kill: controller}]", "use site_loss"),
        (
            "{sites: {a1: {}, b2: {}}}",
            "",
            "faults: [{at: 1s, site_loss: a1}, {at: 1500ms, crash: n1}]",
            "another fault of a1 lasts at that time",
        ),
        (
            "{sites: {a1: {nodes: 1}, b2: {nodes: 9}}}",
            "",
            "autoscaler: {policy: hpa, min: 1, max: 4}",
            "b2 begins with 9 nodes, not within",
        ),
    ],
)
def test_bad_input_is_refused(options: str, more: str, rest: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(TEXT.format(options=options, more=more, rest=rest))
    with pytest.raises(InputError, match=expected):
        load(path)


def test_the_emulation_refuses_sites_and_says_why_and_validate_takes_the_simulation(tmp_path: Path) -> None:
    path = tmp_path / "sites.yaml"
    path.write_text(TEXT.format(options="{sites: {a1: {}, b2: {}}}", more="", rest=""))
    loaded = load(path)
    with pytest.raises(InputError, match="an emulated network has one balancer"):
        checks.check(loaded, "emulation")
    assert usual_engine(loaded.scenario) == "simulation"
    checks.check(loaded, "simulation")


def test_sites_are_refused_where_there_are_none(tmp_path: Path) -> None:
    text = "# Is it?\nversion: 1\nname: x\nduration: 2s\ntopology: {family: single}\n{}\n"
    text += "traffic: [{{name: base, from: c1, shape: constant, rate: 1Mbit}}]\n"
    for more, expected in (
        ("placement: {policy: nearest}", "no sites to place flows at"),
        ("faults: [{at: 1s, site_loss: a1}]", "has no sites"),
    ):
        path = tmp_path / "bad.yaml"
        path.write_text(text.replace("{}", more).replace("{{", "{").replace("}}", "}"))
        with pytest.raises(InputError, match=expected):
            load(path)


def test_distances_make_the_delay_of_the_wan() -> None:
    spec = scenario().topology.model_validate(
        {
            "family": "multi-site",
            "options": {"sites": {"tokyo": {"at": [35.7, 139.7]}, "frankfurt": {"at": [50.1, 8.7]}, "moon": {}}},
        }
    )
    delays = {link.name: link.delay_ns / NS_PER_MS for link in describe(spec).trunks}
    assert 65 < delays["tokyo-frankfurt"] < 75  # 9,300 km, half as far again by fibre
    assert delays["tokyo-moon"] == 20
