"""Links between switches that go down: what is lost and where, and which ways the switches take meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import testbed
from testbed.errors import InputError
from testbed.scenario.network import Link, Network, Switch
from testbed.scenario.routing import routes_of, unused_when_down

LEAF_SPINE: dict[str, Any] = {
    **{"version": 1, "name": "trunks", "seed": 1, "duration": "1s", "record_packets": True},
    "topology": {
        **{"family": "leaf-spine", "nodes": 4, "clients": 1, "node_rate": "20Mbit"},
        "options": {"leaves": 2, "spines": 2},
    },
    "buffer": {"policy": "static-min", "min": "0.5MB"},
    "balancer": {"policy": "round-robin"},
    "traffic": [{"name": "base", "from": "c1", "shape": "constant", "rate": "16Mbit", "flows": 200}],
}
TWO_SWITCH = {**LEAF_SPINE, "topology": {"family": "two-switch", "nodes": 2, "clients": 1, "node_rate": "20Mbit"}}
MS = 1_000_000
FAR = ("n2", "n4")  # the nodes of leaf2


def load(faults: list[dict[str, Any]], folder: Path, base: dict[str, Any] = LEAF_SPINE) -> Any:
    path = folder / "trunks.yaml"
    path.write_text(yaml.safe_dump({**base, "faults": faults}))
    return testbed.load(path)


def simulated(faults: list[dict[str, Any]], folder: Path, base: dict[str, Any] = LEAF_SPINE) -> testbed.Run:
    run = testbed.simulate(load(faults, folder, base), out=folder / "run")
    assert run.verdict == "VALID", run.reasons
    assert run.summary["traffic"]["unaccounted_packets"] == 0
    return run


def lost_ns(run: testbed.Run) -> list[int]:
    """Return when the packets were sent that a fault has cost."""
    rows = run.packets.to_pylist()
    lost = [row for row in rows if row["lost"] is not None]
    assert {row["lost"] for row in lost} <= {"fault"}
    assert len(lost) == run.summary["traffic"]["dropped_packets"]["fault"]
    return [row["sent_ns"] for row in lost]


def trunks_of(run: testbed.Run) -> dict[str, int]:
    evidence = json.loads((run.path / "evidence.json").read_text())
    return {trunk["link"]: trunk["fault_dropped_pkts"] for trunk in evidence["trunks"] if trunk["fault_dropped_pkts"]}


def test_a_switch_takes_its_other_way_as_soon_as_it_sees_its_port_down(tmp_path: Path) -> None:
    run = simulated([{"at": "300ms", "link_down": "leaf1-spine1", "for": "400ms"}], tmp_path)
    lost = lost_ns(run)
    assert 0 < len(lost) == trunks_of(run)["leaf1-spine1"]
    assert min(lost) >= 299 * MS
    assert max(lost) < 306 * MS, "the port is seen down after 4.8 ms"


def test_a_switch_further_back_does_not_take_another_way(tmp_path: Path) -> None:
    run = simulated([{"at": "300ms", "link_down": "spine1-leaf2", "for": "400ms"}], tmp_path)
    lost = lost_ns(run)
    assert trunks_of(run) == {"leaf2-spine1": len(lost)}
    assert 299 * MS <= min(lost) < 310 * MS
    assert 690 * MS < max(lost) <= 701 * MS
    sent = [row for row in run.packets.to_pylist() if 300 * MS <= row["sent_ns"] < 700 * MS]
    there = [row for row in sent if row["node"] in FAR]
    assert 0.3 < len(lost) / (len(lost) + len(there)) < 0.7, "flows that are hashed to the other spine arrive"
    assert all(row["lost"] is None for row in sent if row["node"] in ("n1", "n3"))


@pytest.mark.parametrize("name", ["s1-s2", "s2-s1"])
def test_without_another_way_all_packets_are_lost_at_the_link(name: str, tmp_path: Path) -> None:
    faults = [{"at": "300ms", "link_down": name}, {"at": "500ms", "link_up": "s2-s1"}]
    run = simulated(faults, tmp_path, TWO_SWITCH)
    lost = lost_ns(run)
    sent = [row["sent_ns"] for row in run.packets.to_pylist() if 300 * MS <= row["sent_ns"] < 499 * MS]
    assert set(sent) <= set(lost)
    assert len(lost) - len(sent) < 10
    assert trunks_of(run) == {"s1-s2": len(lost)}
    healed = next(run.events("FaultHealed"))
    assert (healed["what"], healed["lost_pkts"], healed["nodes"]) == ("trunk_down", len(lost), [])


def test_a_link_that_flaps_loses_packets_in_each_period(tmp_path: Path) -> None:
    run = simulated([{"at": "200ms", "flap": "s1-s2", "for": "400ms", "period": "200ms"}], tmp_path, TWO_SWITCH)
    lost = lost_ns(run)
    down = [(200, 300), (400, 500)]
    assert all(any(a * MS - MS <= t <= b * MS for a, b in down) for t in lost)
    assert all(any(a * MS <= t <= b * MS for t in lost) for a, b in down)


def test_when_every_way_is_down_the_last_one_loses_the_packets(tmp_path: Path) -> None:
    faults = [
        {"at": "300ms", "link_down": "leaf1-spine1"},
        {"at": "400ms", "link_down": "leaf1-spine2", "for": "200ms"},
    ]
    run = simulated(faults, tmp_path)
    lost = lost_ns(run)
    assert not [t for t in lost if 306 * MS < t < 399 * MS]
    between = [t for t in lost if t >= 399 * MS]
    assert trunks_of(run)["leaf1-spine2"] == len(between) > 0
    assert max(between) <= 606 * MS


def test_a_crash_meanwhile_is_charged_with_its_own_losses_alone(tmp_path: Path) -> None:
    faults = [
        {"at": "300ms", "link_down": "spine1-leaf2", "for": "400ms"},
        {"at": "400ms", "crash": "n1", "for": "200ms"},
    ]
    run = simulated(faults, tmp_path)
    (crash,) = run.events("FaultLosses")
    assert crash["what"] == "crash"
    assert crash["counted_pkts"] == crash["lost_pkts"] > 0
    assert len(lost_ns(run)) == crash["lost_pkts"] + sum(trunks_of(run).values())


def test_recording_changes_nothing_of_it(tmp_path: Path) -> None:
    faults = [{"at": "300ms", "link_down": "leaf1-spine1", "for": "400ms"}]
    summaries = []
    for number, record in enumerate((True, False)):
        folder = tmp_path / str(number)
        folder.mkdir()
        summaries.append(simulated(faults, folder, {**LEAF_SPINE, "record_packets": record}).summary)
    assert summaries[0] == summaries[1]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "loss": ({"at": "1ms", "loss": "leaf1-spine1", "ratio": 0.1}, r"loss applies to links of nodes only"),
    "no link": ({"at": "1ms", "link_down": "leaf1-leaf2"}, r"no link between switches is named .?leaf1-leaf2"),
    "down already": ({"at": "310ms", "link_down": "spine1-leaf1"}, r"spine1-leaf1 is down already"),
    "up already": ({"at": "10ms", "link_up": "leaf1-spine2"}, r"leaf1-spine2 is up at that time"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused_by_name(case: str, tmp_path: Path) -> None:
    fault, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        load([{"at": "300ms", "link_down": "leaf1-spine1", "for": "100ms"}, fault], tmp_path)


def test_the_simulation_refuses_it_beside_links_with_a_rate(tmp_path: Path) -> None:
    topology = {**LEAF_SPINE["topology"], "links": {"leaf1-spine2": {"rate": "100Mbit"}}}
    with pytest.raises(InputError, match=r"cannot fail while one of them has a rate \(leaf1-spine2\)"):
        simulated([{"at": "300ms", "link_down": "leaf1-spine1"}], tmp_path, {**LEAF_SPINE, "topology": topology})


def test_a_switch_stops_using_a_link_if_it_has_another_way() -> None:
    names = ("leaf1", "leaf2", "spine1", "spine2")
    switches = (Switch(names[0]), *(Switch(name, "plain") for name in names[1:]), Switch("m1", "mesh"))
    links = tuple(Link(leaf, spine) for leaf in names[:2] for spine in names[2:])
    from testbed.scenario.network import Host

    hosts = (Host("c1", "client"), Host("n1", "node"), Host("n2", "node"))
    ends = (Link("leaf1", "c1"), Link("leaf1", "n1"), Link("leaf2", "n2"))
    network = Network(hosts, switches, (*links, *ends))
    unused = lambda *down: unused_when_down(network, routes_of(network), down)  # noqa: E731
    assert unused() == frozenset()
    assert unused("leaf1-spine1") == {("leaf1", "spine1")}, "spine1 has no other way to leaf1"
    assert unused("leaf1-spine1", "leaf1-spine2") == {("leaf1", "spine1")}, "the last one is used on"
    assert unused("leaf1-spine2", "leaf1-spine1") == {("leaf1", "spine2")}


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_the_kernel_does_the_same(tmp_path: Path) -> None:
    faults = [
        {"at": "300ms", "link_down": "leaf1-spine1", "for": "300ms"},
        {"at": "700ms", "link_down": "spine1-leaf2", "for": "200ms"},
    ]
    run = testbed.run(load(faults, tmp_path), out=tmp_path / "run")
    traffic, lost = run.summary["traffic"], trunks_of(run)
    assert traffic["unaccounted_packets"] == 0
    assert traffic["dropped_packets"]["fault"] == sum(lost.values())
    assert all(course["verified"] for course in run.summary["failover"]["faults"])
    assert not [reason for reason in run.reasons if "changed" in reason]
    times = sorted(row["sent_ns"] for row in run.packets.to_pylist() if row["lost"] == "fault")
    assert len(times) == sum(lost.values())
    assert [t for t in times if 690 * MS < t < 910 * MS], "a switch further back goes on sending"
    assert lost["leaf2-spine1"] > 3 * lost.get("leaf1-spine1", 0), "the switch beside the link takes the other way"
    back = [row for row in run.packets.to_pylist() if row["sent_ns"] > 950 * MS]
    assert all(row["lost"] is None for row in back)
