"""`turns` and `cooperative`: flows in turn, in the switch of either engine, and shares that fill to one level."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.controllers import pipeline
from testbed.policies.balancer import REWEIGH_INTERVAL_NS, make_balancer
from testbed.policies.balancer_cooperative import filling
from testbed.records.events import NodesNotified, SetSlots
from testbed.scenario.balancer import BalancerSpec
from testbed.scenario.network import VIP_IP, VIP_MAC
from testbed.simulation.switch import Switch
from testbed.units import NS_PER_S
from tests.fake_flow_table import FakeSwitch
from tests.test_pipeline import NODES, SLOTS, make_config

_MBIT = 10**6
_KB = 10**3


def _notified(backlog: list[int], arrived_bps: list[int] | None = None) -> NodesNotified:
    zero = np.zeros(len(backlog), dtype=np.int64)
    return NodesNotified(
        nodes=NODES[: len(backlog)],
        limit_bytes=zero + 500 * _KB,
        backlog_bytes=np.array(backlog),
        predicted_bytes=zero,
        severity_ratio=np.zeros(len(backlog)),
        arrived_bps=zero if arrived_bps is None else np.array(arrived_bps),
    )


def _shares(event: NodesNotified, rates_bps: tuple[int, ...]) -> list[int]:
    balancer = make_balancer(BalancerSpec(policy="cooperative"), event.nodes, random.Random(1), rates_bps=rates_bps)
    balancer.handle(event, REWEIGH_INTERVAL_NS)
    held = Counter(balancer.slots)
    return [held[node] for node in event.nodes]


# ---------------------------------------------------------------------------------------------------- the shares


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(0.1, 10)), min_size=1, max_size=8),
    st.floats(0.01, 100),
)
def test_filling_brings_all_it_reaches_to_one_level_and_leaves_out_those_above(
    nodes: list[tuple[float, float]], volume: float
) -> None:
    work, rate = (np.array(column) for column in zip(*nodes, strict=True))
    poured = filling(work, rate, volume)
    after = work + poured / rate
    level = after[poured > 0]
    assert poured.sum() == pytest.approx(volume)
    assert level == pytest.approx(np.full(len(level), level.mean()))
    assert (after[poured == 0] >= level.mean() - 1e-6).all()


def test_filling_gives_nothing_to_a_node_that_does_not_serve() -> None:
    assert filling(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 1.0]), 1.0).tolist() == [0.0, 1.0, 0.0]


def test_idle_nodes_share_by_their_rates() -> None:
    assert _shares(_notified([0, 0, 0]), (10 * _MBIT, 20 * _MBIT, 40 * _MBIT)) == [9, 18, 37]


def test_a_small_difference_moves_a_few_flows_and_not_all() -> None:
    rates = (40 * _MBIT,) * 3
    assert _shares(_notified([25 * _KB, 0, 0]), rates) == [20, 22, 22]  # 25 kB of 750 kB, a third of it each


def test_a_node_with_more_work_than_the_level_gets_no_new_flow() -> None:
    assert _shares(_notified([900 * _KB, 0, 0]), (40 * _MBIT,) * 3)[0] == 0


def test_arrivals_of_flows_that_stay_count_as_work() -> None:
    rates = (40 * _MBIT,) * 3
    first, *others = _shares(_notified([0, 0, 0], [30 * _MBIT, 0, 0]), rates)
    assert first == 0
    assert others == [32, 32]


def test_the_same_backlog_is_less_work_for_a_faster_node() -> None:
    slow, fast = _shares(_notified([100 * _KB, 100 * _KB]), (20 * _MBIT, 40 * _MBIT))
    assert fast > 2 * slow


# ------------------------------------------------------------------------------------------------ flows in turn


@pytest.mark.parametrize("policy", ["turns", "cooperative"])
def test_the_pipeline_gives_any_flows_in_a_row_to_the_slots_in_turn(policy: str) -> None:
    switch = FakeSwitch()
    config = make_config(policy=policy)
    switch.apply(pipeline.install(config, SLOTS, ()))
    sources = range(1000, 1000 + 2 * len(SLOTS) + 5)
    ports = [_port(switch, source) for source in sources]
    assert ports == [11 + NODES.index(SLOTS[k % len(SLOTS)]) for k in range(len(ports))]
    assert [_port(switch, source) for source in sources] == ports  # pinned, and no turn taken for it
    assert _port(switch, 5000) == 11 + NODES.index(SLOTS[5])


def test_a_change_of_slots_leaves_the_turn_where_it_is() -> None:
    switch, config = FakeSwitch(), make_config(policy="turns")
    switch.apply(pipeline.install(config, SLOTS, ()))
    assert [_port(switch, source) for source in (1, 2)] == [11, 12]
    switch.apply(pipeline.set_slots(config, SLOTS, ("n1",) * 64))
    assert _port(switch, 3) == 11
    switch.apply(pipeline.set_slots(config, ("n1",) * 64, SLOTS))
    assert _port(switch, 4) == 11  # slot 3


def test_other_policies_do_without_turns() -> None:
    config = make_config(policy="round-robin")
    tables = {message.table for message in pipeline.install(config, SLOTS, ()) if hasattr(message, "table")}
    assert pipeline.Table.TURN not in tables
    assert pipeline.Table.TURN in {
        message.table
        for message in pipeline.install(replace(config, spec=BalancerSpec(policy="turns")), SLOTS, ())
        if hasattr(message, "table")
    }


def _port(switch: FakeSwitch, source: int) -> int:
    ((port, _),) = switch.send(
        1, eth_src="02:00:00:00:00:01", eth_dst=VIP_MAC, eth_type=0x0800, ip_proto=17, ip_frag=0,
        ipv4_src="10.0.16.2", ipv4_dst=VIP_IP, udp_src=source, udp_dst=9000,
    )  # fmt: skip
    return port


def test_the_simulated_switch_gives_flows_the_slots_in_the_order_of_their_first_packets() -> None:
    table = np.array([0, 1, 2, 0])
    hashes = np.zeros(8, dtype=np.uint32)  # all flows would share slot 0
    switch = Switch(hashes, table, 3, 30 * NS_PER_S, in_turn=True)
    flow = np.array([5, 2, 5, 7, 2, 0], dtype=np.int32)
    node, _ = switch.route(flow, np.arange(6, dtype=np.int64))
    assert node.tolist() == [0, 1, 0, 2, 1, 0]
    node, _ = switch.route(np.array([1, 5, 3], dtype=np.int32), np.arange(6, 9, dtype=np.int64))
    assert node.tolist() == [0, 0, 1]  # slots 0 and 1 again; flow 5 keeps its node


def test_both_are_announced_as_changes_of_slots_alone() -> None:
    balancer = make_balancer(BalancerSpec(policy="cooperative"), NODES, random.Random(1), rates_bps=(_MBIT,) * 3)
    (action,) = balancer.handle(_notified([900 * _KB, 0, 0]), REWEIGH_INTERVAL_NS)
    assert isinstance(action, SetSlots)
