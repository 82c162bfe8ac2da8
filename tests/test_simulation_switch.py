"""Flows stay where they were placed; slots only decide for those that come."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.simulation.switch import Switch, flow_hash
from testbed.spec.scenario import TopologySpec
from testbed.traffic.plan import FlowTable
from testbed.units import NS_PER_MS, NS_PER_S
from topologies.cluster import describe

HASHES = np.arange(8, dtype=np.uint64)


def switch(slots: list[int], idle_ns: int = 2 * NS_PER_S) -> Switch:
    return Switch(HASHES, np.array(slots), 3, idle_ns)


def route(on: Switch, flows: list[int], at_ns: int) -> tuple[list[int], list[int]]:
    node, new = on.route(np.array(flows, dtype=np.int32), np.full(len(flows), at_ns))
    return node.tolist(), sorted(new.tolist())


def test_the_slot_decides_for_new_flows_and_the_pin_for_known_ones() -> None:
    on = switch([0, 1, 2, 0])
    assert route(on, [0, 1, 2, 3, 5], 10) == ([0, 1, 2, 0, 1], [0, 0, 1, 1, 2])
    on.set_slots(np.array([2, 2, 2, 2]))
    assert route(on, [0, 1, 4], 20) == ([0, 1, 2], [2])


def test_a_flow_that_was_idle_is_placed_anew() -> None:
    on = switch([0, 1, 2, 0], idle_ns=1500 * NS_PER_MS)  # two seconds, as OpenFlow counts
    route(on, [0], 10)
    on.set_slots(np.array([2, 2, 2, 2]))
    assert route(on, [0], 2 * NS_PER_S) == ([0], [0])  # known to the switch, new to the meter
    assert route(on, [0], 4 * NS_PER_S) == ([2], [2])


def test_idleness_counts_from_the_last_packet_of_a_step() -> None:
    on = switch([0, 1, 2, 0], idle_ns=NS_PER_S)
    on.route(np.array([0, 0], dtype=np.int32), np.array([0, 90 * NS_PER_MS]))
    on.set_slots(np.array([2, 2, 2, 2]))
    assert route(on, [0], NS_PER_S + 80 * NS_PER_MS) == ([0], [])
    assert route(on, [0], 2 * NS_PER_S + 80 * NS_PER_MS) == ([2], [2])


def test_a_flow_counts_as_new_once_a_step() -> None:
    on = switch([0, 0, 0, 0])
    assert route(on, [0, 0, 0], 10) == ([0, 0, 0], [0])


def test_flows_of_a_removed_node_hash_anew_and_stay_there() -> None:
    on = switch([0, 1, 2, 0])
    route(on, [0, 1], 10)
    on.set_slots(np.array([1, 1, 2, 1]))
    on.remove(0)
    assert route(on, [0, 1], 20)[0] == [1, 1]
    on.restore(0)
    assert route(on, [0, 1], 30)[0] == [1, 1]


def test_a_flow_that_was_silent_while_its_node_was_away_comes_back_to_it() -> None:
    on = switch([0, 1, 2, 0])
    route(on, [0], 10)
    on.remove(0)
    on.restore(0)
    on.set_slots(np.array([1, 1, 1, 1]))
    assert route(on, [0], 20)[0] == [0]


@pytest.mark.parametrize("basis", [0, 1, 0xFFFF])
def test_flows_of_consecutive_ports_spread_evenly(basis: int) -> None:
    count = 20_000
    flows = FlowTable(
        client=np.repeat(np.array([0, 1], np.int16), count // 2),
        source=np.zeros(count, np.int16),
        src_port=np.tile(np.arange(10_000, 10_000 + count // 2, dtype=np.int32), 2),
        dst_port=np.full(count, 9000, np.int32),
    )
    network = describe(TopologySpec(family="cluster"))
    held = np.bincount((flow_hash(flows, ("c1", "c2"), network, basis) % np.uint64(64)).astype(int), minlength=64)
    chi_square = float(((held - count / 64) ** 2 / (count / 64)).sum())
    assert 30 < chi_square < 110  # 63 degrees of freedom: 1 in 10,000 outside


def test_the_hash_is_that_of_whole_numbers() -> None:
    flows = FlowTable(*(np.array([value], np.int32) for value in (0, 0, 10_000, 9_000)))  # type: ignore[arg-type]
    network = describe(TopologySpec(family="cluster"))
    addresses = 0x0A001002 << 32 | 0x0A000064  # 10.0.16.2 to 10.0.0.100
    ports = (10_000 << 16 | 9_000) << 8 | 17
    assert flow_hash(flows, ("c1",), network, 7).tolist() == [mixed(mixed(addresses + 7) ^ ports)]


def mixed(word: int) -> int:
    """splitmix64, in integers without end."""
    word = (word + 0x9E3779B97F4A7C15) % 2**64
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ word >> 27) * 0x94D049BB133111EB % 2**64
    return word ^ word >> 31
