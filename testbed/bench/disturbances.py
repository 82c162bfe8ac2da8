"""All that a run relies on, and what happens to it: the table behind `bench verdict`.

A row says what is relied on, how it is disturbed, by which words the verdict has to name it, and from which length on.
Three kinds of length, each with its reason:

* `AT_ONCE`: a change of what packets meet, or a stopped process, is named however short it is: the kernel tells of it;
* a length in ms, of what is only seen by what it does to time, or that is found only when it is inspected periodically;
* `NEVER`: it changes no figure of a run, so the verdict may be VALID; the row is there to show that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from testbed.bench import process_touches, touches
from testbed.bench.running_trial import SUPERVISOR, SWITCH, TRIAL
from testbed.bench.touches import Touch
from testbed.emulation.inventory.processes import TURN_NS
from testbed.scenario.network import VIP_IP, bucket_bytes
from testbed.scenario.topology import TopologySpec
from testbed.topologies import describe
from testbed.units import NS_PER_MS

AT_ONCE, NEVER = 0.0, float("inf")
LEFT_MS = 0.0  # done and not undone
DURATIONS_MS = (5.0, 20.0, 100.0, 500.0)
LOOKED_AT_MS = 2 * TURN_NS / NS_PER_MS  # within two turns each process was looked at while it lasted
STALL_MS = 32.0  # see results.fidelity.stalls
A_FULL_SECOND_MS = 2100.0  # covers one second of the watch whatever its phase

NODES, RATE_BPS = 3, 40_000_000
SCENARIO: dict[str, Any] = {
    "name": "disturbed",
    "duration": "2500ms",
    "topology": {"family": "cluster", "nodes": NODES, "clients": 2, "node_rate": f"{RATE_BPS // 10**6}Mbit"},
    "buffer": {"policy": "reactive", "min": "0.5MB", "max": "10MB"},
    "traffic": [
        {"name": "base", "from": "c1", "shape": "constant", "rate": "30Mbit", "flows": 60, "packet": "1000B"},
        {
            "name": "bursts", "from": "c2", "shape": "on-off", "on": {"constant": "60ms"}, "off": {"constant": "240ms"},
            "peak": "150Mbit", "flows": 120, "packet": "1000B",
        },
    ],
}  # fmt: skip
AT_MS = 900.0

NETWORK = describe(TopologySpec.model_validate(SCENARIO["topology"]))
_TBF = {"kind": "tbf", "rate": RATE_BPS // 8, "burst": bucket_bytes(RATE_BPS), "limit": 2 * 10**7}
_N1, _B1 = NETWORK.host("n1"), NETWORK.host("b1")
_EGRESS, _INSIDE = NETWORK.data_interface("n1"), NETWORK.interface("n1", "b1")
_TO_N1 = NETWORK.switch_port("n1")
_MESH = NETWORK.mesh_interface("n1")


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A row of the table.

    Attributes:
        relies_on: what of the run is disturbed; rows of one kind are next to each other.
        name: what is done to it.
        touch: does it.
        named_by: regular expression that a reason of the verdict has to match.
        from_ms: from which length on it has to be named.
        durations_ms: for how long it is done, each in a run of its own.
    """

    relies_on: str
    name: str
    touch: Touch
    named_by: str
    from_ms: float = AT_ONCE
    durations_ms: tuple[float, ...] = DURATIONS_MS


def _queue(parameters: touches.Attributes) -> Touch:
    """Return what changes the queue of n1."""
    return touches.qdisc_parameters("n1", _INSIDE, parameters, _TBF)


_LEFT = (LEFT_MS,)

