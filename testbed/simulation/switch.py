"""The switch of virtual time: flow → slot → node, and pins that keep a flow where it is.

A flow's 5-tuple hashes to a slot, the slot table gives the node of a flow that has no pin, and the pin is made with the
flow's first packet (``controllers/pipeline.py`` does the same in OpenFlow).  A flow that was silent for `affinity_idle`
loses its pin; so does a flow of a removed node with its next packet.

The hash is not that of Open vSwitch: which slot a flow gets differs between the engines, how evenly flows spread does
not.  It is the finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014) over the two words of the 5-tuple, so every
bit of an address or port reaches every bit of the slot.
"""

from __future__ import annotations

import ipaddress

import numpy as np
from numpy.typing import NDArray

from testbed.events import Ints
from testbed.spec.topology import VIP_IP, Network
from testbed.traffic.plan import FlowTable, Int32s
from testbed.units import NS_PER_S

METER_IDLE_NS = NS_PER_S  # the node's meter takes a flow that was silent for longer for a new one

_UDP = 17
_NEVER = -(2**62)
_UNPINNED = -1
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_A = np.uint64(0xBF58476D1CE4E5B9)
_MIX_B = np.uint64(0x94D049BB133111EB)

Words = NDArray[np.uint64]


def flow_hash(flows: FlowTable, clients: tuple[str, ...], network: Network, basis: int) -> Words:
    """Return the 64-bit hash of each flow, uint64 [f]; `basis` makes runs of different seeds differ."""
    source = np.array([int(ipaddress.ip_address(network.host(client).ip)) for client in clients], dtype=np.uint64)
    target = np.uint64(int(ipaddress.ip_address(VIP_IP)))
    ports = flows.src_port.astype(np.uint64) << np.uint64(16) | flows.dst_port.astype(np.uint64)
    addresses = source[flows.client] << np.uint64(32) | target
    return _mixed(_mixed(addresses + np.uint64(basis)) ^ (ports << np.uint64(8) | np.uint64(_UDP)))


def _mixed(words: Words) -> Words:
    words = words + _GOLDEN
    words = (words ^ words >> np.uint64(30)) * _MIX_A
    words = (words ^ words >> np.uint64(27)) * _MIX_B
    mixed: Words = words ^ words >> np.uint64(31)
    return mixed


class Switch:
    """Pins of f flows onto n nodes.

    Args:
        hashes: of the flows, uint64 [f].
        table: node of each slot, int64 [slots].
        nodes: how many nodes there are.
        affinity_idle_ns: a flow silent for so long is placed anew; whole seconds, as OpenFlow counts them.
    """

    def __init__(self, hashes: Words, table: Ints, nodes: int, affinity_idle_ns: int) -> None:
        self._slot = (hashes % np.uint64(len(table))).astype(np.int64)
        self._table = table
        self._removed = np.zeros(nodes, dtype=bool)
        self._idle_ns = -(-affinity_idle_ns // NS_PER_S) * NS_PER_S
        self._pin = np.full(len(hashes), _UNPINNED, dtype=np.int64)
        self._seen_ns = np.full(len(hashes), _NEVER, dtype=np.int64)

    def set_slots(self, table: Ints) -> None:
        """Deal the slots anew: for flows to come."""
        self._table = table

    def remove(self, node: int) -> None:
        """Stop forwarding to a node; its flows hash anew."""
        self._removed[node] = True

    def restore(self, node: int) -> None:
        """Forward to a node again."""
        self._removed[node] = False

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
            self._pin[moved] = self._table[self._slot[moved]]
            node = self._pin[flow]
            new = np.concatenate((new, moved))
        return node, self._pin[np.unique(new)]
