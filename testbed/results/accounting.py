"""Accounting: what happened to every planned packet.

A packet that was sent is delivered, dropped by a buffer or by the full queue of a link between switches, or lost
because of a fault of the scenario.  In these cases one of our programs identifies each packet by its number
(`FateEvidence`), so a packet that is counted twice cannot hide the loss of another.  All other packets that were sent
are *missing*.

    sent = delivered + dropped by a buffer or a full link + lost to a fault + missing

Missing packets were lost in the kernel or in the switch.  Their drop counters do not distinguish planned packets from
other traffic.  But the program and the sink of each node count planned packets only, so it is known how many packets
are missing *ahead* of the nodes and how many *behind* each node:

    ahead       sent + deflected - dropped by full links - arrived at the nodes, or lost there to a fault
                    at the switches, on the links to clients and nodes and between switches, malformed or expired when
                    they arrived at a node
    behind n    admitted by n - delivered at its sink
                    at the qdisc, on the link, still in the queue, discarded with the queue when the node crashed

A drop counter explains at most the packets that are missing on its part of the path, and at most its own value.
Packets that no counter explains are *unaccounted*: they were lost where nothing counts.  The rest of a counter is other
traffic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from testbed.records.evidence import Evidence, NodeEvidence, total

SUMMARY_PLACES = ("buffer", "link", "qdisc", "switch", "fault", "other")
_LINK = "link"  # only a network of several switches has it
_UNROUTED = "switch, no matching route"
_IN_SUMMARY = {
    **dict.fromkeys(("switch", "switch refused", _UNROUTED, "packet-ins"), "switch"),
    "qdisc": "qdisc",
}
_THROWN_AWAY, _IN_FLIGHT = "thrown away", "in flight"
_OF_NO_TRIAL = (_UNROUTED, _THROWN_AWAY, _IN_FLIGHT)  # counts beyond the planned packets are no loss of the trial


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where every packet went: ``sent = delivered + dropped + in flight + unaccounted``.

    Attributes:
        sent_pkts, sent_bytes, delivered_pkts, delivered_bytes, in_flight_pkts: totals of the trial; a packet that was
            delivered twice counts once, its bytes twice.
        dropped_pkts: by place of the summary: ``buffer``, ``link`` (between switches, its queue full), ``qdisc``,
            ``switch``, ``fault``, ``other``.
        stray_pkts: those lost neither by a buffer nor to a fault, by the place that explains it.
        others_pkts: what those places counted beyond that, lost of other traffic.
        unaccounted_pkts: what is left over; negative when more came out than went in.
    """

    sent_pkts: int
    sent_bytes: int
    delivered_pkts: int
    delivered_bytes: int
    in_flight_pkts: int
    dropped_pkts: Mapping[str, int]
    stray_pkts: Mapping[str, int]
    others_pkts: Mapping[str, int]
    unaccounted_pkts: int


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A stretch of the way: how many planned packets are missing on it, and what its places counted."""

    missing_pkts: int
    counted_pkts: Mapping[str, int | None]


def account(evidence: Evidence) -> Accounting:
    """Return the packet accounting.  A place nobody measured counts 0, so a loss there shows as unaccounted."""
    sent = sum(client.sent_pkts for client in evidence.clients)
    delivered, by_buffers, by_links, by_faults = _known_ends(evidence)
    explained, beyond = _explain([_ahead(evidence, sent), *map(_behind, evidence.nodes)])
    in_flight, discarded = explained.pop(_IN_FLIGHT, 0), explained.pop(_THROWN_AWAY, 0)
    dropped = Counter({place: 0 for place in SUMMARY_PLACES if place != _LINK or evidence.trunks})
    dropped.update({"buffer": by_buffers, "fault": by_faults + discarded})
    if evidence.trunks:
        dropped[_LINK] = by_links
    for place, count in explained.items():
        dropped[_IN_SUMMARY.get(place, "other")] += count
    return Accounting(
        sent_pkts=sent,
        sent_bytes=sum(client.sent_bytes for client in evidence.clients),
        delivered_pkts=delivered,
        delivered_bytes=sum(node.delivered_bytes for node in evidence.nodes),
        in_flight_pkts=in_flight,
        dropped_pkts=dict(dropped),
        stray_pkts=dict(explained),
        others_pkts={place: count for place, count in beyond.items() if count and place not in _OF_NO_TRIAL},
        unaccounted_pkts=sent - delivered - in_flight - sum(dropped.values()),
    )


def counted_places(evidence: Evidence) -> dict[str, int | None]:
    """Return what every place that may lose packets counted, planned or not; None where nobody counted."""
    stretches = [_ahead(evidence, 0), *map(_behind, evidence.nodes)]
    places: dict[str, list[int | None]] = {}
    for place, count in ((p, c) for stretch in stretches for p, c in stretch.counted_pkts.items()):
        places.setdefault(place, []).append(count)
    return {place: total(counts) for place, counts in places.items() if place not in (_IN_FLIGHT, _THROWN_AWAY)}


def _known_ends(evidence: Evidence) -> tuple[int, int, int, int]:
    """Return how many packets were delivered, dropped by buffers and by full links, and lost to faults, each once."""
    nodes, fates = evidence.nodes, evidence.fates
    if fates is not None:
        return fates.delivered_pkts, fates.dropped_pkts, fates.link_pkts, fates.fault_pkts
    delivered, dropped = sum(node.delivered_pkts for node in nodes), sum(node.dropped_pkts for node in nodes)
    by_faults = sum(node.fault_dropped_pkts or 0 for node in nodes) + _lost_on_cut_links(evidence)
    return delivered, dropped, _refused_by_links(evidence), by_faults


def _lost_on_cut_links(evidence: Evidence) -> int:
    return sum(trunk.fault_dropped_pkts or 0 for trunk in evidence.trunks)


def _refused_by_links(evidence: Evidence) -> int:
    return sum(trunk.queue_dropped_pkts or 0 for trunk in evidence.trunks)


def _ahead(evidence: Evidence, sent_pkts: int) -> _Stretch:
    nodes = evidence.nodes
    deflected = sum(node.deflected_pkts or 0 for node in nodes)
    arrived = sum(node.arrived_pkts + (node.fault_dropped_pkts or 0) for node in nodes)
    places = {
        "switch": evidence.switch_dropped_pkts,
        "switch refused": evidence.switch_refused_pkts,
        _UNROUTED: evidence.switch_unrouted_pkts,
        "packet-ins": evidence.packet_ins_lost_pkts,
        "links of clients": total(client.link_dropped_pkts for client in evidence.clients),
        "links between switches": total(trunk.link_dropped_pkts for trunk in evidence.trunks),
        "links to nodes": total(node.link_dropped_pkts for node in nodes),
        "malformed": total(node.malformed_pkts for node in nodes),
        "expired": total(node.ttl_expired_pkts for node in nodes),
        "aborted": total(node.aborted_pkts for node in nodes),
    }
    at_links = _refused_by_links(evidence) + _lost_on_cut_links(evidence)
    return _Stretch(sent_pkts + deflected - arrived - at_links, places)


def _behind(node: NodeEvidence) -> _Stretch:
    admitted = node.arrived_pkts - node.dropped_pkts - (node.deflected_pkts or 0)
    places = {
        "qdisc": node.qdisc_dropped_pkts,
        "links to backends": node.backend_link_dropped_pkts,
        _IN_FLIGHT: node.in_flight_pkts,
        _THROWN_AWAY: node.discarded_pkts,
    }
    return _Stretch(admitted - node.delivered_pkts, places)


def _explain(stretches: list[_Stretch]) -> tuple[Counter[str], Counter[str]]:
    """Return, by place, how many missing packets it explains, and how many frames it counted beyond."""
    explained: Counter[str] = Counter()
    beyond: Counter[str] = Counter()
    for stretch in stretches:
        missing = max(0, stretch.missing_pkts)
        for place, count in _counts(stretch):
            taken = min(missing, count)
            missing -= taken
            explained[place] += taken
            beyond[place] += count - taken
    return explained, beyond


def _counts(stretch: _Stretch) -> Iterator[tuple[str, int]]:
    return ((place, max(0, count or 0)) for place, count in stretch.counted_pkts.items())
