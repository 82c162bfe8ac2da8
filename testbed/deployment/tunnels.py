"""The way of a packet between pods: VXLAN tunnels, so that it does not matter what network the pods have.

    client ─ Service ─▶ gw0 ║ switch ║ n3 ═ VNI 1003 ═ in0 ─ XDP ─ redirect ─ TBF ─ out0 ═ VNI 2000 ═ in0 ─▶ backend
                         ▲  ╚════════╝ back ══════════════════ VNI 2000 ═════════════════════════════ in0 ─ answers
          (pod of the balancer)         (pod of a node)                                (pod of the backend)

In the emulation a node hangs at a port of the switch and a backend at the node.  Here a tunnel is the cable: the switch
has a port for each node, and the node's queue is at its tunnel to the backend.  A node passes frames on as they are
(`tc … mirred redirect`), so it needs no route, no neighbour and no forwarding, only CAP_NET_ADMIN.  The XDP program
runs at ``in0`` before the redirection, in generic mode: a tunnel has no driver that could run it.

The backend has a device for the address of each node, as the switch addresses nodes and not backends.  It answers
directly to the switch, not by way of the node: answers wait in no buffer.

All numbers and addresses follow from the number of a node.  198.18.0.0/15 is reserved for tests of networks (RFC 2544)
and is seen inside the tunnels alone.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from testbed.emulation.network import offloads
from testbed.errors import MachineError
from testbed.system import commands

PORT = 4790  # of the tunnels; 4789 is often that of the cluster's own network
MTU = 1450  # of Ethernet, less what a tunnel adds
BACKEND_VNI = 2000
GATEWAY, GATEWAY_IP, GATEWAY_MAC = "gw0", "198.18.0.1", "02:74:62:00:00:01"
GATEWAY_PORT, BACKEND_PORT = "gw1", "back"  # ports of the switch
INGRESS, EGRESS = "in0", "out0"  # interfaces of a node; the backend has the first
_ABSENT = "192.0.2.1"  # the other end of a tunnel whose device is down (RFC 5737: for documents)
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_ANSWERS_TABLE = 100


def vni_of(number: int) -> int:
    """Return the tunnel between the balancer and a node."""
    return 1000 + number


def mac_of(number: int) -> str:
    """Return the address that frames for a node have."""
    return f"02:74:62:01:00:{number:02x}"


def ip_of(number: int) -> str:
    """Return an address that stands for a node in the switch's tables; nobody has it."""
    return f"198.18.1.{number + 1}"


def make(interface: str, vni: int, mac: str = "") -> None:
    """Make a tunnel whose other end is not known yet; it is down."""
    address = f"address {mac}" if mac else ""
    _ip(
        f"making the tunnel {interface}",
        f"link add {interface} {address} mtu {MTU} type vxlan id {vni} dstport {PORT} remote {_ABSENT} nolearning",
    )
    offloads.switch_off([interface])


def remove(*interfaces: str) -> None:
    """Remove what an earlier container of the same pod has left: the pod keeps its network."""
    there = {name for _, name in socket.if_nameindex()}
    _ip("removing tunnels", *(f"link delete {interface}" for interface in interfaces if interface in there))


def connect(interface: str, vni: int, remote: str) -> None:
    """Let the tunnel lead to an address from now on."""
    changed = f"link set {interface} type vxlan id {vni} remote {remote}"
    _ip(f"connecting the tunnel {interface} to {remote}", changed, f"link set {interface} up")


def join(one: str, other: str) -> None:
    """Pass every frame that comes in at one interface on to the other, both ways."""
    for came, goes in ((one, other), (other, one)):
        commands.run("joining two tunnels", ["tc", "qdisc", "add", "dev", came, "handle", "ffff:", "ingress"])
        every = ["protocol", "all", "u32", "match", "u32", "0", "0"]
        away = ["action", "mirred", "egress", "redirect", "dev", goes]
        commands.run("joining two tunnels", ["tc", "filter", "add", "dev", came, "parent", "ffff:", *every, *away])


def make_gateway(vip: str, vip_mac: str, ports: Sequence[int]) -> None:
    """Lead what clients send to this pod at `ports` into the switch, by the port `GATEWAY_PORT`; and answers back.

    Raises:
        MachineError: the pod does not forward packets, and may not change that.
    """
    _forward()
    remove(GATEWAY)
    _ip(
        "making the gateway",
        f"link add {GATEWAY} address {GATEWAY_MAC} mtu {MTU} type veth peer name {GATEWAY_PORT} mtu {MTU}",
        f"link set {GATEWAY} up",
        f"link set {GATEWAY_PORT} up",
        f"address add {GATEWAY_IP}/32 dev {GATEWAY}",
        f"route add {vip}/32 dev {GATEWAY} src {GATEWAY_IP}",
        f"neighbour add {vip} lladdr {vip_mac} dev {GATEWAY} nud permanent",
    )
    offloads.switch_off([GATEWAY, GATEWAY_PORT])
    commands.run("translating addresses", ["nft", "-f", "-"], stdin=translation(vip, ports))


def translation(vip: str, ports: Sequence[int]) -> str:
    """Return the rules that send what comes to the pod at `ports` to the VIP; answers are translated back by them."""
    wanted = ", ".join(map(str, ports))
    rules = [
        f'    iifname != "{GATEWAY}" fib daddr type local {protocol} dport {{ {wanted} }} dnat to {vip}'
        for protocol in ("udp", "tcp")
    ]
    anew = ["table ip testbed {}", "delete table ip testbed"]  # of an earlier container
    head = [*anew, "table ip testbed {", "  chain in {", "    type nat hook prerouting priority dstnat;"]
    return "\n".join([*head, *rules, "  }", "}", ""])


def make_backend(vip: str, nodes: Iterable[int]) -> None:
    """Take what nodes send to the VIP, and send what it answers to the balancer."""
    remove(INGRESS)
    make(INGRESS, BACKEND_VNI)
    _ip(
        "making the addresses of the backend",
        f"address replace {vip}/32 dev lo",
        f"link set {INGRESS} up",
        *(
            line
            for number in nodes
            for line in (
                f"link add v{number} link {INGRESS} address {mac_of(number)} mtu {MTU} type macvlan mode private",
                f"link set v{number} up",
            )
        ),
        f"neighbour add {GATEWAY_IP} lladdr {GATEWAY_MAC} dev {INGRESS} nud permanent",
        f"route add default via {GATEWAY_IP} dev {INGRESS} onlink table {_ANSWERS_TABLE}",
    )
    if f"from {vip} lookup {_ANSWERS_TABLE}" not in commands.run("reading the rules", ["ip", "rule"]):
        _ip("sending answers to the balancer", f"rule add from {vip} lookup {_ANSWERS_TABLE}")


def _forward() -> None:
    """Let this network namespace forward packets; in most clusters it does already, as its machine does."""
    if _FORWARDING.read_text(encoding="ascii").strip() == "1":
        return
    try:
        _FORWARDING.write_text("1", encoding="ascii")
    except OSError as error:
        remedy = "set the sysctl net.ipv4.ip_forward of the pod to 1 (docs/kubernetes.md)"
        raise MachineError(
            "making the gateway", f"the pod does not forward packets ({error.strerror})", remedy
        ) from error


def _ip(attempted: str, *lines: str) -> None:
    if lines:
        commands.run(attempted, ["ip", "-batch", "-"], stdin="\n".join(lines) + "\n")
