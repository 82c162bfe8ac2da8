"""What became of the planned packets, as counts of individually identified packets (`traffic.fates`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FateEvidence:
    """How many planned packets came to which end, each counted once.

    Attributes:
        sent_pkts: those the kernel took from the senders.
        delivered_pkts: those that reached a sink.
        dropped_pkts: those a buffer dropped and no sink saw.
        fault_pkts: those that a fault kept from a node and that came to neither of these ends.
        missing_pkts: those sent and seen at no end.
        repeated_pkts: how often a packet came to an end, of whatever kind and wherever, after its first.
        unsent_pkts: those seen at an end though no sender sent them.
        link_pkts: those that the full queue of a link between switches refused and that came to no other end.
        unplanned_pkts: packets of the run at the sinks that the plan does not have.
    """

    sent_pkts: int
    delivered_pkts: int
    dropped_pkts: int
    fault_pkts: int
    missing_pkts: int
    repeated_pkts: int
    unsent_pkts: int
    unplanned_pkts: int
    link_pkts: int = 0
