"""The pipeline on a fake switch: what a packet would do, and that applying twice equals once; then the driver on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.inet import TCP as TCP_LAYER
from scapy.layers.inet import UDP as UDP_LAYER
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from testbed.controllers import pipeline
from testbed.controllers.answers import REMEMBERED_NS
from testbed.controllers.config import BalancerConfig, Station, Vip
from testbed.controllers.load_balancer import LoadBalancer
from testbed.controllers.openflow import FlowMod, Message
from testbed.controllers.switch import Acknowledged, PacketIn, PortChanged, Refused
from testbed.errors import InputError, ToolError
from testbed.policies.membership import BALANCER
from testbed.policies.readiness import SILENCE_NS
from testbed.records.events import NodesNotified, NotifyBalancer, Record, columns_of
from testbed.scenario.balancer import BalancerSpec
from testbed.scenario.network import VIP_IP, VIP_IP6, VIP_MAC, Host
from testbed.units import NS_PER_MS
from testbed.wire import notification
from testbed.wire.five_tuple import five_tuple
from tests import sealed
from tests.fake_connection import FakeConnection, FakeLink
from tests.fake_flow_table import FakeSwitch, Packet

NODES = ("n1", "n2", "n3")
SLOTS = tuple(NODES[i % 3] for i in range(64))
UDP, TCP = 17, 6
FLOW = ("10.0.16.1", VIP_IP, UDP, 1000, 9000)


def station(name: str, role: Any, port: int) -> Station:
    host = Host(name, role)
    return Station(name, port, host.mac, host.ip, host.ip6)


def make_config(nodes: int = 3, policy: str = "round-robin", ports: tuple[int, ...] = (9000, 9001)) -> BalancerConfig:
    return BalancerConfig(
        dpid=1,
        listen_port=6653,
        vip=Vip(VIP_IP, VIP_MAC, VIP_IP6, ports),
        clients=(station("c1", "client", 1), station("c2", "client", 2)),
        nodes=tuple(station(f"n{i}", "node", 10 + i) for i in range(1, nodes + 1)),
        spec=BalancerSpec(policy=policy),
        now_ns=lambda: 0,
        ring=sealed.ring(BALANCER, tuple(f"n{i}" for i in range(1, nodes + 1))),
    )


CONFIG = make_config()
C1 = CONFIG.clients[0]
PORTS = {node.name: node.port for node in CONFIG.nodes}
MACS = {node.name: node.mac for node in CONFIG.nodes}


def installed(removed: tuple[str, ...] = (), slots: Sequence[str] = SLOTS) -> FakeSwitch:
    switch = FakeSwitch()
    switch.apply(pipeline.install(CONFIG, slots, removed))
    return switch


def to_vip(source_port: int, *, udp: bool = True, ip6: bool = False, dst_port: int = 9000) -> Packet:
    ip = "ipv6" if ip6 else "ipv4"
    l4 = "udp" if udp else "tcp"
    return {
        "eth_src": C1.mac,
        "eth_dst": VIP_MAC,
        "eth_type": 0x86DD if ip6 else 0x0800,
        "ip_proto": UDP if udp else TCP,
        f"{ip}_src": C1.ip6 if ip6 else C1.ip,
        f"{ip}_dst": VIP_IP6 if ip6 else VIP_IP,
        f"{l4}_src": source_port,
        f"{l4}_dst": dst_port,
    }


def node_of(switch: FakeSwitch, packet: Packet) -> str:
    """Return the node a packet from c1 is sent to."""
    ((port, sent),) = switch.send(C1.port, **packet)
    (name,) = [name for name in PORTS if PORTS[name] == port]
    assert sent == {**packet, "eth_dst": MACS[name]}
    return name


def placed(switch: FakeSwitch, flows: range) -> dict[int, str]:
    return {flow: node_of(switch, to_vip(flow)) for flow in flows}


# -------------------------------------------------------------------------------------------------- applying twice


def test_applying_twice_equals_once() -> None:
    once, twice = installed(), installed()
    twice.apply(pipeline.install(CONFIG, SLOTS, ()))
    assert once == twice


def test_every_message_is_for_a_cell_of_its_own() -> None:
    messages = pipeline.install(CONFIG, SLOTS, ())
    switch = installed()
    assert len(messages) == len(switch.flows) + len(switch.groups)


def test_set_slots_writes_only_what_changes() -> None:
    after = ("n3", *SLOTS[1:5], "n1", *SLOTS[6:])
    assert len(pipeline.set_slots(CONFIG, SLOTS, after)) == 2
    switch = installed()
    switch.apply(pipeline.set_slots(CONFIG, SLOTS, after))
    assert switch == installed(slots=after)


def test_remove_and_restore_cancel_out() -> None:
    switch = installed()
    switch.apply(pipeline.remove_node(CONFIG, "n2"))
    assert switch == installed(removed=("n2",))
    switch.apply(pipeline.restore_node(CONFIG, "n2"))
    assert switch == installed()


# ------------------------------------------------------------------------------------------------ balancing, pinning


def test_flows_spread_over_the_nodes_and_stay() -> None:
    switch = installed()
    first = placed(switch, range(20_000, 20_300))
    assert min(Counter(first.values()).values()) > 60
    assert placed(switch, range(20_000, 20_300)) == first
    assert len(switch.pins()) == 300


def test_reweighting_moves_no_flow_that_is_pinned() -> None:
    switch = installed()
    first = placed(switch, range(20_000, 20_100))
    switch.apply(pipeline.set_slots(CONFIG, SLOTS, ("n1",) * 64))
    assert placed(switch, range(20_000, 20_100)) == first
    assert set(placed(switch, range(30_000, 30_100)).values()) == {"n1"}


@pytest.mark.parametrize("udp", [True, False])
@pytest.mark.parametrize("ip6", [True, False])
@pytest.mark.parametrize("dst_port", [9000, 9001])
def test_every_kind_of_traffic_to_the_vip_is_balanced(udp: bool, ip6: bool, dst_port: int) -> None:
    switch = installed()
    nodes = {node_of(switch, to_vip(flow, udp=udp, ip6=ip6, dst_port=dst_port)) for flow in range(1000, 1050)}
    assert nodes == set(NODES)
    assert len(switch.pins()) == 50


def test_tcp_and_udp_flows_of_one_tuple_are_pinned_apart() -> None:
    switch = installed()
    node_of(switch, to_vip(5, udp=True))
    node_of(switch, to_vip(5, udp=False))
    assert len(switch.pins()) == 2


@pytest.mark.parametrize("part", [1, 3])  # the first, a later one
@pytest.mark.parametrize("ip6", [False, True])
@pytest.mark.parametrize("per_flow", [False, True])
def test_fragments_are_dropped_and_pin_nothing(per_flow: bool, ip6: bool, part: int) -> None:
    switch = PerFlowBench().switch if per_flow else installed()
    pinned = len(switch.pins())
    assert switch.send(C1.port, **to_vip(20_000, ip6=ip6), ip_frag=part) == []
    assert (len(switch.pins()), switch.asked) == (pinned, [])


BY_KERNELS: dict[str, Packet] = {
    "MLD report": {"eth_dst": "33:33:00:00:00:16", "eth_type": 0x86DD, "ip_proto": 58, "icmpv6_type": 143},
    "router solicitation": {"eth_dst": "33:33:00:00:00:02", "eth_type": 0x86DD, "ip_proto": 58, "icmpv6_type": 133},
    "probe for duplicates": {"eth_dst": "33:33:ff:00:00:01", "eth_type": 0x86DD, "ip_proto": 58, "icmpv6_type": 135},
    "probe of the VIP": {"eth_dst": VIP_MAC, "eth_type": 0x86DD, "ip_proto": 58, "icmpv6_type": 135},
    "IGMP report": {"eth_dst": "01:00:5e:00:00:16", "eth_type": 0x0800, "ip_proto": 2},
    "ARP for a stranger": {"eth_dst": "ff:ff:ff:ff:ff:ff", "eth_type": 0x0806, "arp_op": 1, "arp_tpa": "10.9.9.9"},
    "ARP to a stranger": {"eth_dst": "02:99:99:99:99:99", "eth_type": 0x0806, "arp_op": 2, "arp_tpa": "10.9.9.9"},
    "LLDP": {"eth_dst": "01:80:c2:00:00:0e", "eth_type": 0x88CC},
}


@pytest.mark.parametrize("frame", BY_KERNELS.values(), ids=BY_KERNELS)
def test_what_a_kernel_sends_by_itself_is_dropped_and_counted_apart(frame: Packet) -> None:
    switch = installed()
    assert switch.send(C1.port, eth_src=C1.mac, **frame) == []
    assert switch.cookies[-1] == pipeline.KERNEL_COOKIE


@pytest.mark.parametrize("frame", [BY_KERNELS["ARP to a stranger"], BY_KERNELS["probe of the VIP"]])
def test_what_a_kernel_sends_to_a_known_station_is_forwarded(frame: Packet) -> None:
    ((port, _),) = installed().send(C1.port, eth_src=C1.mac, **{**frame, "eth_dst": MACS["n1"]})
    assert port == PORTS["n1"]


@pytest.mark.parametrize("frame", [to_vip(1, dst_port=9002), {**to_vip(1), "eth_dst": "02:99:99:99:99:99"}])
def test_traffic_without_a_way_is_not_counted_as_a_kernels(frame: Packet) -> None:
    switch = installed()
    switch.send(C1.port, **frame)
    assert pipeline.KERNEL_COOKIE not in switch.cookies


def test_ports_that_are_not_the_vips_are_dropped() -> None:
    assert installed().send(C1.port, **to_vip(1, dst_port=9002)) == []


def test_without_a_list_all_ports_are_balanced() -> None:
    switch = FakeSwitch()
    switch.apply(pipeline.install(make_config(ports=()), SLOTS, ()))
    assert len(switch.send(C1.port, **to_vip(1, dst_port=53))) == 1


# ------------------------------------------------------------------------------------------------------- per-flow


class PerFlowBench:
    """A driver of the policy `per-flow`, whose fake switch is asked and answers."""

    def __init__(self) -> None:
        self.bench = Bench("per-flow")
        self.bench.connect()
        self.switch = self.bench.link.switch

    def ask(self, packet: Packet, now_ns: int = 0) -> str:
        """Send a packet that is asked about, answer, and return the node it reached."""
        assert self.switch.send(C1.port, **packet) == []
        frame = frame_of(packet)
        self.switch.frames[frame] = packet
        self.bench.balancer.on_switch(PacketIn(C1.port, frame), now_ns, now_ns)
        port, sent = self.switch.answered.pop()
        assert self.switch.answered == []
        (name,) = [name for name in PORTS if PORTS[name] == port]
        assert sent == {**packet, "eth_dst": MACS[name]}
        return name

    def told(self, kind: str) -> int:
        return self.bench.kinds().count(kind)


def frame_of(packet: Packet) -> bytes:
    """Return a frame with the packet's addresses and ports."""
    network = IPv6 if packet["eth_type"] == 0x86DD else IP
    family = "ipv6" if network is IPv6 else "ipv4"
    l4, name = (UDP_LAYER, "udp") if packet["ip_proto"] == UDP else (TCP_LAYER, "tcp")
    return bytes(
        Ether(src=packet["eth_src"], dst=packet["eth_dst"])
        / network(src=packet[f"{family}_src"], dst=packet[f"{family}_dst"])
        / l4(sport=packet[f"{name}_src"], dport=packet[f"{name}_dst"])
    )


