"""From what a Mininet `Topo` adds to a network of the testbed: who is what, and which parameters a link may have.

**Roles.**  A host is what `role=` says, else what its name says: ``c1`` a client, ``n1`` a node, ``b1`` a backend.  The
balancer is at the switch with ``role='balancer'``, else at the first one.  Where no backend is added, each node gets
one, and serves at `node_rate`; else each node has a link to a backend, and serves at its ``bw=``.

**Links.**  ``bw=`` (Mbit/s) and ``max_queue_size=`` (packets, taken as the largest frames of an ordinary link) limit a
link between switches, ``delay=`` delays it, or that of a client or node.  What netem alone could do is refused.  Loops
of switches are as good as in `leaf-spine`: packets take shortest paths.  Loops through hosts are not, as hosts do not
forward.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from testbed import units
from testbed.scenario.link_spec import DEFAULT_QUEUE_BYTES, LARGEST_FRAME_BYTES, MAX_LINK_DELAY_NS, MAX_RATE_BPS
from testbed.scenario.network import Host, Link, Network, Role, Switch
from testbed.scenario.routing import routes_of
from testbed.scenario.sources import ETHERNET_BYTES
from testbed.scenario.topology import TopologySpec

MOST_HOSTS = 3999  # numbers that have an address, see `network.Host.ip`
_ROLES: Mapping[str, Role] = {"c": "client", "n": "node", "b": "backend"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,12}")
_NUMBERED = re.compile(r"([A-Za-z_]+)([0-9]{1,4})")
_OWN_WAY = "the testbed sets this itself; remove it"
_NETEM = "only netem does that, at random and without a count; use `faults: - {at: 1s, loss: s1-n1, ratio: 0.01}`"
_REASONS = {
    "loss": f"lost packets would not be accounted for: {_NETEM}",
    "jitter": "only netem could vary the delay, and it reorders packets; remove it",
    "port1": "ports are numbered in the order of switch, client and node links; remove it",
    "port2": "ports are numbered in the order of switch, client and node links; remove it",
    "ip": "addresses are derived from the number of the host; remove it",
    "mac": "addresses are derived from the number of the host; remove it",
}
_LINK_CLASSES = {"Link", "TCLink", "TCULink", "Intf", "TCIntf"}
_MEANINGLESS = {
    "loss": (0, None),
    "jitter": (0, None, "0", "0ms"),
    "use_htb": (True, False, None),
}  # taken as not given


class Unmappable(Exception):
    """Something that is added has no place in a network of the testbed."""

    def __init__(self, happened: str, remedy: str = "", line: int = 0) -> None:
        super().__init__(happened)
        self.happened, self.remedy, self.line = happened, remedy, line


@dataclass(frozen=True)
class Call:
    """One call of `addHost`, `addSwitch` or `addLink`: names, parameters, and the line of the user's file."""

    kind: str
    names: tuple[str, ...]
    opts: Mapping[str, Any]
    line: int

    def refusal(self, happened: str, remedy: str = "") -> Unmappable:
        """Return the error that names this call."""
        said = ", ".join(map(repr, self.names))
        return Unmappable(f"add{self.kind.capitalize()}({said}): {happened}", remedy, self.line)


@dataclass(frozen=True)
class Graph:
    """What a class adds, sorted by what it is in the testbed.

    Attributes:
        switches: by name, the one of the balancer first.
        clients, nodes, backends: each in the order of their numbers; `backends` has one per node.
        rates_bps: what each node serves at; empty where the scenario says it.
        trunks, client_links, node_links: the links between switches, and of each client and node to its switch; a link
            without a `delay_ns` of its own has that of the scenario.
        mesh: name of the switch of the mesh, which the graph does not have.
    """

    switches: tuple[str, ...]
    clients: tuple[Host, ...]
    nodes: tuple[Host, ...]
    backends: tuple[Host, ...]
    rates_bps: tuple[int, ...]
    trunks: tuple[Link, ...]
    client_links: tuple[tuple[Link, bool], ...]
    node_links: tuple[tuple[Link, bool], ...]
    mesh: str


