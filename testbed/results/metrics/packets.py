"""Figures of the planned packets: what was sent, what became of it, how long it took."""

from __future__ import annotations

from testbed.results.accounting import SUMMARY_PLACES
from testbed.results.metrics import Metric

_PLACES = {
    "buffer": "packets dropped by the buffers of the nodes",
    "link": "packets dropped at the full queue of a link between switches (only the simulation has such queues)",
    "qdisc": "packets lost in the egress queue of a node",
    "switch": "packets lost or refused by the switch",
    "fault": "packets lost because of a fault of the scenario",
    "other": "packets counted by another drop counter",
}
_TRAFFIC = (
    Metric(
        name="traffic.sent_packets",
        unit="packets",
        doc="planned packets that were sent",
        section="Traffic",
        label="packets sent",
    ),
    Metric(
        name="traffic.sent_bytes",
        unit="bytes",
        doc="bytes of the planned packets that were sent",
        section="Traffic",
        label="bytes sent",
    ),
    Metric(
        name="traffic.delivered_packets",
        unit="packets",
        doc="planned packets that a backend received",
        section="Traffic",
        label="delivered",
    ),
    *(
        Metric(
            name=f"traffic.dropped_packets.{place}",
            unit="packets",
            doc=_PLACES[place],
            section="Traffic",
            label="dropped by the buffers" if place == "buffer" else f"lost at: {place}",
            lower_is_better=True,
            silent=place != "buffer",
        )
        for place in SUMMARY_PLACES
    ),
    Metric(
        name="traffic.in_flight_packets",
        unit="packets",
        doc="packets still in a queue or on a link when the run ended",
        section="Traffic",
        label="in flight at the end",
    ),
    Metric(
        name="traffic.unaccounted_packets",
        unit="packets",
        doc="packets sent that are neither delivered, nor dropped at a known place, nor in flight; 0 in a VALID run",
        section="Traffic",
        label="unaccounted",
        lower_is_better=True,
    ),
    Metric(
        name="traffic.reordered_packets",
        unit="packets",
        doc="packets that arrived after a packet of the same flow that was sent later",
        section="Traffic",
        label="reordered",
        lower_is_better=True,
    ),
    Metric(
        name="traffic.goodput_bps",
        unit="bit/s",
        doc="delivered bits divided by the duration of the traffic",
        section="Traffic",
        label="goodput",
        lower_is_better=False,
    ),
    *(
        Metric(
            name=f"traffic.send_lateness_us.{part}",
            unit="µs",
            doc="time between the planned and the actual send time of a packet",
            section="Traffic",
            label=f"send lateness {part}",
            lower_is_better=True,
        )
        for part in ("p50", "p99")
    ),
)
_DELAY = tuple(
    Metric(
        name=f"delay_ms.{part}",
        unit="ms",
        doc="one-way delay of delivered packets, from the send call to the sink",
        section="Delay",
        label=label,
        lower_is_better=True,
        line=f"{line} {{}}",
        key=key,
        column=column,
    )
    for part, label, line, key, column in (
        ("p50", "median", "p50", "p50_ms", "p50 ms"),
        ("p99", "p99", "p99", "p99_ms", "p99 ms"),
        ("p999", "p99.9", "p99.9", "p999_ms", "p99.9 ms"),
        ("max", "max", "max", "", ""),
    )
)

ROWS = (*_TRAFFIC, *_DELAY)