@pytest.mark.parametrize("udp", [True, False])
@pytest.mark.parametrize("ip6", [True, False])
def test_per_flow_asks_once_and_pins(udp: bool, ip6: bool) -> None:
    bench = PerFlowBench()
    nodes = [bench.ask(to_vip(flow, udp=udp, ip6=ip6)) for flow in range(1000, 1006)]
    assert Counter(nodes) == dict.fromkeys(NODES, 2)
    assert [node_of(bench.switch, to_vip(flow, udp=udp, ip6=ip6)) for flow in range(1000, 1006)] == nodes
    assert len(bench.switch.asked) == 6
    assert bench.told("FlowArrived") == bench.told("PlaceFlow") == 6


def test_per_flow_answers_packets_that_were_on_their_way_as_the_first() -> None:
    bench = PerFlowBench()
    first = bench.ask(to_vip(1))
    bench.switch.flows = {key: flow for key, flow in bench.switch.flows.items() if flow.cookie != pipeline.PIN_COOKIE}
    assert [bench.ask(to_vip(1), now_ns=now_ns) for now_ns in (1, 2, REMEMBERED_NS - 1)] == [first] * 3
    assert bench.told("FlowArrived") == 1
    bench.ask(to_vip(1), now_ns=REMEMBERED_NS)
    assert bench.told("FlowArrived") == 2