def network_of(graph: Graph, spec: TopologySpec) -> Network:
    """Return the network of a graph, with what a scenario says beside it."""
    ends = [
        link if delayed else Link(link.a, link.b, delay_ns=spec.link_delay_ns)
        for link, delayed in (*graph.client_links, *graph.node_links)
    ]
    served = zip(graph.nodes, graph.backends, spec.rates_bps, strict=True)
    behind = [Link(node.name, backend.name, rate_bps) for node, backend, rate_bps in served]
    first, *others = graph.switches
    made = (Switch(first), *(Switch(name, "plain") for name in others), Switch(graph.mesh, "mesh"))
    mesh = [Link(node.name, graph.mesh) for node in graph.nodes]
    return Network((*graph.clients, *graph.nodes, *graph.backends), made, (*graph.trunks, *ends, *behind, *mesh))


def graph_of(calls: Sequence[Call]) -> Graph:
    """Return the graph of what was added.

    Raises:
        Unmappable: names what the testbed cannot build, and why.
    """
    _refuse_names(calls)
    switches = _switches([call for call in calls if call.kind == "switch"])
    hosts = _hosts([call for call in calls if call.kind == "host"])
    kinds = {**dict.fromkeys(switches, "switch"), **{host.name: host.role for host in hosts}}
    links = _by_ends([call for call in calls if call.kind == "link"], kinds)
    clients, nodes = _of_role(hosts, "client"), _of_role(hosts, "node")
    backends, rates_bps = _backends(nodes, _of_role(hosts, "backend"), links, kinds)
    graph = Graph(
        switches,
        clients,
        nodes,
        backends,
        rates_bps,
        tuple(_trunk(call) for call, ends in links if ends == ("switch", "switch")),
        tuple(_end_link(host, links, False) for host in clients),
        tuple(_end_link(host, links, True) for host in nodes),
        next(name for name in ("m1", "mesh0", *(f"mesh{i}" for i in range(1, len(kinds) + 1))) if name not in kinds),
    )
    _refuse_unconnected(graph)
    return graph


Links = Sequence[tuple[Call, tuple[str, str]]]


def _refuse_names(calls: Sequence[Call]) -> None:
    seen: set[str] = set()
    for call in calls:
        if call.kind == "link":
            continue
        (name,) = call.names
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise call.refusal("this is not a valid name", "use a letter, then at most 12 letters, digits or '_'")
        if name in seen:
            raise call.refusal("it was added twice", "add it once")
        seen.add(name)


def _switches(calls: Sequence[Call]) -> tuple[str, ...]:
    if not calls:
        raise Unmappable("it adds no switch", "the balancer needs one: addSwitch('s1')")
    first = []
    for call in calls:
        protocols = call.opts.get("protocols", "OpenFlow13")
        if "OpenFlow13" not in protocols:
            raise call.refusal(f"protocols={protocols!r}, but the balancer uses OpenFlow13", "remove it")
        if call.opts.get("role", "balancer") != "balancer":
            raise call.refusal(f"unknown role {call.opts['role']!r}", "a switch is role='balancer', or has none")
        _refuse_others(call, {"isSwitch", "role", "protocols"})
        first += [call.names[0]] if "role" in call.opts else []
    if len(first) > 1:
        raise Unmappable(f"{' and '.join(first)} are role='balancer'", "give one switch that role")
    names = [call.names[0] for call in calls]
    return tuple(dict.fromkeys((*first, *names)))


def _hosts(calls: Sequence[Call]) -> tuple[Host, ...]:
    hosts: dict[tuple[Role, int], Host] = {}
    for call in calls:
        host = _host(call)
        if (twin := hosts.setdefault((host.role, host.number), host)) is not host:
            raise call.refusal(
                f"it has the same number and role as {twin.name}, and addresses are derived from them", "renumber it"
            )
    for role in ("client", "node"):
        if not any(host.role == role for host in hosts.values()):
            letter = role[0]
            raise Unmappable(f"it adds no {role}", f"name a host {letter}1, or addHost('h1', role='{role}')")
    return tuple(hosts[key] for key in sorted(hosts))


