"""The load balancer's OpenFlow pipeline, declared as data.

    CLASSIFY ─ to the VIP ──▶ (PINS) ──▶ HASH ─ unpinned ─▶ SLOTS ─▶ LEARN ─▶ NODES ─▶ group of the node ─▶ port
        │                       ▲        ▲ └─── pinned: the node's number is in reg2 ───▲  │
        │                       └────────┼───────── learned ──────────┘                    │
        │                                └────────────────── AGAIN ◀── the node is removed ┘
        └─ all else ──▶ FORWARD (return traffic to the clients, known addresses to their ports)

All decisions about a flow are made in the switch.  No packet goes to the controller, so a slow, overloaded or dead
controller neither delays nor loses packets.  The controller only writes slots and the states of nodes.

* **New flows.**  HASH maps addresses, protocol and ports to a slot (reg1).  SLOTS maps the slot to the number of a node
  (reg2).  This does what the select group of a textbook does, with the buckets as flow entries.  The select groups of
  Open vSwitch are not used: they hash without UDP ports (``dp_hash``) or unevenly, and move active flows whenever a
  bucket changes.
* **Pins.**  LEARN writes an entry for the 5-tuple into PINS before the first packet is forwarded.  Therefore a change
  of slots moves no active flow.  A pin expires after `affinity_idle` without a packet.  A pin holds the *number* of the
  node, never a port, so that a failed node requires a change of one entry in NODES instead of thousands of pins.
* **A port that goes down.**  Each node has a fast-failover group: the node itself, then the next nodes in order; each
  bucket watches its port.  The switch changes to the next bucket immediately, without the controller.  Pins remain.
* **A node that is removed** (silent, drained): its entry in NODES is replaced by "hash again". Its flows then reach
  SLOTS, where the node has no slot any more, and LEARN overwrites their pins.  Flows of other nodes do not change.
  Before that, AGAIN makes the switch discard its cached decision.  The reason: Open vSwitch caches a decision for all
  packets with the same values in the bits that the decision depended on.  After a change it repeats the decision for
  the cached flow, without a packet and so without learning.  For up to half a second such a flow would follow every
  change of the slots, and it would go back when its node returns.  But if the new decision depends on more bits, the
  cached flow is deleted, and its next packet is decided and learned.  So AGAIN matches three bits of the source
  address, different ones for each node; both values of the bits lead to the same action.  This needs
  ``disable-in-band`` on the bridge (Mininet sets it): the hidden flows of in-band control match the whole source
  address of every packet.
* **Slots in turn.**  A hash distributes flows randomly: of 30 flows on 3 nodes, the busiest node gets 12 or 13.  Under
  a policy that takes slots in turn, HASH sends a new flow to TURN for its slot.  TURN has one entry, which writes the
  number of the next slot.  The entry of each slot replaces it (by learning) with the number of the following slot,
  before the first packet is forwarded.  So the switch counts new flows without the controller.  This entry persists
  like a pin; a controller that installs the pipeline starts at slot 0 again.

      HASH ─ unpinned ─▶ TURN ─▶ SLOTS ─▶ LEARN          SLOTS writes the next turn into TURN
* **Several switches.**  A station at another switch is reached through one port or through one of several equivalent
  ports (PATHS): a hash selects the port, and while it is down another one is used.  The bucket of a node watches all of
  them, through the group of their set.  The other switches forward by destination address.
* **per-flow**, a policy for comparison, has no SLOTS and no LEARN: HASH sends unpinned packets to the controller, which
  writes the pin and sends the packet back through PLACED. PLACED counts the packets that came back.  The packets sent
  to the controller are counted by the controller meter of the switch, because the counters of a flow entry whose
  actions change meanwhile are credited to the new actions.

      CLASSIFY ─▶ PINS ─▶ HASH ─ unpinned ─▶ controller ─ pin ─▶ PINS
                                                 └─ packet ─▶ PLACED ─▶ NODES
* **Deflected packets.**  The XDP program of a node may hand a packet to a sibling.  It marks the source address with
  the prefix 02:de:f1.  Such packets are forwarded by destination address and are not balanced again.
* **ARP** requests for the VIP and for every known station are answered by flow entries, without the controller.  IPv6
  neighbour discovery is not answered: the kernel datapath of Open vSwitch cannot rewrite a solicitation into an
  advertisement.  So hosts need permanent IPv6 neighbours, and solicitations are dropped.
* **Fragments** to the VIP are all dropped and counted (`FRAGMENT_COOKIE`); frames of the testbed fit the MTU. Only the
  first fragment of a datagram has ports.  Open vSwitch hides these ports in flow lookups, but not when it hashes and
  learns.  So the first fragment and the rest would go to different nodes, and the first fragment would move the pin of
  the whole flow.  Forwarding fragments correctly requires a switch that stores the state of each datagram.  A complete
  IPv6 datagram with a fragment header (RFC 6946) is balanced like any other packet.
* **Packets that a host's kernel sends without being asked** (ARP, neighbour discovery, duplicate address detection,
  router solicitations, MLD, IGMP) are dropped where no flow entry answers or forwards them, and counted
  (`KERNEL_COOKIE`), so that they are not mistaken for lost traffic.  All have a group address, except probes of a
  neighbour that is already known; no packet of the testbed's traffic has a group address.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from testbed.controllers.config import BalancerConfig, Station
from testbed.controllers.openflow import (
    CONTROLLER,
    IN_PORT,
    Bucket,
    CopyField,
    FlowMod,
    GroupMod,
    HashToRegister,
    Learn,
    Message,
    OpenFlowAction,
    Output,
    PacketOut,
    Resubmit,
    SetField,
    ToGroup,
    Value,
    match,
)
from testbed.controllers.paths import any_of, paths, towards
from testbed.controllers.table_numbers import Table
from testbed.policies.slots import FALLBACKS, slot_count
from testbed.records.events import FiveTuple
from testbed.scenario.routing import BASIS_BITS
from testbed.scenario.tables import BALANCER_POLICIES
from testbed.units import NS_PER_S

SLOT, NODE = "reg1", "reg2"  # node numbers count from 1: 0 is "not pinned"
PIN_COOKIE = 0x5049_4E53  # "PINS" in dumps
TURN_COOKIE = 0x5455_524E  # "TURN"
FRAGMENT_COOKIE = 0x4652_4147  # "FRAG": counts dropped fragments
KERNEL_COOKIE = 0x4B45_524E  # "KERN": counts dropped frames that the kernels of hosts sent by themselves
ANSWERED_COOKIE = 0x414E_5357  # "ANSW": counts packets that came back from the controller
DEFLECTED = ("02:de:f1:00:00:00", "ff:ff:ff:00:00:00")
MOST_PREPARED = 1024  # flows; building one takes about 0.1 ms

_IPV4, _IPV6, _ARP = 0x0800, 0x86DD, 0x0806
_TCP, _UDP, _ICMPV6 = 6, 17, 58
_NEIGHBOUR_DISCOVERY = range(133, 138)  # types of ICMPv6, RFC 4861
_ARP_REQUEST, _ARP_REPLY = 1, 2

# priorities within CLASSIFY and FORWARD
_MARKED, _ANSWER, _FRAGMENT, _BALANCE, _RETURN, _BEHIND, _REST, _LEFT = 400, 300, 250, 200, 100, 50, 1, 0
_ANY_FRAGMENT = (1, 1)  # value and mask of the field ip_frag (NXM_NX_IP_FRAG)
_TO_A_GROUP = ("01:00:00:00:00:00", "01:00:00:00:00:00")  # broadcast is one of them


def install(config: BalancerConfig, slots: Sequence[str], removed: Collection[str]) -> tuple[Message, ...]:
    """Return the whole pipeline, in an order that is correct for packets that arrive meanwhile.

    Later tables come first, and CLASSIFY, which leads into them, last.

    Args:
        config: the addresses and ports.
        slots: node of each slot.
        removed: nodes that must not forward.
    """
    states = [_removed(config, n.name) if n.name in removed else _serving(config, n.name) for n in config.nodes]
    placing = _placing_by_controller() if is_per_flow(config) else _placing_by_slots(config, slots)
    ways = (*paths(config), *_groups(config), *_forward(config))
    return (*ways, *_again(config), *states, *placing, *_classify(config))


def is_per_flow(config: BalancerConfig) -> bool:
    """Return whether the controller places every flow."""
    return BALANCER_POLICIES[config.spec.policy].places_flows


def set_slots(config: BalancerConfig, before: Sequence[str], after: Sequence[str]) -> tuple[Message, ...]:
    """Return the changes from the slots `before` to the slots `after`; none if the controller places every flow."""
    if is_per_flow(config):
        return ()
    pairs = enumerate(zip(before, after, strict=True))
    return tuple(_slot(config, slot, new) for slot, (old, new) in pairs if old != new)


def every_slot(config: BalancerConfig, slots: int) -> tuple[Message, ...]:
    """Return the flow of every slot for every node: all flows that `set_slots` can return.

    Empty if the controller places every flow, or if they are too many to be built in advance.
    """
    if is_per_flow(config) or slots * len(config.nodes) > MOST_PREPARED:
        return ()
    return tuple(_slot(config, slot, node.name) for slot in range(slots) for node in config.nodes)


def place_flow(config: BalancerConfig, flow: FiveTuple, node: str) -> FlowMod:
    """Return the change that pins a flow to a node."""
    source, target, protocol, source_port, target_port = flow
    kind, name = (_IPV6 if ":" in source else _IPV4), ("tcp" if protocol == _TCP else "udp")
    ports: dict[str, Value] = {f"{name}_src": source_port, f"{name}_dst": target_port}
    wanted = match(eth_type=kind, ip_proto=protocol, **_addresses(kind, src=source, dst=target), **ports)
    pinned = (SetField(NODE, config.number_of(node)),)
    return FlowMod(Table.PINS, 1, wanted, pinned, cookie=PIN_COOKIE, idle_s=_affinity_idle_s(config))


def send_back(config: BalancerConfig, in_port: int, frame: bytes, node: str) -> PacketOut:
    """Return the message that sends a packet-in on to its node, whether the pin is already in force or not."""
    return PacketOut(in_port, frame, (SetField(NODE, config.number_of(node)), Resubmit(Table.PLACED)))


def remove_node(config: BalancerConfig, node: str) -> tuple[Message, ...]:
    """Return the change that makes the pinned flows of `node` hash again; the node must have no slots by then."""
    return (_removed(config, node),)


def restore_node(config: BalancerConfig, node: str) -> tuple[Message, ...]:
    """Return the change that lets `node` forward."""
    return (_serving(config, node),)


# ------------------------------------------------------------------------------------------- tables, last to first


def _groups(config: BalancerConfig) -> Iterator[GroupMod]:
    for number in range(1, len(config.nodes) + 1):
        chain = [config.nodes[(number - 1 + k) % len(config.nodes)] for k in range(FALLBACKS + 1)]
        yield GroupMod(number, tuple(_bucket(config, node) for node in dict.fromkeys(chain)))


def _bucket(config: BalancerConfig, node: Station) -> Bucket:
    actions = (SetField("eth_dst", node.mac), *towards(config, node))
    if node.more_ports:
        return Bucket(None, actions, watch_group=any_of(config, node))
    return Bucket(node.port, actions)


def _serving(config: BalancerConfig, node: str) -> FlowMod:
    number = config.number_of(node)
    return FlowMod(Table.NODES, 1, match(**{NODE: number}), (ToGroup(number),))


def _removed(config: BalancerConfig, node: str) -> FlowMod:
    return FlowMod(Table.NODES, 1, match(**{NODE: config.number_of(node)}), (Resubmit(Table.AGAIN),))


def _again(config: BalancerConfig) -> Iterator[FlowMod]:
    hash_again = (SetField(NODE, 0), Resubmit(Table.HASH))
    for number in range(1, len(config.nodes) + 1):
        bits = _three_bits(number)
        yield FlowMod(Table.AGAIN, 2, match(**{NODE: number}, eth_src=(bits, bits)), hash_again)
    yield FlowMod(Table.AGAIN, 1, match(), hash_again)


def _three_bits(number: int) -> str:
    """Return an address with three bits set; no two of 4096 numbers have the same three bits."""
    bits = sum(1 << (16 * place + (number >> 4 * place & 15)) for place in range(3))
    return bits.to_bytes(6, "big").hex(":")


def _forward(config: BalancerConfig) -> Iterator[FlowMod]:
    for client in config.clients:
        rewritten = (SetField("eth_src", config.vip.mac), SetField("eth_dst", client.mac))
        home = (*rewritten, *towards(config, client))
        for kind, source, target in _families(config.vip.ip, config.vip.ip6, client.ip, client.ip6):
            answer = _addresses(kind, src=source, dst=target)
            yield FlowMod(Table.FORWARD, _RETURN, match(eth_type=kind, **answer), home)
            if client.gateway:
                yield FlowMod(Table.FORWARD, _BEHIND, match(eth_type=kind, **_addresses(kind, src=source)), home)
    for station in config.stations:
        yield FlowMod(Table.FORWARD, _REST, match(eth_dst=station.mac), towards(config, station))
    yield from _dropped_of_kernels()


def _dropped_of_kernels() -> Iterator[FlowMod]:
    """Yield flows that only count packets without a destination."""
    yield FlowMod(Table.FORWARD, _REST, match(eth_dst=_TO_A_GROUP), cookie=KERNEL_COOKIE)
    yield FlowMod(Table.FORWARD, _LEFT, match(eth_type=_ARP), cookie=KERNEL_COOKIE)
    for kind in _NEIGHBOUR_DISCOVERY:
        probe = match(eth_type=_IPV6, ip_proto=_ICMPV6, icmpv6_type=kind)
        yield FlowMod(Table.FORWARD, _LEFT, probe, cookie=KERNEL_COOKIE)


def _affinity_idle_s(config: BalancerConfig) -> int:
    return -(-config.spec.affinity_idle_ns // NS_PER_S)


def _placing_by_slots(config: BalancerConfig, slots: Sequence[str]) -> Iterator[FlowMod]:
    yield from _learn(config)
    yield from (_slot(config, slot, node) for slot, node in enumerate(slots))
    spread: OpenFlowAction = HashToRegister(SLOT, links=len(slots), basis=config.seed & BASIS_BITS)
    if _in_turn(config):
        spread = Resubmit(Table.TURN)
        yield FlowMod(Table.TURN, 1, match(), (SetField(SLOT, 0),), cookie=TURN_COOKIE)
    yield FlowMod(Table.HASH, 2, match(**{NODE: 0}), (spread,), goto=Table.SLOTS)
    yield FlowMod(Table.HASH, 1, match(), goto=Table.NODES)


def _placing_by_controller() -> Iterator[FlowMod]:
    yield FlowMod(Table.PLACED, 1, match(), (Resubmit(Table.NODES),), cookie=ANSWERED_COOKIE)
    yield FlowMod(Table.HASH, 2, match(**{NODE: 0}), (Output(CONTROLLER),))
    yield FlowMod(Table.HASH, 1, match(), goto=Table.NODES)


def _learn(config: BalancerConfig) -> Iterator[FlowMod]:
    for kind, address_bits in ((_IPV4, 32), (_IPV6, 128)):
        family = "ipv4" if kind == _IPV4 else "ipv6"
        for protocol, name in ((_TCP, "tcp"), (_UDP, "udp")):
            pin = Learn(
                table=Table.PINS,
                priority=1,
                idle_s=_affinity_idle_s(config),
                cookie=PIN_COOKIE,
                fixed=(("eth_type", kind, 16), ("ip_proto", protocol, 8)),
                same=(
                    (f"{family}_src", address_bits),
                    (f"{family}_dst", address_bits),
                    (f"{name}_src", 16),
                    (f"{name}_dst", 16),
                ),
                register=NODE,
            )
            yield FlowMod(Table.LEARN, 1, match(eth_type=kind, ip_proto=protocol), (pin,), goto=Table.NODES)


def _slot(config: BalancerConfig, slot: int, node: str) -> FlowMod:
    to_node: tuple[OpenFlowAction, ...] = (SetField(NODE, config.number_of(node)),)
    if _in_turn(config):
        following = (slot + 1) % slot_count(len(config.nodes))
        learned = Learn(Table.TURN, 1, 0, TURN_COOKIE, fixed=(), same=(), register=SLOT)
        to_node = (*to_node, SetField(SLOT, following), learned)
    return FlowMod(Table.SLOTS, 1, match(**{SLOT: slot}), to_node, goto=Table.LEARN)


def _in_turn(config: BalancerConfig) -> bool:
    return BALANCER_POLICIES[config.spec.policy].in_turn


def _classify(config: BalancerConfig) -> Iterator[FlowMod]:
    for port in dict.fromkeys(port for node in config.nodes for port in node.ports):
        marked = match(in_port=port, eth_src=DEFLECTED)
        yield FlowMod(Table.CLASSIFY, _MARKED, marked, goto=Table.FORWARD)
    yield from _arp_answers(config)
    for kind, address in ((_IPV4, config.vip.ip), (_IPV6, config.vip.ip6)):
        if address:
            fragment = match(eth_type=kind, ip_frag=_ANY_FRAGMENT, **_addresses(kind, dst=address))
            yield FlowMod(Table.CLASSIFY, _FRAGMENT, fragment, cookie=FRAGMENT_COOKIE)
    for fields in _balanced(config):
        yield FlowMod(Table.CLASSIFY, _BALANCE, match(**fields), (Resubmit(Table.PINS),), goto=Table.HASH)
    yield FlowMod(Table.CLASSIFY, _REST, match(), goto=Table.FORWARD)


def _arp_answers(config: BalancerConfig) -> Iterator[FlowMod]:
    known = [(config.vip.ip, config.vip.mac)] + [(s.ip, s.mac) for s in config.stations]
    for ip, mac in known:
        question = match(eth_type=_ARP, arp_op=_ARP_REQUEST, arp_tpa=ip)
        answer: tuple[OpenFlowAction, ...] = (
            CopyField("eth_src", "eth_dst", 48),
            SetField("eth_src", mac),
            SetField("arp_op", _ARP_REPLY),
            CopyField("arp_sha", "arp_tha", 48),
            CopyField("arp_spa", "arp_tpa", 32),
            SetField("arp_sha", mac),
            SetField("arp_spa", ip),
            Output(IN_PORT),
        )
        yield FlowMod(Table.CLASSIFY, _ANSWER, question, answer)


def _balanced(config: BalancerConfig) -> Iterator[dict[str, Value]]:
    """Yield the match of each kind of packet that is balanced."""
    vip = config.vip
    for kind, address in ((_IPV4, vip.ip), (_IPV6, vip.ip6)):
        for protocol, name in ((_TCP, "tcp"), (_UDP, "udp")):
            if address:
                fields: dict[str, Value] = {"eth_dst": vip.mac, "eth_type": kind, "ip_proto": protocol}
                fields |= _addresses(kind, dst=address)
                yield from ({**fields, f"{name}_dst": port} for port in vip.ports)
                if not vip.ports:
                    yield fields


def _families(ip_a: str, ip6_a: str, ip_b: str, ip6_b: str) -> Iterator[tuple[int, str, str]]:
    yield _IPV4, ip_a, ip_b
    if ip6_a and ip6_b:
        yield _IPV6, ip6_a, ip6_b


def _addresses(kind: int, **by_direction: str) -> dict[str, Value]:
    family = "ipv4" if kind == _IPV4 else "ipv6"
    return {f"{family}_{direction}": address for direction, address in by_direction.items()}