def test_per_flow_places_the_flows_of_a_removed_node_anew() -> None:
    bench = PerFlowBench()
    first = {flow: bench.ask(to_vip(flow)) for flow in range(1, 10)}
    bench.bench.balancer.on_switch(PortChanged(PORTS["n2"], False), 5, 5)
    after = {flow: bench.ask(to_vip(flow)) for flow, node in first.items() if node == "n2"}
    assert set(after.values()) == {"n1", "n3"}
    stay = {flow: node for flow, node in first.items() if node != "n2"}
    assert {flow: node_of(bench.switch, to_vip(flow)) for flow in stay} == stay


def test_per_flow_messages_applied_twice_equal_once() -> None:
    config = make_config(policy="per-flow")
    mods = [*pipeline.install(config, SLOTS, ("n2",)), pipeline.place_flow(config, FLOW, "n1")]
    once, twice = FakeSwitch(), FakeSwitch()
    once.apply(mods)
    twice.apply([*mods, *mods])
    assert once == twice
    assert len(once.flows) + len(once.groups) == len(mods)


def test_a_packet_without_a_flow_is_left_to_the_switch_to_count() -> None:
    bench = PerFlowBench()
    bench.bench.balancer.on_switch(PacketIn(C1.port, b"\x00" * 60), 0, 0)
    assert bench.switch.answered == []
    assert bench.bench.records == []


