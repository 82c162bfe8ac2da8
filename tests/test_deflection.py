"""Naming siblings: the policy on hand-made news, the wire form, the datagrams of the balancer, and what is refused."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from testbed import topologies
from testbed.controllers.deflection import SiblingNames
from testbed.engine import TrialPlan
from testbed.errors import InputError
from testbed.files.event_records import from_record
from testbed.policies.deflection import REPEAT_NS, DeflectionPolicy
from testbed.policies.membership import BALANCER
from testbed.policies.readiness import SILENCE_NS
from testbed.records.events import NameSiblings, NodeJoined, NodeLeft, NodesNotified
from testbed.scenario.loading import load
from testbed.scenario.model import Scenario
from testbed.scenario.network import Host
from testbed.simulation.engine import simulate
from testbed.units import NS_PER_MS
from testbed.wire import notification
from testbed.wire.sealing import Channel, Opener, Sealer
from tests import sealed

THREE = tuple(Host(f"n{k}", "node") for k in (1, 2, 3))
TIERS = (Host("n1", "node"), Host("n2", "node"), Host("n3", "node", 2), Host("n4", "node", 2))
MB = 10**6


def news(*, limit: int = MB, **backlog: int) -> NodesNotified:
    """Return a notification of the nodes named, each with its backlog."""
    n = len(backlog)
    zeros = np.zeros(n, np.int64)
    return NodesNotified(
        nodes=tuple(backlog),
        limit_bytes=np.full(n, limit, np.int64),
        backlog_bytes=np.array(list(backlog.values()), np.int64),
        predicted_bytes=zeros,
        severity_ratio=np.zeros(n),
        arrived_bps=zeros,
    )


def named(policy: DeflectionPolicy, event: Any, now_ns: int) -> dict[str, str]:
    """Return the names a policy says in answer to an event."""
    actions = policy.handle(event, now_ns)
    assert all(isinstance(action, NameSiblings) for action in actions)
    return {
        node: sibling
        for action in actions
        if isinstance(action, NameSiblings)
        for node, sibling in zip(action.nodes, action.siblings, strict=True)
    }


def test_idle_nodes_name_the_next_in_a_ring() -> None:
    assert named(DeflectionPolicy(THREE), news(n1=0, n2=0, n3=0), 0) == {"n1": "n2", "n2": "n3", "n3": "n1"}


def test_nobody_is_named_before_all_were_heard_or_had_the_time() -> None:
    policy = DeflectionPolicy(THREE)
    assert named(policy, news(n1=0), 0) == {}
    assert named(policy, news(n2=0), 10) == {}
    assert named(policy, news(n1=0, n2=0), SILENCE_NS) == {"n1": "n2", "n2": "n1", "n3": "n1"}


def test_a_controller_that_begins_late_waits_for_all_too() -> None:
    policy, late_ns = DeflectionPolicy(THREE), 20 * SILENCE_NS
    assert named(policy, news(n1=0), late_ns) == {}
    assert named(policy, news(n2=0), late_ns + 1) == {}
    assert named(policy, news(n3=0), late_ns + 2) == {"n1": "n2", "n2": "n3", "n3": "n1"}


def test_a_node_that_was_dead_is_nobodys_sibling_until_it_is_heard() -> None:
    policy = DeflectionPolicy(THREE)
    policy.handle(news(n1=0, n2=0, n3=0), 0)
    assert named(policy, NodeLeft(node="n2", reason="mesh"), 1) == {"n1": "n3"}
    assert named(policy, NodeJoined(node="n2", reason="mesh"), 2) == {}
    assert named(policy, news(n3=900_000), 3) == {"n1": "", "n2": "n1"}
    assert named(policy, news(n2=0), 4) == {"n1": "n2"}


def test_a_sibling_is_kept_until_it_has_less_than_half_of_the_best_ones_room() -> None:
    policy = DeflectionPolicy(THREE)
    policy.handle(news(n1=0, n2=0, n3=0), 0)
    assert named(policy, news(n2=500_000), 1) == {}
    assert named(policy, news(n2=500_001), 2) == {"n1": "n3"}


def test_a_nearly_full_node_is_nobodys_sibling() -> None:
    policy = DeflectionPolicy(THREE)
    policy.handle(news(n1=0, n2=0, n3=0), 0)
    assert named(policy, news(n1=875_001, n2=875_001, n3=875_000), 1) == {"n1": "n3", "n3": ""}
    assert named(policy, news(n3=875_001), 2) == {"n1": "", "n2": ""}
    assert named(policy, news(n1=0), 3) == {"n2": "n1", "n3": "n1"}


def test_the_first_tier_hands_to_the_second_and_the_second_to_nobody() -> None:
    policy = DeflectionPolicy(TIERS)
    assert named(policy, news(n1=0, n2=0, n3=0, n4=0), 0) == {"n1": "n3", "n2": "n4"}
    assert named(policy, news(n4=900_000), 1) == {"n2": "n3"}
    assert named(policy, news(n3=900_000), 2) == {"n1": "", "n2": ""}


def test_a_node_whose_port_is_down_is_nobodys_sibling_until_it_is_back() -> None:
    policy = DeflectionPolicy(THREE)
    policy.handle(news(n1=0, n2=0, n3=0), 0)
    assert named(policy, NodeLeft(node="n2", reason="port"), 1) == {"n1": "n3"}
    assert named(policy, NodeJoined(node="n2", reason="drain"), 2) == {}
    assert named(policy, NodeJoined(node="n2", reason="port"), 3) == {}, "n3 has as much room, so it is kept"
    assert named(policy, NodeLeft(node="n3", reason="port"), 4) == {"n1": "n2", "n2": "n1"}


def test_a_silent_node_is_nobodys_sibling() -> None:
    policy = DeflectionPolicy(THREE)
    policy.handle(news(n1=0, n2=0, n3=0), 0)
    half = SILENCE_NS // 2
    assert named(policy, news(n1=0, n3=0), half) == {}
    assert named(policy, news(n1=0, n3=0), SILENCE_NS) == {"n1": "n3"}


def test_when_all_were_silent_nobody_is_blamed() -> None:
    policy = DeflectionPolicy(THREE)
    policy.handle(news(n1=0, n2=0, n3=0), 0)
    ring = {"n1": "n2", "n2": "n3", "n3": "n1"}
    assert named(policy, news(n1=0), 10 * SILENCE_NS) == ring, "said again, because it is long ago, and the same"
    assert named(policy, news(n2=0), 10 * SILENCE_NS + 1) == {}


def test_names_are_said_again() -> None:
    policy = DeflectionPolicy(THREE)
    first = named(policy, news(n1=0, n2=0, n3=0), 0)
    said = [named(policy, news(n1=0, n2=0, n3=0), t_ns) for t_ns in range(NS_PER_MS, REPEAT_NS + 1, 99 * NS_PER_MS)]
    assert all(not names for names in said)
    assert named(policy, news(n1=0), REPEAT_NS) == first


def test_strangers_are_passed_over() -> None:
    policy = DeflectionPolicy(THREE)
    policy.handle(news(n1=0, n2=0, n3=0), 0)
    for event in (news(n9=0), NodeLeft(node="n9", reason="port"), NodeJoined(node="n9")):
        assert policy.handle(event, 1) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, MB)), max_size=60), st.booleans())
def test_a_sibling_is_another_node_that_may_take(steps: list[tuple[int, int]], tiers: bool) -> None:
    hosts = TIERS if tiers else tuple(Host(f"n{k}", "node") for k in (1, 2, 3, 4))
    policy, again = DeflectionPolicy(hosts), DeflectionPolicy(hosts)
    free = {host.name: MB for host in hosts}
    sibling: dict[str, str] = {}
    for now_ns, event in enumerate([news(n1=0, n2=0, n3=0, n4=0), *(news(**{f"n{k + 1}": b}) for k, b in steps)]):
        free.update(zip(event.nodes, (event.limit_bytes - event.backlog_bytes).tolist(), strict=True))
        actions = policy.handle(event, now_ns)
        assert actions == again.handle(from_record(event.to_record()), now_ns), "a replay decides the same"
        for action in actions:
            assert isinstance(action, NameSiblings)
            sibling.update(zip(action.nodes, action.siblings, strict=True))
        takers = {host.name for host in hosts if not tiers or host.tier == 2}
        for node, name in sibling.items():
            others = {other: free[other] for other in takers - {node} if free[other] >= MB / 8}
            assert (name in others and 2 * free[name] >= max(others.values())) if others else name == ""


# ---------------------------------------------------------------------------------------------------------- the wire


def test_names_survive_the_wire() -> None:
    action = NameSiblings(nodes=("n1", "n22"), siblings=("n22", ""))
    assert notification.decode_siblings(notification.encode_siblings(action)) == action


GOOD = notification.encode_siblings(NameSiblings(nodes=("n1",), siblings=("n2",)))


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        GOOD[:-1],
        GOOD + b"\0",
        b"TBNB" + GOOD[4:],
        GOOD[:4] + b"\2" + GOOD[5:],
        GOOD[:5] + b"\0" + GOOD[6:],
        GOOD[:5] + b"\2" + GOOD[6:],
        GOOD[:6] + b"\0" + GOOD[9:],
        GOOD.replace(b"n2", b"n\xff"),
        GOOD.replace(b"n2", b"n "),
        GOOD[:5] + b"\2" + GOOD[6:] * 2,
    ],
)
def test_what_is_not_exactly_names_is_refused(datagram: bytes) -> None:
    with pytest.raises(ValueError, match="no names|out of range|announced|decode"):
        notification.decode_siblings(datagram)


@given(st.binary(max_size=40))
def test_no_datagram_does_worse_than_being_refused(rest: bytes) -> None:
    with contextlib.suppress(ValueError):
        notification.decode_siblings(GOOD[:5] + rest)


class Balancer:
    """The sending side with its sockets replaced by lists."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.records: list[dict[str, Any]] = []
        self.broken = False
        nodes, times = tuple(host.name for host in THREE), itertools.count()
        seal = Sealer(sealed.ring(BALANCER, nodes), Channel.SIBLINGS, lambda: next(times)).seal
        self.names = SiblingNames(THREE, self._send, lambda _, record: self.records.append(record), seal)
        self.heard = {node: Opener(sealed.ring(node, nodes), Channel.SIBLINGS) for node in nodes}

    def _send(self, datagram: bytes, address: tuple[str, int]) -> None:
        if self.broken:
            raise OSError("the mesh is full")
        self.sent.append((datagram, address))


