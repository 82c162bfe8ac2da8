"""The switch in virtual time: flow → slot → node, and pins that keep a flow at its node.

The 5-tuple of a flow hashes to a slot.  For a flow without a pin, the slot table gives the node, and the first packet
creates the pin (``controllers/pipeline.py`` does the same in OpenFlow).  A flow loses its pin after `affinity_idle`
without a packet; a flow of a removed node loses it with its next packet.  A pin holds the number of the node.  If the
port of this node is down, the next node in order is used, as in the fast-failover groups of the pipeline.

The hash is that of Open vSwitch for ``multipath(symmetric_l3l4+udp, basis, modulo_n, …)``, so both engines map each
flow to the same slot.  This matters because the flows that share a node determine which node overflows: with a
different hash, however good, the two engines would run different experiments with the same seed.  It is MurmurHash3 (32
bits) over three words,

    source address ^ target address,  protocol,  source port ^ target port

initialised and finalised with the basis; the words are read from the packet as a little-endian machine reads them.  An
IPv6 address is four words.

Source: A. Appleby, MurmurHash3 (public domain); Open vSwitch, lib/hash.h and `flow_hash_symmetric_l3l4` in lib/flow.c.
If Open vSwitch is compiled for SSE 4.2 it uses CRC32 instead; the packages of Debian and Ubuntu are not.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.policies.slots import FALLBACKS
from testbed.records.events import Ints
from testbed.scenario.network import VIP_IP, VIP_IP6, Network
from testbed.traffic.plan import FlowTable, Int32s
from testbed.units import NS_PER_S

METER_IDLE_NS = NS_PER_S  # the node's meter takes a flow that was silent for longer for a new one

_UDP = 17
_NEVER = -(2**62)
_UNPINNED = -1

Words = NDArray[np.uint32]
AnyArray = NDArray[Any]


def flow_hash(flows: FlowTable, clients: tuple[str, ...], network: Network, basis: int) -> Words:
    """Return the hash of each flow, uint32 [f]; `basis` makes runs of different seeds differ."""
    hosts = [network.host(client) for client in clients]
    hashes = np.empty(len(flows), dtype=np.uint32)
    for version, pairs in ((4, [(host.ip, VIP_IP) for host in hosts]), (6, [(host.ip6, VIP_IP6) for host in hosts])):
        chosen = flows.ip_version == version
        addresses = np.array([_crossed_words(*pair) for pair in pairs], dtype=np.uint32)
        hashes[chosen] = _hash(addresses[flows.client[chosen]], flows.src_port[chosen], flows.dst_port[chosen], basis)
    return hashes


def _hash(addresses: Words, src_port: Int32s, dst_port: Int32s, basis: int) -> Words:
    """Return the hash of flows of one version of IP; `addresses`: source ^ target, [f, words]."""
    ports = (src_port ^ dst_port).astype(np.uint16).byteswap().astype(np.uint32)
    state = np.full(len(ports), basis, dtype=np.uint32)
    for word in (*addresses.T, np.full_like(state, _UDP), ports):
        state = _added(state, word)
    return _finished(state ^ np.uint32(basis))


def _crossed_words(one: str, other: str) -> list[int]:
    """Return one address ^ the other in 32-bit words, as a little-endian machine reads them from the packet."""
    packed = (ipaddress.ip_address(address).packed for address in (one, other))
    mine, others = (np.frombuffer(address, dtype="<u4") for address in packed)
    return [int(word) for word in mine ^ others]


def _rotated(words: Words, bits: int) -> Words:
    rotated: Words = words << np.uint32(bits) | words >> np.uint32(32 - bits)
    return rotated


def _added(state: Words, words: Words) -> Words:
    """Return the state of MurmurHash3 after one more word; arithmetic is modulo 2^32."""
    mixed = _rotated(words * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
    added: Words = _rotated(state ^ mixed, 13) * np.uint32(5) + np.uint32(0xE6546B64)
    return added


def _finished(state: Words) -> Words:
    state = (state ^ state >> np.uint32(16)) * np.uint32(0x85EBCA6B)
    state = (state ^ state >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    finished: Words = state ^ state >> np.uint32(16)
    return finished


class Switch:
    """Pins of f flows onto n nodes.

    Args:
        hashes: of the flows, uint32 [f].
        table: node of each slot, int64 [slots].
        nodes: how many nodes there are.
        affinity_idle_ns: a flow silent for so long is assigned again; whole seconds, as OpenFlow counts them.
        first_tier: how many of the nodes the switch gives flows to; they come first.  Default all.
        in_turn: each new flow takes the next slot, in place of the slot that its hash names.
        slot_of_flow: slot of each flow, int64 [f], where the hash alone does not name it.
    """

    def __init__(
        self,
        hashes: Words,
        table: Ints,
        nodes: int,
        affinity_idle_ns: int,
        first_tier: int | None = None,
        *,
        in_turn: bool = False,
        slot_of_flow: Ints | None = None,
    ) -> None:
        by_hash = (hashes % np.uint32(len(table))).astype(np.int64)
        self._slot = by_hash if slot_of_flow is None else slot_of_flow
        self._table = table.copy()
        self._in_turn = in_turn
        self._turn = np.zeros(1, dtype=np.int64)  # the slot of the next new flow
        self._removed = np.zeros(nodes, dtype=bool)
        self._idle_ns = -(-affinity_idle_ns // NS_PER_S) * NS_PER_S
        self._pin = np.full(len(hashes), _UNPINNED, dtype=np.int64)
        self._seen_ns = np.full(len(hashes), _NEVER, dtype=np.int64)
        self._first_tier = nodes if first_tier is None else first_tier
        self._port_down = np.zeros(nodes, dtype=bool)
        self._leads_to = np.arange(nodes)  # each number
        self._strange = np.zeros(len(hashes), dtype=bool)  # flows whose number leads elsewhere since their last packet

    def set_slots(self, table: Ints) -> None:
        """Reassign the slots, for new flows."""
        self._table[:] = table

    def state(self) -> dict[str, AnyArray | int]:
        """Return the state, with arrays that are never replaced, by the names in ``bpf/step.c``."""
        return {
            **{"table": self._table, "slots": len(self._table), "slot": self._slot, "pin": self._pin},
            **{"seen_ns": self._seen_ns, "strange": self._strange, "removed": self._removed},
            **{"leads_to": self._leads_to, "turn": self._turn, "in_turn": self._in_turn},
            **{"meter_idle_ns": METER_IDLE_NS, "pin_idle_ns": self._idle_ns},
        }

    def remove(self, node: int) -> None:
        """Stop forwarding to a node; its flows are hashed again."""
        self._removed[node] = True

    def restore(self, node: int) -> None:
        """Forward to a node again."""
        self._removed[node] = False

    def set_port(self, node: int, *, down: bool) -> None:
        """Take a node's port for down, or for up again."""
        before = self._leads_to.copy()
        self._port_down[node] = down
        for number in range(self._first_tier):
            chain = [(number + k) % self._first_tier for k in range(FALLBACKS + 1)]
            self._leads_to[number] = next((k for k in chain if not self._port_down[k]), number)
        pinned = np.flatnonzero(self._pin != _UNPINNED)
        self._strange[pinned] = (self._leads_to != before)[self._pin[pinned]]

    def route(self, flow: Int32s, t_ns: Ints) -> tuple[Ints, Ints]:
        """Place the packets of a step, which are in the order of time.

        Returns:
            The node of each packet, int64 [p], and of each flow that its node will take for a new one, int64 [k].
        """
        silent_ns = t_ns - self._seen_ns[flow]
        self._seen_ns[flow] = t_ns  # the last packet of a flow wins
        quiet = silent_ns >= min(METER_IDLE_NS, self._idle_ns)
        new = flow[:0]
        if quiet.any():
            self._pin[flow[silent_ns >= self._idle_ns]] = _UNPINNED
            new = flow[silent_ns > METER_IDLE_NS]
        node = self._pin[flow]
        homeless = node == _UNPINNED
        if self._removed.any():
            homeless |= self._removed[node]
        if homeless.any():
            moved = flow[homeless]
            if self._in_turn:
                self._take_turns(moved)
            self._pin[moved] = self._table[self._slot[moved]]
            node = self._pin[flow]
            new = np.concatenate((new, moved))
        if self._port_down.any() or self._strange.any():
            new = np.concatenate((new, flow[self._strange[flow]]))
            self._strange[flow] = False
            node = self._leads_to[node]
        return node, self._leads_to[self._pin[np.unique(new)]]

    def _take_turns(self, flow: Int32s) -> None:
        """Give the next slots to flows in the order of their first packets here."""
        flows, first = np.unique(flow, return_index=True)
        ranks = np.argsort(np.argsort(first))
        self._slot[flows] = (self._turn + ranks) % len(self._table)
        self._turn[:] = (self._turn + len(flows)) % len(self._table)