@given(st.binary(max_size=120))
def test_any_frame_has_a_flow_or_none(frame: bytes) -> None:
    for kind in (b"\x08\x00", b"\x86\xdd"):
        found = five_tuple(frame[:12] + kind + frame[14:])
        assert found is None or (found[2] in (UDP, TCP) and 0 <= min(found[3:]) <= max(found[3:]) < 2**16)


def test_a_later_fragment_has_no_flow() -> None:
    whole = frame_of(to_vip(7))
    assert five_tuple(whole) == (C1.ip, VIP_IP, UDP, 7, 9000)
    assert five_tuple(whole[:20] + b"\x00\x10" + whole[22:]) is None


# ------------------------------------------------------------------------------------------------------- failing


def test_removed_nodes_flows_hash_anew_and_others_stay() -> None:
    switch = installed()
    first = placed(switch, range(20_000, 20_200))
    switch.apply(pipeline.set_slots(CONFIG, SLOTS, [s if s != "n2" else "n1" for s in SLOTS]))
    switch.apply(pipeline.remove_node(CONFIG, "n2"))
    after = placed(switch, range(20_000, 20_200))
    assert "n2" not in after.values()
    assert all(after[flow] == node for flow, node in first.items() if node != "n2")
    assert len(switch.pins()) == 200
    switch.apply(pipeline.restore_node(CONFIG, "n2"))
    assert placed(switch, range(20_000, 20_200)) == after  # coming back moves nobody


def test_flows_of_a_removed_node_are_looked_at_by_bits_of_its_own() -> None:
    config = make_config(nodes=300)
    masks = [value[1] for mod in pipeline.install(config, ("n1",) * 64, ()) if mod_is_again(mod) for value in eth(mod)]
    bits = [int(mask.replace(":", ""), 16) for mask in masks]
    assert len(set(bits)) == 300
    assert {f"{mask:b}".count("1") for mask in bits} == {3}  # as many as any other: none contains another


def mod_is_again(mod: Message) -> bool:
    return isinstance(mod, FlowMod) and mod.table == pipeline.Table.AGAIN


def eth(mod: Any) -> list[Any]:
    return [value for name, value in mod.match if name == "eth_src"]


