"""The section `tcp` of a summary: goodput, retransmissions and round-trip times, in total and for each source.

*Goodput* is the payload acknowledged while the source sent.  The round-trip time includes the queueing delay on the
path, mainly in the node's buffer.  Its minimum is the delay without queues; the rest of a round-trip time is
*queueing*.
"""

from __future__ import annotations

from typing import Any

from testbed.records.evidence import Evidence, TcpEvidence, total
from testbed.records.histogram import Histogram, merged
from testbed.units import NS_PER_MS, NS_PER_S


def tcp_section(evidence: Evidence) -> dict[str, Any] | None:
    """Return the section, None when the scenario has no TCP source."""
    sources, nodes = evidence.tcp, evidence.nodes
    if not sources:
        return None
    counts = {
        "arrived_packets": total(node.tcp_arrived_pkts for node in nodes),
        "dropped_packets": total(node.tcp_dropped_pkts for node in nodes),
        "marked_packets": total(node.tcp_marked_pkts if node.marked_pkts is not None else None for node in nodes),
    }
    return {
        "streams": sum(source.streams for source in sources),
        "broken_streams": sum(source.broken_streams for source in sources),
        "goodput_bps": sum(_goodput_bps(source) for source in sources),
        "retransmitted_packets": sum(source.retransmitted_pkts for source in sources),
        **{name: count for name, count in counts.items() if count is not None},
        **_rtt(merged(source.rtt for source in sources)),
        "sources": [_source(source) for source in sources],
    }


def _source(source: TcpEvidence) -> dict[str, Any]:
    return {
        "name": source.source,
        "congestion": source.congestion,
        "streams": source.streams,
        "goodput_bps": _goodput_bps(source),
        "retransmitted_packets": source.retransmitted_pkts,
        **_rtt(source.rtt),
    }


def _goodput_bps(source: TcpEvidence) -> int:
    return round(source.acked_bytes * 8 * NS_PER_S / max(source.ran_ns, 1))


def _rtt(histogram: Histogram | None) -> dict[str, dict[str, float]]:
    """Return the percentiles; nothing when no connection came about."""
    if histogram is None or not histogram.total:
        return {}
    found = {name: histogram.quantile_ns(ratio) for name, ratio in (("min", 0.0), ("p50", 0.5), ("p99", 0.99))}
    rtt_ms = {name: (value or 0.0) / NS_PER_MS for name, value in found.items()}
    return {"rtt_ms": rtt_ms, "queueing_ms": {name: rtt_ms[name] - rtt_ms["min"] for name in ("p50", "p99")}}