def _host(call: Call) -> Host:
    (name,) = call.names
    match = _NUMBERED.fullmatch(name)
    if match is None or not 1 <= int(match.group(2)) <= MOST_HOSTS:
        raise call.refusal(
            f"its name has no number from 1 to {MOST_HOSTS}, from which its addresses are derived", "such as h1"
        )
    given = call.opts.get("role", _ROLES.get(match.group(1)))
    if given is None:
        raise call.refusal(
            "its role is unknown, since neither its name nor role= states it", "add role='client', 'node' or 'backend'"
        )
    if given not in _ROLES.values():
        raise call.refusal(f"unknown role {given!r}", "a host is role='client', 'node' or 'backend'")
    _refuse_others(call, {"role"})
    return Host(name, cast("Role", given))


def _of_role(hosts: Sequence[Host], role: str) -> tuple[Host, ...]:
    return tuple(host for host in hosts if host.role == role)


def _by_ends(calls: Sequence[Call], kinds: Mapping[str, str]) -> Links:
    """Return the links with what is at their ends.

    Raises:
        Unmappable: two links have the same ends, or a link leads where none can.
    """
    found, seen = [], set[frozenset[str]]()
    for call in calls:
        ends = frozenset(call.names)
        if len(ends) == 1:
            raise call.refusal("a link from a switch or host to itself", "remove it")
        if ends in seen:
            raise call.refusal(
                "a second link between the same two", "merge the links, or add a switch for a second path"
            )
        seen.add(ends)
        _refuse_class(call)
        found.append((call, (kinds[call.names[0]], kinds[call.names[1]])))
        _refuse_loop(*found[-1])
    return found


def _refuse_loop(call: Call, ends: tuple[str, str]) -> None:
    allowed = ({"switch"}, {"switch", "client"}, {"switch", "node"}, {"node", "backend"})
    if set(ends) not in allowed:
        happened = f"a link between a {ends[0]} and a {ends[1]}, but hosts do not forward"
        raise call.refusal(happened, "link clients and nodes to switches, backends to nodes")


def _refuse_class(call: Call) -> None:
    kind = call.opts.get("cls")
    if kind is not None and getattr(kind, "__name__", "") not in _LINK_CLASSES:
        raise call.refusal(f"cls={getattr(kind, '__name__', kind)!r}: {_OWN_WAY}")
    _refuse_others(call, {"cls", "bw", "delay", "max_queue_size"})


def _refuse_others(call: Call, known: set[str]) -> None:
    for name, value in call.opts.items():
        if name not in known and value not in _MEANINGLESS.get(name, ()):
            raise call.refusal(f"{name}={value!r}: {_REASONS.get(name, _OWN_WAY)}")


def _rate_bps(call: Call) -> int | None:
    bw = call.opts.get("bw")
    if bw is None:
        return None
    if isinstance(bw, bool) or not isinstance(bw, (int, float)) or not 0 < bw * 10**6 <= MAX_RATE_BPS:
        raise call.refusal(f"bw={bw!r}", f"write Mbit/s, more than 0, at most {MAX_RATE_BPS // 10**6}")
    return round(bw * 10**6)


def _delay_ns(call: Call) -> int | None:
    given = call.opts.get("delay")
    if given is None:
        return None
    try:
        delay_ns = units.duration_ns(re.sub(r"(?<=[mu])(?:sec|secs)$", "s", given) if isinstance(given, str) else given)
    except ValueError as error:
        raise call.refusal(f"delay={given!r}: {error}") from None
    if delay_ns > MAX_LINK_DELAY_NS:
        raise call.refusal(f"delay={given!r}", f"at most {units.duration_text(MAX_LINK_DELAY_NS)}")
    return delay_ns


