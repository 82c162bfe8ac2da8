"""The figures of a summary as rows of label and value, in the order a reader asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from testbed.report.written import (
    Summary,
    count,
    figure,
    megabits,
    megabytes,
    microseconds,
    milliseconds,
    percent,
    short,
)

Row = tuple[str, str]
Group = tuple[str, list[Row]]

_GROUPS: dict[str, tuple[tuple[str, str, Callable[[Any], str]], ...]] = {
    "Traffic": (
        ("packets sent", "traffic.sent_packets", count),
        ("delivered", "traffic.delivered_packets", count),
        ("dropped by the buffers", "traffic.dropped_packets.buffer", count),
        ("in flight at the end", "traffic.in_flight_packets", count),
        ("unaccounted", "traffic.unaccounted_packets", count),
        ("reordered", "traffic.reordered_packets", count),
        ("goodput", "traffic.goodput_bps", megabits),
        ("send lateness p99", "traffic.send_lateness_us.p99", microseconds),
    ),
    "Delay": (
        ("median", "delay_ms.p50", milliseconds),
        ("p99", "delay_ms.p99", milliseconds),
        ("p99.9", "delay_ms.p999", milliseconds),
        ("max", "delay_ms.max", milliseconds),
    ),
    "Buffer": (
        ("policy", "buffer.policy", str),
        ("loss ratio", "buffer.loss_ratio", percent),
        ("reserved memory", "buffer.reserved_mb_s", lambda value: f"{short(value)} MB·s"),
        ("mean limit of a node", "buffer.mean_limit_bytes", megabytes),
        ("resizes", "buffer.resizes", count),
        ("expansions", "buffer.expansions", count),
        ("of them wasted", "buffer.wasted_expansions", count),
    ),
    "Prediction": (
        ("bursts", "prediction.bursts", count),
        ("announced (recall)", "prediction.recall", percent),
        ("alarms that were right", "prediction.precision", percent),
        ("lead, median", "prediction.lead_ms.p50", milliseconds),
        ("false alarms", "prediction.false_alarms_per_min", lambda value: f"{short(value)} a minute"),
    ),
    "TCP": (
        ("goodput", "tcp.goodput_bps", megabits),
        ("segments sent again", "tcp.retransmitted_packets", count),
        ("round trip p50", "tcp.rtt_ms.p50", milliseconds),
        ("round trip p99", "tcp.rtt_ms.p99", milliseconds),
        ("queueing p50", "tcp.queueing_ms.p50", milliseconds),
        ("queueing p99", "tcp.queueing_ms.p99", milliseconds),
    ),
    "Control": (
        ("agent loop p50", "control_loop_us.p50", microseconds),
        ("agent loop p99", "control_loop_us.p99", microseconds),
        ("balancer", "balancer.policy", str),
        ("broken flows", "balancer.broken_flows", count),
        ("busiest node, of the mean", "balancer.max_over_mean_load", lambda value: f"{value:.3f}"),
        ("packet-ins", "balancer.packet_ins", count),
        ("set-up", "setup_s", lambda value: f"{value:.2f} s"),
        ("teardown", "teardown_s", lambda value: f"{value:.2f} s"),
    ),
}


def groups(summary: Summary) -> Iterator[Group]:
    """Yield the groups that have any figure, absent figures left out."""
    for title, wanted in _GROUPS.items():
        rows = [(label, write(value)) for label, path, write in wanted if (value := figure(summary, path)) is not None]
        rows += _stray_drops(summary) if title == "Traffic" else []
        rows += _tcp_sources(summary) if title == "TCP" else []
        if rows:
            yield title, rows


def _stray_drops(summary: Summary) -> list[Row]:
    places = figure(summary, "traffic.dropped_packets") or {}
    return [(f"lost at: {place}", count(lost)) for place, lost in places.items() if lost and place != "buffer"]


def _tcp_sources(summary: Summary) -> list[Row]:
    sources = figure(summary, "tcp.sources") or []
    return [(f"{source['name']}, {source['congestion']}", tcp_figures(source)) for source in sources]


def tcp_figures(source: Summary) -> str:
    """Return what one TCP source got and what it cost, in a line."""
    again = f"{count(source['retransmitted_packets'])} sent again"
    waited = f", queueing p50 {milliseconds(source['queueing_ms']['p50'])}" if "queueing_ms" in source else ""
    return f"{megabits(source['goodput_bps'])}, {again}{waited}"
