"""Flows stay where they were placed; slots only decide for those that come."""

from __future__ import annotations

import dataclasses
import ipaddress

import numpy as np
import pytest

from testbed.scenario.topology import TopologySpec
from testbed.simulation.switch import Switch, flow_hash
from testbed.topologies.cluster import describe
from testbed.traffic.plan import FlowTable
from testbed.units import NS_PER_MS, NS_PER_S

HASHES = np.arange(8, dtype=np.uint32)


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
    held = np.bincount((flow_hash(flows, ("c1", "c2"), network, basis) % np.uint32(64)).astype(int), minlength=64)
    chi_square = float(((held - count / 64) ** 2 / (count / 64)).sum())
    assert 30 < chi_square < 110  # 63 degrees of freedom: 1 in 10,000 outside


def one_flow(src_port: int, dst_port: int) -> FlowTable:
    return FlowTable(*(np.array([value], np.int32) for value in (0, 0, src_port, dst_port)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("src_port", "dst_port", "basis"), [(10_000, 9_000, 7), (65_535, 9_001, 0xFFFF), (1, 1, 0)])
def test_the_hash_is_murmur_over_the_words_of_the_packet(src_port: int, dst_port: int, basis: int) -> None:
    network = describe(TopologySpec(family="cluster"))
    addresses = [
        int.from_bytes(bytes((10, 0, 16, 2)), "little") ^ int.from_bytes(bytes((10, 0, 0, 100)), "little"),
        17,
        int.from_bytes((src_port ^ dst_port).to_bytes(2, "big"), "little"),
    ]
    found = flow_hash(one_flow(src_port, dst_port), ("c1",), network, basis)
    assert found.tolist() == [murmur(addresses, basis)]


def test_the_hash_of_ip6_is_over_the_four_words_of_both_addresses() -> None:
    network = describe(TopologySpec(family="cluster"))
    source, target = (ipaddress.ip_address(text).packed for text in ("fd00::1:1", "fd00::100"))
    crossed = bytes(a ^ b for a, b in zip(source, target, strict=True))
    words = [int.from_bytes(crossed[k : k + 4], "little") for k in range(0, 16, 4)]
    ports = int.from_bytes((10_000 ^ 9_000).to_bytes(2, "big"), "little")
    flows = dataclasses.replace(one_flow(10_000, 9_000), ip_version=np.array([6], np.int16))
    assert flow_hash(flows, ("c1",), network, 7).tolist() == [murmur([*words, 17, ports], 7)]


def murmur(words: list[int], basis: int) -> int:
    """MurmurHash3, 32 bits, in integers without end."""
    state = basis
    for word in words:
        mixed = word * 0xCC9E2D51 % 2**32
        mixed = (mixed << 15 | mixed >> 17) % 2**32
        state ^= mixed * 0x1B873593 % 2**32
        state = (state << 13 | state >> 19) % 2**32
        state = (state * 5 + 0xE6546B64) % 2**32
    state ^= basis
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        state = (state ^ state >> shift) * factor % 2**32
    return state ^ state >> 16


def test_the_slots_are_those_open_vswitch_gave() -> None:
    """Held against a switch (Open vSwitch 3.1): the same packets at each of three nodes, for two seeds."""
    network = describe(TopologySpec(family="cluster"))
    found = [int(flow_hash(one_flow(port, 9_000), ("c1",), network, 7)[0] % 64) for port in range(10_000, 10_008)]
    assert found == [30, 15, 31, 8, 17, 46, 57, 53]