def test_each_node_is_told_its_own_sibling_where_it_notified_from() -> None:
    balancer = Balancer()
    for k in (1, 2, 3):
        balancer.names.heard_from((f"n{k}",), (f"10.1.0.{k}", 700 + k))
    balancer.names.feed(news(n1=0, n2=0, n3=0), 5)
    told = []
    for datagram, address in balancer.sent:
        node = f"n{address[1] - 700}"
        assert all(other == node or opener.open(datagram) is None for other, opener in balancer.heard.items())
        opened = balancer.heard[node].open(datagram)
        assert opened is not None
        told.append((notification.decode_siblings(opened.body), address))
    assert told[0] == (NameSiblings(nodes=("n1",), siblings=("n2",)), ("10.1.0.1", 701))
    assert [address for _, address in told] == [("10.1.0.1", 701), ("10.1.0.2", 702), ("10.1.0.3", 703)]
    assert [record["kind"] for record in balancer.records] == ["NodesNotified", "NameSiblings"]
    assert {record["policy"] for record in balancer.records} == {"deflection"}


def test_a_name_that_cannot_be_sent_is_recorded() -> None:
    balancer = Balancer()
    balancer.broken = True
    balancer.names.heard_from(("n1",), ("10.1.0.1", 701))
    balancer.names.feed(news(n1=0, n2=0, n3=0), 5)
    assert [record["node"] for record in balancer.records if record["kind"] == "SiblingNameLost"] == ["n1"]