def test_port_that_goes_down_hands_over_in_the_switch_and_back() -> None:
    switch = installed()
    first = placed(switch, range(20_000, 20_100))
    switch.ports_down.add(PORTS["n2"])
    meanwhile = placed(switch, range(20_000, 20_100))
    assert all(meanwhile[flow] == {"n2": "n3"}.get(node, node) for flow, node in first.items())
    switch.ports_down.add(PORTS["n3"])
    assert set(placed(switch, range(20_000, 20_100)).values()) == {"n1"}
    switch.ports_down.clear()
    assert placed(switch, range(20_000, 20_100)) == first


def test_all_ports_down_drops() -> None:
    switch = installed()
    switch.ports_down.update(PORTS.values())
    assert switch.send(C1.port, **to_vip(1)) == []


def test_single_node_has_a_group_of_one_bucket() -> None:
    switch = FakeSwitch()
    switch.apply(pipeline.install(make_config(nodes=1), ("n1",) * 64, ()))
    assert len(switch.groups[1].buckets) == 1
    assert len(switch.send(C1.port, **to_vip(1))) == 1


# ------------------------------------------------------------------------------------------------ all other traffic


@pytest.mark.parametrize(("sender", "sibling"), [("n1", "n3"), ("n2", "n1"), ("n3", "n2")])
def test_deflected_packets_go_to_the_sibling_and_are_not_balanced(sender: str, sibling: str) -> None:
    switch = installed()
    packet = {**to_vip(7), "eth_src": "02:de:f1:00:00:01"}
    handed_on = {**packet, "eth_dst": MACS[sibling]}
    assert switch.send(PORTS[sender], **handed_on) == [(PORTS[sibling], handed_on)]
    assert switch.send(PORTS[sender], **packet) == []  # even to the VIP's address: never balanced again
    assert switch.pins() == {}


@pytest.mark.parametrize("ip6", [False, True])
def test_answers_go_home_to_the_client(ip6: bool) -> None:
    ip = "ipv6" if ip6 else "ipv4"
    answer: Packet = {
        "eth_src": MACS["n2"],
        "eth_dst": "02:00:00:00:00:99",  # whatever the node believes
        "eth_type": 0x86DD if ip6 else 0x0800,
        "ip_proto": TCP,
        f"{ip}_src": VIP_IP6 if ip6 else VIP_IP,
        f"{ip}_dst": C1.ip6 if ip6 else C1.ip,
        "tcp_src": 9000,
        "tcp_dst": 40_000,
    }
    home = {**answer, "eth_src": VIP_MAC, "eth_dst": C1.mac}
    assert installed().send(PORTS["n2"], **answer) == [(C1.port, home)]


def arp(target: str) -> Packet:
    return {
        "eth_src": C1.mac,
        "eth_dst": "ff:ff:ff:ff:ff:ff",
        "eth_type": 0x0806,
        "arp_op": 1,
        "arp_sha": C1.mac,
        "arp_spa": C1.ip,
        "arp_tha": "00:00:00:00:00:00",
        "arp_tpa": target,
    }


@pytest.mark.parametrize(("ip", "mac"), [(VIP_IP, VIP_MAC), (CONFIG.nodes[1].ip, MACS["n2"])])
def test_arp_is_answered_by_the_switch(ip: str, mac: str) -> None:
    answer = {
        "eth_src": mac,
        "eth_dst": C1.mac,
        "eth_type": 0x0806,
        "arp_op": 2,
        "arp_sha": mac,
        "arp_spa": ip,
        "arp_tha": C1.mac,
        "arp_tpa": C1.ip,
    }
    assert installed().send(C1.port, **arp(ip)) == [(C1.port, answer)]


def test_arp_for_strangers_and_other_broadcasts_are_dropped() -> None:
    assert installed().send(C1.port, **arp("10.0.99.99")) == []
    assert installed().send(C1.port, eth_src=C1.mac, eth_dst="33:33:00:00:00:01", eth_type=0x86DD, ip_proto=58) == []


def test_known_addresses_are_forwarded() -> None:
    ping: Packet = {"eth_src": C1.mac, "eth_dst": MACS["n1"], "eth_type": 0x0800, "ip_proto": 1}
    assert installed().send(C1.port, **ping) == [(PORTS["n1"], ping)]


# --------------------------------------------------------------------------------------------------- configuration


