"""What a run relies on is in stock: each kind of change is found, done and undone or left, and named with its place."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from pyroute2 import IPRoute
from pyroute2.nftables.main import NFTables
from scapy.contrib.igmp import IGMP
from scapy.layers.inet import IP
from scapy.layers.l2 import Ether

from testbed.emulation.dataplane.limit_watch import LimitWatch
from testbed.emulation.dataplane.link_meter import LinkMeter
from testbed.emulation.dataplane.nodes_look import NodesLook
from testbed.emulation.dataplane.xdp import NodeProgram, PassProgram
from testbed.emulation.inventory import processes
from testbed.emulation.inventory.control_stock import ControlStock
from testbed.emulation.inventory.difference import ABSENT, Difference
from testbed.emulation.inventory.grouping import changes_of
from testbed.emulation.inventory.namespace import NamespaceStock
from testbed.emulation.inventory.ordered import not_ordered
from testbed.emulation.inventory.processes import ProcessStock, Watched
from testbed.emulation.inventory.switch_stock import Appended, _blocks, _commands, _flows, _ports
from testbed.records.changes import Change
from testbed.scenario.fault import FaultSpec
from testbed.scenario.fault_timeline import FaultStep
from testbed.scenario.topology import TopologySpec
from testbed.topologies import describe
from testbed.traffic.carried_out import Fault
from testbed.units import NS_PER_MS, NS_PER_S
from tests.own_network import in_own_network

T = TypeVar("T")
NEIGHBOUR = {"dst": "10.0.0.2", "lladdr": "02:00:00:00:00:05", "state": 0x80}


def in_a_network_of_its_own(body: Callable[[int], T]) -> T:
    """Run `body` with the number of a thread whose network has va, up, with all that a run uses, and its peer vb."""

    def live() -> T:
        _set_up()
        return body(threading.get_native_id())

    return in_own_network(live)


def _set_up() -> None:
    for name, value in (("accept_dad", "0"), ("addr_gen_mode", "1")):  # as a trial sets them
        Path(f"/proc/sys/net/ipv6/conf/default/{name}").write_text(value)
    with IPRoute() as netlink:
        netlink.link("add", ifname="va", kind="veth", peer="vb")
        va, vb = index_of("va"), index_of("vb")
        for index in (1, va, vb):
            netlink.link("set", index=index, state="up")
        netlink.addr("add", index=va, address="10.0.0.1", prefixlen=24)
        netlink.route("add", dst="10.7.0.0/16", oif=va)
        netlink.neigh("add", ifindex=va, **NEIGHBOUR)
        netlink.tc("add", "tbf", index=va, handle="1:", rate=5_000_000, burst=20_000, limit=1_000_000)


def index_of(name: str) -> int:
    return socket.if_nametoindex(name)


def link(**changed: object) -> Callable[[IPRoute], object]:
    return lambda netlink: netlink.link("set", index=index_of("va"), **changed)


def tbf(**parameters: int) -> Callable[[IPRoute], object]:
    whole = {"rate": 5_000_000, "burst": 20_000, "limit": 1_000_000, **parameters}
    return lambda netlink: netlink.tc("change", "tbf", index=index_of("va"), handle="1:", **whole)


def sysctl(name: str, value: str) -> Callable[[IPRoute], object]:
    return lambda _: Path(f"/proc/sys/net/{name}").write_text(value)


def tool(*argv: str) -> Callable[[IPRoute], object]:
    return lambda _: subprocess.run(argv, check=True, capture_output=True)


def attach_and_detach() -> tuple[Callable[[IPRoute], object], Callable[[IPRoute], object]]:
    def attach(_: IPRoute) -> None:
        with PassProgram() as program:
            program.attach(index_of("va"))

    return attach, tool("ip", "link", "set", "dev", "va", "xdp", "off")


def on(verb: str, what: str, **arguments: object) -> Callable[[IPRoute], object]:
    def act(netlink: IPRoute) -> None:
        places = {key: index_of("va") for key in ("index", "ifindex", "oif") if arguments.get(key) == "va"}
        getattr(netlink, what)(verb, **{**arguments, **places})

    return act


Act = Callable[[IPRoute], object]
KINDS: dict[str, tuple[Act, Act, str, str]] = {  # done, undone, kind, part of what names it
    "MTU": (link(mtu=700), link(mtu=1500), "link", "va mtu"),
    "link down": (link(state="down"), link(state="up"), "link", "va state"),
    "transmit queue": (link(txqlen=7), link(txqlen=1000), "link", "va txqlen"),
    "program": (*attach_and_detach(), "link", "va xdp.xdp_prog_id"),
    "MAC address": (link(address="02:00:00:00:00:77"), link(address="02:00:00:00:00:78"), "link", "va address"),
    "qdisc's rate": (tbf(rate=1_000_000), tbf(), "qdisc", "root on va options.tbf_parms.rate"),
    "qdisc's limit": (tbf(limit=5_000), tbf(), "qdisc", "root on va options.tbf_parms.limit"),
    "qdisc replaced": (
        on("replace", "tc", kind="pfifo", index="va", handle="2:", limit=9),
        on("replace", "tc", kind="tbf", index="va", handle="1:", rate=5_000_000, burst=20_000, limit=1_000_000),
        "qdisc",
        "root on va",
    ),
    "address": (
        on("add", "addr", index="va", address="10.4.0.1", prefixlen=32),
        on("del", "addr", index="va", address="10.4.0.1", prefixlen=32),
        "address",
        "10.4.0.1 on va",
    ),
    "neighbour": (
        on("del", "neigh", ifindex="va", dst="10.0.0.2"),
        on("add", "neigh", ifindex="va", **NEIGHBOUR),
        "neighbour",
        "10.0.0.2 on va",
    ),
    "neighbour moved": (
        on("replace", "neigh", ifindex="va", **{**NEIGHBOUR, "lladdr": "02:ff:ff:ff:ff:ff"}),
        on("replace", "neigh", ifindex="va", **NEIGHBOUR),
        "neighbour",
        "10.0.0.2 on va lladdr",
    ),
    "neighbour forgettable": (
        on("replace", "neigh", ifindex="va", **{**NEIGHBOUR, "state": 2}),
        on("replace", "neigh", ifindex="va", **NEIGHBOUR),
        "neighbour",
        "10.0.0.2 on va",
    ),
    "route": (
        on("del", "route", dst="10.7.0.0/16", oif="va"),
        on("add", "route", dst="10.7.0.0/16", oif="va"),
        "route",
        "10.7.0.0/16",
    ),
    "rule": (on("add", "rule", table=77, priority=9), on("del", "rule", table=77, priority=9), "routing rule", ""),
    "forwarding": (
        sysctl("ipv4/conf/va/forwarding", "1"),
        sysctl("ipv4/conf/va/forwarding", "0"),
        "interface setting",
        "IPv4 on va forwarding",
    ),
    "offload": (tool("ethtool", "-K", "va", "tso", "off"), tool("ethtool", "-K", "va", "tso", "on"), "offloads", "va"),
    "filter": (
        lambda _: LinkMeter("vb").close(),
        tool("tc", "filter", "del", "dev", "vb", "egress"),
        "filter",
        "bpf on vb",
    ),
    "new link": (
        lambda netlink: netlink.link("add", ifname="vc", kind="veth", peer="vd"),
        lambda netlink: netlink.link("del", index=index_of("vc")),
        "link",
        "vc",
    ),
}


def found_after(*acts: Act, hear: bool = True) -> list[Difference]:
    """Return what a stock finds when these acts were done, each heard at a time of its own."""

    def body(pid: int) -> list[Difference]:
        stock = NamespaceStock("n1", pid)
        with IPRoute() as netlink:
            for number, act in enumerate(acts):
                act(netlink)
                if hear:
                    stock.hear(1000 + number)
        try:
            return stock.differences(9000)
        finally:
            stock.close()

    return in_a_network_of_its_own(body)


def naming(found: list[Difference], kind: str, thing: str) -> list[Difference]:
    return [d for d in found if d.kind == kind and f"{d.thing} {d.what}".startswith(thing)]


@pytest.mark.requires("root")
def test_nothing_is_found_where_nothing_was_done() -> None:
    assert found_after() == []


@pytest.mark.requires("root", "bpf")
@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_change_is_found_whether_it_was_undone_or_not(name: str) -> None:
    do, undo, kind, thing = KINDS[name]
    left = naming(found_after(do), kind, thing)
    assert left, name
    assert {d.namespace for d in left} == {"n1"}
    assert left[0].t_ns == 1000
    undone = naming(found_after(do, undo), kind, thing)
    assert {d.t_ns for d in undone} >= {1000, 1001}, name


@pytest.mark.requires("root")
def test_what_was_not_listened_to_in_between_is_found_at_the_end() -> None:
    do, undo, kind, thing = KINDS["MTU"]
    assert [d.after for d in naming(found_after(do, undo, hear=False), kind, thing)] == ["700", "1500"]


@pytest.mark.requires("root")
def test_what_the_kernel_does_not_announce_is_found_if_it_stays() -> None:
    found = found_after(sysctl("ipv4/tcp_sack", "0"), tool("ethtool", "-K", "va", "tx", "off"))
    assert [(d.before, d.after) for d in naming(found, "sysctl", "net/ipv4/tcp_sack")] == [("1", "0")]
    (offloads,) = [d for d in naming(found, "offloads", "va") if d.t_ns is None]
    assert "-tx-checksum-ip-generic" in offloads.after
    route = naming(found_after(link(state="down")), "route", "10.7.0.0/16")  # goes with its link, in silence
    assert [(d.after, d.t_ns) for d in route] == [(ABSENT, None)]


@pytest.mark.requires("root")
def test_a_packet_filter_that_came_and_went_has_left_its_generation() -> None:
    def change(_: IPRoute) -> None:
        with NFTables(nfgen_family=1) as tables:
            tables.table("add", name="probe")
            tables.table("del", name="probe")

    assert naming(found_after(change), "packet filter", "nftables")


@pytest.mark.requires("root")
def test_neighbours_that_the_kernel_learns_and_forgets_are_none_of_the_stock() -> None:
    stale = {"dst": "10.0.0.9", "lladdr": "02:00:00:00:00:09", "state": 4}
    assert found_after(on("add", "neigh", ifindex="va", **stale)) == []


@pytest.mark.requires("root")
def test_multicast_groups_that_a_bridge_learns_are_none_of_the_stock() -> None:
    def body(pid: int) -> list[Difference]:
        with IPRoute() as netlink:
            netlink.link("add", ifname="br", kind="bridge")
            netlink.link("set", index=index_of("br"), state="up")
            netlink.link("set", index=index_of("vb"), master=index_of("br"))
        stock = NamespaceStock("n1", pid)
        try:
            frame = Ether(src="02:00:00:00:00:01", dst="01:00:5e:01:02:03") / IP(src="10.0.0.1", dst="239.1.2.3", ttl=1)
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sending:
                sending.bind(("va", 0))
                sending.send(bytes(frame / IGMP(type=0x16, gaddr="239.1.2.3")))
            with IPRoute() as netlink:
                port = netlink.get_links(index_of("vb"))[0].get_nested("IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA")
            assert port is not None
            assert port.get_attr("IFLA_BRPORT_MCAST_N_GROUPS") == 1, "the bridge learned it"
            return stock.differences(9000)
        finally:
            stock.close()

    assert in_a_network_of_its_own(body) == []


@pytest.mark.requires("root")
def test_more_news_than_there_was_room_for_are_told_of() -> None:
    def body(pid: int) -> list[Difference]:
        stock = NamespaceStock("n1", pid)
        stock._socket._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        with IPRoute() as netlink:
            for mtu in range(600, 700):
                link(mtu=mtu)(netlink)
        try:
            return stock.differences(9000)
        finally:
            stock.close()

    found = in_a_network_of_its_own(body)
    assert [d.kind for d in found if d.kind == "notifications"] == ["notifications"]
    assert naming(found, "link", "va mtu")[-1].after == "699"


# ------------------------------------------------------------------------------------------------------ processes


@pytest.fixture
def child() -> Iterator[int]:
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    yield pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def until_state(pid: int, states: str) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in states:
        os.sched_yield()


def test_a_process_that_was_stopped_between_two_looks_is_found(child: int) -> None:
    stock, watched = ProcessStock(lambda: 0), [Watched("agent n1", child)]
    stock.look(watched, 20 * NS_PER_MS)
    os.kill(child, signal.SIGSTOP)
    until_state(child, "T")
    os.kill(child, signal.SIGCONT)
    until_state(child, "S")
    (found,) = stock.differences(watched, 50 * NS_PER_MS)
    assert (found.kind, found.thing, found.what, found.t_ns) == ("process", "agent n1", "state", 20 * NS_PER_MS)
    assert found.after == "stopped, for at most 30 ms"


def test_a_stop_that_is_seen_has_its_time_and_length_and_one_that_lasts_is_told_of(child: int) -> None:
    stock, watched = ProcessStock(lambda: 0), [Watched("agent n1", child)]
    stock.look(watched, 0)
    os.kill(child, signal.SIGSTOP)
    until_state(child, "T")
    stock.look(watched, 10 * NS_PER_MS)
    still = stock.differences(watched, 20 * NS_PER_MS)
    assert [(d.after, d.t_ns) for d in still] == [("stopped, not resumed", 0)]
    os.kill(child, signal.SIGCONT)
    until_state(child, "S")
    stock.look(watched, 310 * NS_PER_MS)
    assert stock.differences(watched, NS_PER_S)[0].after == "stopped, for at most 310 ms"


@pytest.mark.requires("root")
def test_another_policy_or_fewer_cores_are_found(child: int) -> None:
    stock, watched = ProcessStock(lambda: 0), [Watched("ovs-vswitchd", child)]
    os.sched_setscheduler(child, os.SCHED_FIFO, os.sched_param(7))
    stock.look(watched, 0)
    os.sched_setscheduler(child, os.SCHED_OTHER, os.sched_param(0))
    stock.look(watched, processes.TURN_NS)
    os.sched_setaffinity(child, {min(os.sched_getaffinity(0))})
    found = stock.differences(watched, NS_PER_S)
    assert [d.what for d in found] == ["scheduling"] * len(found)
    assert found[0].before.startswith("SCHED_FIFO 7 on cores")
    assert found[0].after.startswith("SCHED_OTHER 0 on cores")


@pytest.mark.requires("root")
def test_who_has_nothing_more_to_do_may_change_while_it_is_looked_at(child: int) -> None:
    times = iter([0, NS_PER_S])  # the second look begins before the time and is over after it
    stock, watched = ProcessStock(lambda: next(times)), [Watched("sender c1", child, until_ns=NS_PER_S)]
    stock.look(watched, 0)
    os.sched_setscheduler(child, os.SCHED_BATCH, os.sched_param(0))
    assert stock.differences(watched, NS_PER_S - 1) == []


def test_processes_are_looked_at_in_turn_all_of_them_once_in_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    monkeypatch.setattr(ProcessStock, "_look_at", lambda self, process, now_ns: looked.append(process.pid))
    stock, watched = ProcessStock(lambda: 0), [Watched(f"agent n{k}", 10**7 + k) for k in range(200)]
    stock.look(watched, 0)
    assert looked == [process.pid for process in watched]
    for step in range(1, 11):
        looked.clear()
        stock.look(watched, step * processes.TURN_NS // 10)
        assert len(looked) == 20
    assert stock._queue == []


def test_the_demand_of_a_process_is_what_its_busiest_thread_ran_and_waited() -> None:
    how = dict.fromkeys((1, 2), "SCHED_FIFO 7 on cores 0-1")
    before = processes._Look(0, 0, how, dict.fromkeys(how, processes._Spent(0, 0)))
    busy, full = processes._Spent(600 * NS_PER_MS, 300 * NS_PER_MS), processes._Spent(NS_PER_S, 0)
    look = processes._Look(0, NS_PER_S, how, {1: processes._Spent(0, 0), 2: busy})
    stock = ProcessStock(lambda: 0)
    stock._heed_demand(Watched("ovs-vswitchd", 1), before, look)
    assert stock.demand == ("ovs-vswitchd", 0.9, 0.3)
    ordinary = dict.fromkeys(how, "SCHED_OTHER 0 on cores 0-1")
    stock._heed_demand(Watched("trial", 1), before, look._replace(how=ordinary, spent_ns={1: full}))
    assert stock.demand.process == "ovs-vswitchd"
    assert processes._ranges({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8"


def test_only_threads_that_forward_or_decide_have_a_demand() -> None:
    named, done = threading.Barrier(3), threading.Event()

    def live(name: str) -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name)
        named.wait()
        done.wait()

    forwarding, other = (threading.Thread(target=live, args=(name,)) for name in ("pmd-c01/id:6", "revalidator5"))
    forwarding.start()
    other.start()
    named.wait()
    try:
        look = processes._look(os.getpid(), 0)
    finally:
        done.set()
    assert set(look.spent_ns) == {os.getpid(), forwarding.native_id}
    assert {forwarding.native_id, other.native_id} <= set(look.how)


# --------------------------------------------------------------------------------------------------------- switch

DATABASE = """OVSDB JSON 150 8d0f
{"_date":1,"_comment":"ovs-vsctl (invoked by sh (pid 0)): ovs-vsctl set Bridge s1 fail_mode=standalone"}
"""


def test_what_was_appended_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("before\n")
    appended = Appended(file)
    assert appended.lines() == []
    with file.open("a") as log:
        log.write("one\ntw")
        log.flush()
        assert appended.lines() == ["one"]
        log.write("o\n")
    assert appended.lines() == ["two"]
    file.write_text("")
    assert appended.lines() == []


def test_a_change_of_the_configuration_is_named_by_its_command() -> None:
    assert list(_commands(DATABASE.splitlines())) == ["ovs-vsctl set Bridge s1 fail_mode=standalone"]


def test_flows_of_tables_that_change_by_design_are_left_out() -> None:
    dump = (
        " priority=400,in_port=3 actions=goto_table:7\n table=1, priority=1,udp actions=load:0x1->NXM_NX_REG2[]\n"
        " table=3, reg1=0x1 actions=load:0x1->NXM_NX_REG2[]\n table=7, priority=1 actions=output:1\n"
    )
    assert _flows(dump) == {"priority=400,in_port=3": "goto_table:7", "table=7, priority=1": "output:1"}


def test_ports_groups_and_meters_are_told_apart() -> None:
    ports = (
        "OFPST_PORT_DESC reply (OF1.3) (xid=0x2):\n 1(s1-eth1): addr:d2:cf:2d:0f:57:6f\n     config:     NO_FWD\n"
        "     state:      LIVE\n     current:    10GB-FD COPPER\n LOCAL(s1): addr:f2:5b\n     config:     0\n"
    )
    assert _ports(ports) == {"s1-eth1": "config: NO_FWD state: LIVE", "s1": "config: 0"}
    groups = "OFPST_GROUP_DESC reply (OF1.3) (xid=0x2):\n group_id=2,type=ff,bucket=watch_port:4\n group_id=1,type=ff\n"
    assert set(_blocks(groups)) == {"group_id=2", "group_id=1"}
    meters = "OFPST_METER_CONFIG reply (OF1.3) (xid=0x2):\nmeter=controller pktps stats bands=\ntype=drop rate=7\n"
    assert _blocks(meters) == {"meter=controller": "meter=controller pktps stats bands= type=drop rate=7"}


# ---------------------------------------------------------------------------------------------------------- limit


def look(limit: int, backlog: int = 0, peak: int = 0, refused: int = 0) -> NodesLook:
    measured = np.array([[0], [0], [0], [refused], [backlog], [limit], [0], [0], [0]], dtype=np.int64)
    none = np.zeros(1, dtype=np.int64)
    return NodesLook(measured, none, none, np.array([peak]))


def watch() -> LimitWatch:
    made = LimitWatch(("n1",), np.array([500_000]), 1514)
    made.look(0, look(500_000))
    return made


def test_a_buffer_that_obeys_says_nothing() -> None:
    limits = watch()
    limits.look(1, look(500_000, 499_000, 499_900, refused=9))  # full
    limits.put(0, 2_000_000)
    limits.look(2, look(2_000_000, 1_000_000, 1_999_000))
    limits.put(0, 500_000)  # below what waits: nothing is let in, and what was before is still in the open bin
    limits.look(3, look(500_000, 900_000, 1_999_000, refused=40))
    limits.look(4, look(500_000, 700_000, 0, refused=40))
    assert list(limits.differences()) == []


def test_a_limit_that_is_not_the_agents_is_found_at_the_tick() -> None:
    limits = watch()
    limits.look(10, look(50_000, 0, 0))
    limits.look(20, look(50_000, 0, 0))
    limits.look(30, look(500_000, 0, 0))
    assert [(d.namespace, d.kind, d.before, d.after, d.t_ns) for d in limits.differences()] == [
        ("n1", "buffer", "500000 B set by the agent", "50000 B in force", 10),
        ("n1", "buffer", "500000 B set by the agent", "50000 B in force", 20),
    ]


def test_a_limit_that_was_put_back_before_the_tick_is_found_by_what_packets_met() -> None:
    lower, higher = watch(), watch()
    lower.look(10, look(500_000, 20_000, 50_000, refused=3))
    assert [d.before for d in lower.differences()] == ["expected: drops only when the backlog exceeds 500000 B"]
    higher.look(10, look(500_000, 700_000, 800_000))
    assert [d.after for d in higher.differences()] == ["found: a backlog of 800000 B"]


def test_a_node_that_starts_anew_begins_with_the_limit_in_force() -> None:
    limits = watch()
    limits.begin(np.array([700_000]))
    limits.look(10, look(700_000, 0, 0, refused=5))  # what waited before is not known
    assert list(limits.differences()) == []


@pytest.mark.requires("root", "bpf")
def test_a_control_word_that_somebody_wrote_is_found() -> None:
    with NodeProgram(10**8, 0, 500_000) as program:
        stock = ControlStock({"n1": program})
        program.begin(10**12)  # with the run
        stock.look(0)
        program.set_limit(700_000)  # the agent's
        assert stock.look(10) == []
        program.set_ecn_threshold(9)
        stock.look(20)
        program.set_classes({5: 3})
        assert [(d.what, d.t_ns) for d in stock.look(30)] == [("ecn_threshold_bytes", 20), ("class_of_dscp", 30)]


# -------------------------------------------------------------------------------------------------------- ordered

NETWORK = describe(TopologySpec(family="cluster", nodes=3, clients=1))


def difference(kind: str, interface: str, *, namespace: str = "n1", what: str = "", thing: str = "") -> Difference:
    return Difference(namespace, kind, thing or interface, what, "a", "b", NS_PER_S, interface)


def fault(over_ns: int | None = 2 * NS_PER_S, **spec: object) -> Fault:
    return Fault(FaultStep(0, True, 0), FaultSpec.model_validate({"at": "900ms", **spec}), 900 * NS_PER_MS, 0, over_ns)


ORDERED = {
    "link": (fault(link_down="s1-n1"), difference("link", "n1-eth0", what="state")),
    "its carrier": (fault(link_down="s1-n1"), difference("link", "s1-eth2", namespace="switch", what="carrier")),
    "its port": (fault(link_down="s1-n1"), difference("port", "s1-eth2", namespace="switch")),
    "its routes": (fault(link_down="s1-n1"), difference("route", "n1-eth0")),
    "queue": (fault(crash="n1"), difference("qdisc", "n1-eth1")),
    "silence": (fault(crash="n1"), difference("buffer", "", thing="control", what="crashed")),
    "loss": (fault(loss="s1-n1", ratio=0.1), difference("buffer", "", thing="control", what="loss_seed")),
    "pause": (fault(**{"pause": "n1", "for": "1s"}), difference("process", "", thing="mesh n1", what="state")),
    "partition": (fault(partition=[["n1"], ["n2", "n3"]]), difference("neighbour", "n1-eth2")),
}
ORDERED["pause, seen at the look after its command"] = (
    ORDERED["pause"][0],
    ORDERED["pause"][1]._replace(t_ns=899 * NS_PER_MS, by_ns=935 * NS_PER_MS),
)
NOT_ORDERED = {
    "a stop seen before the command": (
        ORDERED["pause"][0],
        ORDERED["pause"][1]._replace(t_ns=800 * NS_PER_MS, by_ns=899 * NS_PER_MS),
    ),
    "MTU of the link": (fault(link_down="s1-n1"), difference("link", "n1-eth0", what="mtu")),
    "program of the link": (fault(link_down="s1-n1"), difference("link", "n1-eth0", what="xdp.xdp_prog_id")),
    "another link": (fault(link_down="s1-n1"), difference("link", "n1-eth1", what="state")),
    "another node": (fault(link_down="s1-n1"), difference("link", "n2-eth0", namespace="n2", what="state")),
    "another queue": (fault(crash="n1"), difference("qdisc", "n1-eth0")),
    "loss of another node": (
        fault(loss="s1-n2", ratio=0.1), difference("buffer", "", thing="control", what="loss_threshold")
    ),
    "limit of a crashed node": (fault(crash="n1"), difference("buffer", "", thing="limit")),
    "another process": (
        fault(**{"pause": "n1", "for": "1s"}), difference("process", "", thing="ovs-vswitchd", what="state")
    ),
    "its scheduling": (
        fault(**{"pause": "n1", "for": "1s"}), difference("process", "", thing="agent n1", what="scheduling")
    ),
    "neighbours of packets": (fault(partition=[["n1"], ["n2", "n3"]]), difference("neighbour", "n1-eth0")),
    "after it was over": (
        fault(link_down="s1-n1"), difference("link", "n1-eth0", what="state")._replace(t_ns=4 * NS_PER_S)
    ),
    "before it began": (fault(link_down="s1-n1"), difference("link", "n1-eth0", what="state")._replace(t_ns=10)),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(ORDERED))
def test_what_a_fault_changes_is_ordered(name: str) -> None:
    done, found = ORDERED[name]
    assert not_ordered([found], [done], NETWORK) == []
    assert not_ordered([found], [], NETWORK) == [found]


@pytest.mark.parametrize("name", sorted(NOT_ORDERED))
def test_a_fault_excuses_nothing_beside_what_it_changes(name: str) -> None:
    done, found = NOT_ORDERED[name]
    assert not_ordered([found], [done], NETWORK) == [found]


def test_changes_of_one_thing_are_one_and_the_first_act_comes_first() -> None:
    def found(kind: str, thing: str, what: str, before: str, after: str, t_ns: int | None) -> Difference:
        return Difference("c1", kind, thing, what, before, after, t_ns)

    changes = changes_of([
        found("sysctl", "net/ipv4/x", "", "0", "1", None),
        found("route", "fd00::/64", "", "present", ABSENT, 5),
        found("link", "c1-eth0", "operstate", "UP", "DOWN", 5),
        found("link", "c1-eth0", "mtu", "1500", "700", 5),
        found("link", "c1-eth0", "mtu", "700", "1500", 9),
    ])  # fmt: skip
    assert [change.thing for change in changes] == [
        "c1-eth0 mtu", "fd00::/64", "c1-eth0 operstate", "net/ipv4/x",
    ]  # fmt: skip
    assert changes[0] == Change("c1", "link", "c1-eth0 mtu", ("1500", "700", "1500"), 2, 5, 9)
    assert str(changes[0]) == "link c1-eth0 mtu in c1: 1500 → 700 → 1500 at 0.000 s"
    assert str(changes[-1]).endswith("(found at the end)")
    many = changes_of([found("link", "x", "mtu", str(k), str(k + 1), k) for k in range(50)])
    assert many[0].values == ("0", "1", "2", "3", "…", "50")