# ---------------------------------------------------------------------------------------------------------- refusals


PLANNED = {"name": "a", "from": "c1", "shape": "constant", "rate": "1Mbit"}
TCP = {"name": "t", "from": "c1", "shape": "tcp"}


def scenario(**changed: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "version": 1,
            "name": "x",
            "duration": "1s",
            "topology": {"family": "cluster", "nodes": 2},
            "buffer": {"policy": "static-min", "deflect": True},
            "traffic": [PLANNED],
            **changed,
        }
    )


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"topology": {"family": "single"}}, "needs a second node"),
        ({"topology": {"family": "cluster", "link_delay": "1ms"}}, "would skip the delay"),
        ({"traffic": [PLANNED, TCP]}, "exclude each other"),
        ({"topology": {"family": "cluster", "second_tier": 1}}, "second_tier is for family cascade"),
        ({"topology": {"family": "cascade", "second_tier": 0}}, "at least 1 node"),
        ({"topology": {"family": "cascade"}, "buffer": {}}, "add buffer.deflect: true"),
        ({"traffic": [TCP], "buffer": {}}, "TCP alone"),
    ],
)
def test_what_cannot_work_is_refused(changed: dict[str, Any], words: str) -> None:
    scenario()
    with pytest.raises(ValidationError, match=words):
        scenario(**changed)


def test_the_simulation_refuses_what_it_does_not_model() -> None:
    asked = scenario(buffer={}, traffic=[PLANNED, TCP])
    network = topologies.describe(asked.topology)
    with pytest.raises(InputError, match="what TCP sends"):
        simulate(TrialPlan(asked, network, None, lambda *_: None, lambda _: 1, Path()), None)  # type: ignore[arg-type]


def test_the_shipped_scenarios_are_read() -> None:
    folder = Path(__file__).resolve().parent.parent / "scenarios"
    for name in ("deflect", "cascade", "tcp"):
        assert load(folder / f"{name}.yaml").scenario.name == name