def test_a_port_used_twice_is_refused() -> None:
    with pytest.raises(InputError, match="port 1 is used twice"):
        BalancerConfig(1, 6653, CONFIG.vip, CONFIG.clients, (station("n1", "node", 1),), CONFIG.spec, ring=CONFIG.ring)


def test_no_nodes_are_refused() -> None:
    with pytest.raises(InputError, match="0 nodes"):
        BalancerConfig(1, 6653, CONFIG.vip, CONFIG.clients, (), CONFIG.spec, ring=CONFIG.ring)


# ---------------------------------------------------------------------------------------------------- notifications


def said(*nodes: str, backlog: int = 0, severity: float = 0.0) -> NotifyBalancer:
    zeros, ones = np.zeros(len(nodes), dtype=np.int64), np.ones(len(nodes), dtype=np.int64)
    return NotifyBalancer(
        nodes=nodes,
        limit_bytes=ones * 10**6,
        backlog_bytes=ones * backlog,
        predicted_bytes=zeros,
        severity_ratio=ones * severity,
        arrived_bps=zeros,
    )


def notify(*nodes: str, backlog: int = 0, severity: float = 0.0) -> bytes:
    return sealed.encoded(said(*nodes, backlog=backlog, severity=severity))


values = st.integers(0, 2**62)
rows = st.tuples(values, values, values, st.floats(0, 1), values)


@given(st.dictionaries(st.from_regex(r"\A[a-z][0-9]{1,4}\Z"), rows, min_size=1, max_size=5))
def test_notification_comes_back_as_it_went(table: dict[str, tuple[int, int, int, float, int]]) -> None:
    columns = list(zip(*table.values(), strict=True))
    arrays = [np.array(column, dtype=np.float64 if i == 3 else np.int64) for i, column in enumerate(columns)]
    sent = dict(zip(columns_of(NotifyBalancer), arrays, strict=True))
    assert notification.decode(sealed.encoded(NotifyBalancer(nodes=tuple(table), **sent))) == NodesNotified(
        nodes=tuple(table), **sent
    )


