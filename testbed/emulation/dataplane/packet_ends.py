"""Where each planned packet was seen: the sets of the senders, of every program and of failing links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from testbed.emulation.dataplane.node_buffers import NodeBuffers
from testbed.emulation.faults.faults import Faults
from testbed.emulation.processes.sender import SendReport
from testbed.traffic.fates import Fates
from testbed.traffic.numbers import PacketNumbers, Words, size_of
from testbed.traffic.plan import PacketPlan


def fates_of(plan: PacketPlan, senders: Iterable[Mapping[str, Any]], buffers: NodeBuffers, faults: Faults) -> Fates:
    """Return what became of every packet of the plan; call it when the queues are drained."""
    numbers, by_links = buffers.numbers, faults.swallowed_by_links()
    ended = {node: program.fates() for node, program in buffers.programs.items()}
    nothing = np.zeros(numbers.words, dtype=np.uint64)
    return Fates(
        numbers=numbers,
        sent=_sent(plan, numbers, senders),
        delivered={node: sink.arrived() for node, sink in buffers.sinks.items()},
        dropped={node: sets["dropped"] for node, sets in ended.items()},
        drawn={node: sets["lost"] for node, sets in ended.items()},
        swallowed={node: sets["crashed"] | by_links.get(node, nothing) for node, sets in ended.items()},
        again=_seen_again(buffers, faults, by_links),
        cut=faults.cut_off(),
    )


def _sent(plan: PacketPlan, numbers: PacketNumbers, senders: Iterable[Mapping[str, Any]]) -> Words:
    sent = np.zeros(numbers.words, dtype=np.uint64)
    for record in senders:
        report: SendReport = record["report"]
        packets = plan.of_client(record["client"])
        taken = np.unpackbits(np.frombuffer(report.sent, np.uint8), count=len(packets), bitorder="little") > 0
        sent |= numbers.set_of(numbers.of(packets.flow[taken], packets.seq[taken]))
    return sent


def _seen_again(buffers: NodeBuffers, faults: Faults, by_links: Mapping[str, Words]) -> int:
    """Return how often a packet came to an end at which it had been before."""
    at_sinks = sum(sink.snapshot().duplicate_pkts for sink in buffers.sinks.values())
    at_nodes = sum(program.repeated_pkts() for program in buffers.programs.values())
    at_links = sum(faults.link_pkts(node) - size_of(words) for node, words in by_links.items())
    between = sum(faults.cut_pkts().values()) - sum(size_of(words) for words in faults.cut_off().values())
    return at_sinks + at_nodes + at_links + between