TABLE = (
    # ------------------------------------------------------------------------------------------------------- links
    Disturbance("link", "MTU of a client cut to 600 B",
                touches.link("c1", "c1-eth0", {"mtu": 600}, {"mtu": 1500}), r"link c1-eth0 mtu in c1"),
    Disturbance("link", "MTU of a node's egress cut to 600 B",
                touches.link("n1", _INSIDE, {"mtu": 600}, {"mtu": 1500}), r"link n1-eth1 mtu in n1"),
    Disturbance("link", "client's link down", touches.down("c1", "c1-eth0"), r"link c1-eth0 state in c1"),
    Disturbance("link", "backend's link down", touches.down("b1", "b1-eth0"), r"link b1-eth0 state in b1"),
    Disturbance("link", "switch's end of a node's link down", touches.down(SWITCH, _TO_N1), rf"link {_TO_N1} state"),
    Disturbance("link", "node's link to the mesh down", touches.down("n1", _MESH), r"link n1-eth2 state in n1"),
    Disturbance("link", "transmit queue of a client cut to 5",
                touches.link("c1", "c1-eth0", {"txqlen": 5}, {"txqlen": 1000}), r"link c1-eth0 txqlen in c1"),
    Disturbance("offloads", "checksum offload of a node's egress on",
                touches.ethtool("n1", _INSIDE, "tx"), r"offloads n1-eth1"),
    # ---------------------------------------------------------------------------------------------------- programs
    Disturbance("program", "program of a node detached",
                touches.netlink("n1", "n1-eth0", touches.detach), r"link n1-eth0 xdp", durations_ms=_LEFT),
    Disturbance("program", "program of a backend detached",
                touches.netlink("b1", "b1-eth0", touches.detach), r"link b1-eth0 xdp", durations_ms=_LEFT),
    # ------------------------------------------------------------------------------------------------------ queues
    Disturbance("qdisc", "a node's queue replaced by a FIFO of 10 packets",
                touches.qdisc("n1", _INSIDE, {"kind": "pfifo", "limit": 10}, _TBF), r"qdisc root on n1-eth1"),
    Disturbance("qdisc", "a node's rate cut by a fifth",
                _queue({**_TBF, "rate": RATE_BPS // 10}), r"qdisc root on n1-eth1"),
    Disturbance("qdisc", "a node's FIFO shrunk to 20 kB",
                _queue({**_TBF, "limit": 20_000}), r"qdisc root on n1-eth1"),
    Disturbance("filter", "a classifier drops what goes to a node",
                touches.drop_all(_TO_N1), r"(filter|qdisc).* on s1-eth"),
    Disturbance("filter", "a packet is sent twice",
                touches.send_twice("n1", _EGRESS, _TO_N1), r"(?i)duplicate", durations_ms=_LEFT),
    # --------------------------------------------------------------------------------------------------- addresses
    Disturbance("neighbour", "VIP behind a node points nowhere",
                touches.neighbour("n1", _INSIDE, VIP_IP, _B1.mac), rf"neighbour {VIP_IP} on n1-eth1"),
    Disturbance("route", "route to the VIP deleted in a node",
                touches.route("n1", _INSIDE, f"{VIP_IP}/32"), rf"route {VIP_IP}/32"),
    Disturbance("address", "address of a node deleted",
                touches.address("n1", _EGRESS, _N1.ip), rf"address {_N1.ip} on n1-eth0"),
    Disturbance("setting", "forwarding of a node off",
                touches.sysctl("n1", "ipv4/conf/all/forwarding", "0", "1"),
                r"interface setting IPv4 on all forwarding"),
    Disturbance("setting", "a sysctl that nobody announces, undone",
                touches.sysctl("n1", "ipv4/tcp_sack", "0", "1"), r"sysctl net/ipv4/tcp_sack", NEVER, (100.0,)),
    Disturbance("setting", "the same, left",
                touches.sysctl("n1", "ipv4/tcp_sack", "0", "0"), r"sysctl net/ipv4/tcp_sack", durations_ms=_LEFT),
    Disturbance("packet filter", "table added in a node", touches.packet_filter("n1"), r"packet filter nftables in n1"),
    # ------------------------------------------------------------------------------------------------------ switch
    Disturbance("flow", "a flow drops what a client sends",
                touches.flow("table=0,in_port=1", "drop"), r"flow by unix#\d+: 1 flow_mods"),
    Disturbance("flow", "a flow of the pipeline deleted",
                touches.openflow(("del-flows", "table=7,dl_dst=02:02:00:00:00:01")), r"flow .*", durations_ms=_LEFT),
    Disturbance("group", "a node's group sends to another",
                touches.openflow(("mod-group", "group_id=1,type=indirect,bucket=output:4")), r"group group_id=1",
                durations_ms=_LEFT),
    Disturbance("port", "a port forwards nothing",
                touches.openflow(("mod-port", _TO_N1, "no-forward"), ("mod-port", _TO_N1, "forward")),
                r"port s1-eth|unaccounted packets|switch_no_matching_route [1-9]"),
    Disturbance("port", "a port taken down by OpenFlow",
                touches.openflow(("mod-port", _TO_N1, "down"), ("mod-port", _TO_N1, "up")), rf"link {_TO_N1} state"),
    Disturbance("configuration", "idle time of cached flows changed",
                touches.configuration("set", "Open_vSwitch", ".", "other_config:max-idle=77"),
                r"configuration ovs-vsctl .*max-idle=77", durations_ms=_LEFT),
    # ----------------------------------------------------------------------------------------------------- buffers
    Disturbance("buffer", "a node's limit overwritten with 1 B",
                touches.control("limit_bytes", 1), r"buffer limit in n\d"),
    Disturbance("buffer", "a node made silent", touches.control("crashed", 1), r"buffer control crashed|unaccounted"),
    # --------------------------------------------------------------------------------------------------- processes
    Disturbance("process", "switch stopped", process_touches.stop("ovs-vswitchd"), r"process ovs-vswitchd state"),
    Disturbance("process", "switch's database stopped", process_touches.stop("ovsdb-server"),
                r"process ovsdb-server state"),
    Disturbance("process", "agent stopped", process_touches.stop("agents"), r"process agents state"),
    Disturbance("process", "sender stopped", process_touches.stop("sender c1"), r"process sender c1 state"),
    Disturbance("process", "balancer stopped", process_touches.stop("balancer"), r"process balancer state"),
    Disturbance("process", "mesh member stopped", process_touches.stop("mesh"), r"process mesh state"),
    Disturbance("process", "trial's PID 1 stopped", process_touches.stop(TRIAL), r"trial", NEVER),
    Disturbance("process", "supervisor stopped", process_touches.stop(SUPERVISOR), r"supervisor", NEVER),
    Disturbance("process", "agent without its priority", process_touches.ordinary("agents"),
                r"process agents scheduling", LOOKED_AT_MS, (*DURATIONS_MS, LOOKED_AT_MS)),
    Disturbance("process", "switch kept on one core", process_touches.one_core("ovs-vswitchd"),
                r"process ovs-vswitchd scheduling", LOOKED_AT_MS, (*DURATIONS_MS, LOOKED_AT_MS)),
    # ----------------------------------------------------------------------------------------------------- machine
    Disturbance("machine", "a real-time process on every core", process_touches.hog(real_time=True),
                r"stall", STALL_MS),
    Disturbance("machine", "two ordinary processes on every core", process_touches.hog(2), r"CPU busy",
                A_FULL_SECOND_MS, (100.0, 500.0, A_FULL_SECOND_MS)),
    Disturbance("machine", "a quarter of the free memory touched", process_touches.memory(0.25),
                r"CPU busy", NEVER, (500.0,)),
)  # fmt: skip