@given(st.binary(max_size=200))
def test_random_datagrams_are_refused(datagram: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # any message will do
        notification.decode(b"TBNB\x01\x01" + datagram[:40])


@given(st.integers(0, 48), st.integers(1, 255))
def test_damaged_datagrams_raise_nothing_else(place: int, flip: int) -> None:
    damaged = bytearray(notify("n1"))
    damaged[place % len(damaged)] ^= flip
    try:
        notification.decode(bytes(damaged))
    except ValueError:
        return


@pytest.mark.parametrize("datagram", [b"", notify("n1")[:-1], notify("n1") + b"x", notify("n1", "n1")])
def test_truncated_and_overlong_datagrams_are_refused(datagram: bytes) -> None:
    with pytest.raises(ValueError, match="truncated|after the last row"):
        notification.decode(datagram)


@pytest.mark.parametrize("severity", [-0.1, 1.1, float("nan"), float("inf")])
def test_severity_outside_its_scale_is_refused(severity: float) -> None:
    with pytest.raises(ValueError, match="severity_ratio out of range"):
        notification.decode(notify("n1", severity=severity))


def test_values_out_of_range_are_not_sent() -> None:
    with pytest.raises(ValueError, match="n1.*out of range"):
        notify("n1", backlog=-1)


# ------------------------------------------------------------------------------------------------------- the driver


class Bench:
    """A driver with a fake link and a list for its records."""

    def __init__(self, policy: str = "round-robin") -> None:
        self.records: list[tuple[int, dict[str, Any]]] = []
        self.link, self._seal = FakeLink(), sealed.Notifying(NODES)
        config = make_config(policy=policy)
        self.balancer = LoadBalancer(config, lambda t_ns, record: self.records.append((t_ns, record)))

    def connect(self, now_ns: int = 0, down: tuple[int, ...] = ()) -> None:
        """Grant the master role, and report the ports as `process.ActiveController` does."""
        self.balancer.activate(self.link, now_ns)
        for port in (1, 2, *PORTS.values()):
            self.balancer.on_switch(PortChanged(port, port not in down), now_ns, now_ns)

    def hear(self, *nodes: str, at_ns: int, backlog: int = 0) -> None:
        """Let nodes notify, each for itself."""
        for node in nodes:
            self.balancer.on_datagram(self._seal(said(node, backlog=backlog), at_ns), at_ns)

    def kinds(self) -> list[str]:
        return [record["kind"] for _, record in self.records]


def test_ready_is_told_when_the_barrier_comes_back() -> None:
    bench = Bench()
    bench.connect(1000)
    assert bench.records == []
    bench.balancer.on_switch(Acknowledged(bench.link, 1), 4500, 5000)
    ((t_ns, record),) = bench.records
    assert (t_ns, record["kind"], record["control_loop_us"]) == (4500, "BalancerReady", 3.5)
    assert record["policy"] == "balancer"
    assert Counter(record["slots"]).total() == 64
    assert len(placed(bench.link.switch, range(1, 20))) == 19


def test_control_loop_is_measured_from_the_notification_to_the_barrier() -> None:
    bench = Bench("least-loaded")
    bench.connect()
    bench.hear("n2", "n3", at_ns=9 * NS_PER_MS)
    bench.hear("n1", backlog=900_000, at_ns=10 * NS_PER_MS)
    assert bench.kinds() == ["NodesNotified"] * 3 + ["SetSlots"]
    bench.balancer.on_switch(Acknowledged(bench.link, 2), 11 * NS_PER_MS, 12 * NS_PER_MS)
    assert bench.records[-1][1]["kind"] == "ActionsAcknowledged"
    assert bench.records[-1][1]["control_loop_us"] == 1000.0
    assert set(placed(bench.link.switch, range(1, 60)).values()) == {"n2", "n3"}


def test_what_a_change_sends_was_built_ahead() -> None:
    bench, connection = Bench("least-loaded"), FakeConnection()
    bench.balancer.prepare(connection)
    bench.connect()
    before = len(bench.link.sent)
    bench.hear("n2", "n3", at_ns=9 * NS_PER_MS)
    bench.hear("n1", backlog=900_000, at_ns=10 * NS_PER_MS)
    assert set(bench.link.sent[before:]) <= connection.prepared
    assert len(bench.link.sent) > before
    assert pipeline.every_slot(make_config(policy="per-flow"), 64) == ()
    assert pipeline.every_slot(make_config(), pipeline.MOST_PREPARED) == ()


def test_policy_records_can_be_replayed() -> None:
    bench = Bench("least-loaded")
    bench.connect()
    bench.hear("n1", backlog=900_000, at_ns=10 * NS_PER_MS)
    assert all(record["kind"] in Record.kinds for _, record in bench.records)


def stopped(bench: Bench) -> dict[str, Any]:
    bench.balancer.stop(10**12)
    return bench.records[-1][1]


def test_malformed_datagrams_are_counted_and_ignored() -> None:
    bench = Bench()
    bench.balancer.on_datagram(b"nonsense", 0)
    bench.balancer.on_datagram(notify("n1"), 0)  # sealed by nobody
    assert bench.records == []
    record = stopped(bench)
    assert (record["kind"], record["notifications"], record["malformed"]) == ("BalancerStopped", 0, 2)


def test_a_node_speaks_for_itself_alone() -> None:
    bench, seal = Bench(), sealed.Notifying(NODES)
    for news in (said("n2"), said("n1", "n2")):
        bench.balancer.on_datagram(seal(news, 5, by="n1"), 5)
    whole = seal(said("n1"), 6)
    as_another = whole[:6] + (1).to_bytes(2, "big") + whole[8:]
    bench.balancer.on_datagram(as_another, 6)
    assert bench.records == []
    assert stopped(bench)["ignored"] == {"malformed": 0, "foreign": 0, "forged": 3, "replayed": 0}


def test_a_notification_counts_once_and_no_older_one_after_it() -> None:
    bench, seal = Bench(), sealed.Notifying(NODES)
    first, second = seal(said("n1"), 5), seal(said("n1"), 6)
    for datagram in (second, second, first):
        bench.balancer.on_datagram(datagram, 7)
    assert bench.kinds() == ["NodesNotified"]
    assert stopped(bench)["ignored"]["replayed"] == 2


def test_a_controller_that_begins_anew_takes_nothing_that_was_sent_before() -> None:
    recorded = sealed.Notifying(NODES)(said("n1"), 100)
    config = replace(CONFIG, since_ns=200)
    told: list[str] = []
    balancer = LoadBalancer(config, lambda _, record: told.append(record["kind"]))
    balancer.on_datagram(recorded, 201)
    assert told == []
    balancer.on_datagram(sealed.Notifying(NODES)(said("n1"), 201), 202)
    assert told == ["NodesNotified"]


def test_a_notification_that_waited_for_us_too_long_means_nothing() -> None:
    """It waited in the socket while the controller was stopped, or while another one was active."""
    bench, seal = Bench(), sealed.Notifying(NODES)
    bench.balancer.on_datagram(seal(said("n1"), 0), SILENCE_NS // 2)
    bench.balancer.on_datagram(seal(said("n1"), 1), SILENCE_NS // 2 + 2)
    assert bench.kinds() == ["NodesNotified"]
    assert stopped(bench)["late"] == 1


def test_port_down_removes_the_node_and_port_up_restores_it() -> None:
    bench = Bench()
    bench.connect()
    first = placed(bench.link.switch, range(1, 100))
    bench.balancer.on_switch(PortChanged(PORTS["n2"], False), 5, 5)
    assert bench.kinds() == ["NodeLeft", "SetSlots", "RemoveNode"]
    bench.balancer.on_switch(PortChanged(PORTS["n2"], False), 6, 6)
    assert len(bench.records) == 3
    after = placed(bench.link.switch, range(1, 100))
    assert Counter(after.values())["n2"] == 0
    assert all(after[flow] == node for flow, node in first.items() if node != "n2")
    bench.balancer.on_switch(PortChanged(PORTS["n2"], True), 7, 7)
    assert bench.kinds()[3:] == ["NodeJoined", "RestoreNode", "SetSlots"]
    assert placed(bench.link.switch, range(1, 100)) == after


def test_port_that_is_down_from_the_start_is_noticed() -> None:
    bench = Bench()
    bench.connect(down=(PORTS["n3"],))
    assert bench.kinds() == ["NodeLeft", "SetSlots", "RemoveNode"]


def test_ports_of_clients_are_no_concern() -> None:
    bench = Bench()
    bench.balancer.on_switch(PortChanged(C1.port, False), 0, 0)
    assert bench.records == []


def test_silent_node_leaves_by_deadline() -> None:
    bench = Bench()
    bench.connect()
    bench.hear("n1", "n2", "n3", at_ns=0)
    for tick in range(1, 60):
        now_ns = tick * 10 * NS_PER_MS
        bench.hear("n1", "n3", at_ns=now_ns)
        bench.balancer.on_time(now_ns)
    assert ("RemoveNode", SILENCE_NS) in [(record["kind"], t_ns) for t_ns, record in bench.records]


def test_switch_that_comes_back_gets_the_present_state() -> None:
    bench = Bench()
    bench.connect()
    bench.balancer.release()
    bench.balancer.on_switch(PortChanged(PORTS["n2"], False), 2, 2)
    first, bench.link = bench.link, FakeLink()
    bench.connect(3, down=(PORTS["n2"],))
    assert "n2" not in placed(bench.link.switch, range(1, 50)).values()
    bench.balancer.on_switch(Acknowledged(first, 1), 4, 4)  # of the lost connection
    assert bench.kinds() == ["NodeLeft", "SetSlots", "RemoveNode"]


def test_what_a_lost_connection_waited_for_is_forgotten() -> None:
    bench = Bench("least-loaded")
    bench.connect()
    bench.hear("n2", "n3", at_ns=0)
    bench.hear("n1", backlog=900_000, at_ns=0)  # barrier 2, never answered
    assert bench.link.barriers == 2
    bench.link = FakeLink()
    bench.connect(1)
    told = len(bench.records)
    bench.balancer.on_switch(Acknowledged(bench.link, 2), 2, 2)
    assert len(bench.records) == told


def test_refusal_by_the_switch_is_an_error() -> None:
    bench = Bench()
    with pytest.raises(ToolError, match="refused a message: type 4"):
        bench.balancer.on_switch(Refused("type 4, code 1, about 00"), 0, 0)