def _trunk(call: Call) -> Link:
    """Return a link between switches."""
    (a, b), rate_bps, packets = call.names, _rate_bps(call), call.opts.get("max_queue_size")
    if packets is None:
        return Link(a, b, rate_bps, _delay_ns(call) or 0, DEFAULT_QUEUE_BYTES)
    if rate_bps is None:
        raise call.refusal("max_queue_size= without bw=: a link without a rate has no queue", "add bw=")
    least = -(-LARGEST_FRAME_BYTES // ETHERNET_BYTES)
    if isinstance(packets, bool) or not isinstance(packets, int) or not least <= packets <= 10**9 // ETHERNET_BYTES:
        raise call.refusal(f"max_queue_size={packets!r}", f"write a number of packets, at least {least}")
    return Link(a, b, rate_bps, _delay_ns(call) or 0, packets * ETHERNET_BYTES)


def _end_link(host: Host, links: Links, towards: bool) -> tuple[Link, bool]:
    """Return the link of a client or node to its switch, and whether it has a delay of its own."""
    own = [call for call, ends in links if host.name in call.names and "switch" in ends]
    if len(own) != 1:
        found = " and ".join(" to ".join(call.names) for call in own) or "it has no link to a switch"
        happened = f"{host.role} {host.name}: {found}"
        raise Unmappable(happened, "give it one link to a switch", own[1].line if own else 0)
    (call,) = own
    if call.opts.get("bw") is not None or call.opts.get("max_queue_size") is not None:
        happened = (
            "bw= and max_queue_size= limit links between switches; the service rate of a node is the bw= to its backend"
        )
        raise call.refusal(happened, "remove them, or set topology.node_rate")
    (switch,) = (name for name in call.names if name != host.name)
    ends = (switch, host.name) if towards else (host.name, switch)
    delay_ns = _delay_ns(call)
    return Link(*ends, delay_ns=delay_ns or 0), delay_ns is not None


def _backends(
    nodes: Sequence[Host], backends: Sequence[Host], links: Links, kinds: Mapping[str, str]
) -> tuple[tuple[Host, ...], tuple[int, ...]]:
    """Return the backend of each node and what each node serves at, made up where the graph has none."""
    if not backends:
        made = tuple(Host(f"b{node.number}", "backend") for node in nodes)
        if taken := [host.name for host in made if host.name in kinds]:
            raise Unmappable(f"{taken[0]} would be the name of a backend", "choose another name")
        return made, ()
    found = [_behind(node, links, kinds) for node in nodes]
    unused = {host.name for host in backends} - {name for name, _ in found}
    if unused or len(dict(found)) < len(found):
        raise Unmappable("some backend does not have exactly one node", "link each backend to its own node")
    rates_bps = [rate_bps for _, rate_bps in found if rate_bps is not None]
    if 0 < len(rates_bps) < len(found):
        raise Unmappable("only some links to backends have a bw=", "add it to all of them or to none")
    by_name = {host.name: host for host in backends}
    return tuple(by_name[name] for name, _ in found), tuple(rates_bps)


def _behind(node: Host, links: Links, kinds: Mapping[str, str]) -> tuple[str, int | None]:
    own = [call for call, ends in links if node.name in call.names and "backend" in ends]
    if len(own) != 1:
        raise Unmappable(f"node {node.name} has {len(own)} backends", "link it to one, or add no backends at all")
    (call,) = own
    if call.opts.get("delay") is not None or call.opts.get("max_queue_size") is not None:
        raise call.refusal(
            "delay= and max_queue_size= have no effect on this link: `buffer` sets the queue", "remove them"
        )
    return next(name for name in call.names if kinds[name] == "backend"), _rate_bps(call)


def _refuse_unconnected(graph: Graph) -> None:
    network = Network(
        (), tuple(Switch(name, "plain" if i else "openflow") for i, name in enumerate(graph.switches)), graph.trunks
    )
    reached = routes_of(network).hops
    for name in graph.switches:
        if (name, graph.switches[0]) not in reached:
            raise Unmappable(f"no path leads from {name} to {graph.switches[0]}", "link the switches")
