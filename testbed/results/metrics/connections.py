"""Figures of the TCP connections."""

from __future__ import annotations

from testbed.results.metrics import Metric

ROWS = (
    Metric(
        name="tcp.streams",
        unit="count",
        doc="TCP connections",
        section="TCP",
        label="connections",
        line="{}",
        noun="connection",
    ),
    Metric(
        name="tcp.broken_streams",
        unit="count",
        doc="connections that broke before the end",
        section="TCP",
        label="broken connections",
        lower_is_better=True,
    ),
    Metric(
        name="tcp.goodput_bps",
        unit="bit/s",
        doc="payload acknowledged while the sources sent",
        section="TCP",
        label="goodput",
        lower_is_better=False,
        line="{}",
    ),
    Metric(
        name="tcp.retransmitted_packets",
        unit="packets",
        doc="segments that were retransmitted",
        section="TCP",
        label="retransmissions",
        lower_is_better=True,
        line="{}",
        noun="retransmission",
    ),
    *(
        Metric(
            name=f"tcp.{what}_packets",
            unit="packets",
            doc=doc,
            section="TCP",
            label=label,
            lower_is_better=lower,
        )
        for what, doc, label, lower in (
            ("arrived", "TCP packets that reached the nodes", "packets that arrived", None),
            ("dropped", "TCP packets that the buffers dropped", "packets dropped by the buffers", True),
            ("marked", "TCP packets marked for congestion (ECN)", "packets marked", None),
        )
    ),
    *(
        Metric(
            name=f"tcp.rtt_ms.{part}",
            unit="ms",
            doc="round-trip time of the TCP connections, including queueing delay",
            section="TCP",
            label=f"round-trip time {part}",
            lower_is_better=True,
            line=line,
        )
        for part, line in (("min", ""), ("p50", "round-trip time p50 {}"), ("p99", "p99 {}"))
    ),
    *(
        Metric(
            name=f"tcp.queueing_ms.{part}",
            unit="ms",
            doc="round-trip time minus the minimum round-trip time",
            section="TCP",
            label=f"queueing {part}",
            lower_is_better=True,
            line=line,
        )
        for part, line in (("p50", "{} of it queueing"), ("p99", ""))
    ),
)
