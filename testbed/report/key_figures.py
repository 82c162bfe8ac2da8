"""The figures of a summary as rows of label and value, in the order a reader asks for them."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.report.written import Summary, count, figure, megabits, milliseconds, written
from testbed.results.metrics import METRICS

Row = tuple[str, str]
Group = tuple[str, list[Row]]


def groups(summary: Summary) -> Iterator[Group]:
    """Yield the groups that have any figure, absent figures left out."""
    found: dict[str, list[Row]] = {metric.section: [] for metric in METRICS}
    for metric in METRICS:
        value = figure(summary, metric.name)
        if value or (value is not None and not metric.silent):
            found[metric.section].append((metric.label, written(metric, value)))
    found["TCP"] += _tcp_sources(summary)
    yield from ((title, rows) for title, rows in found.items() if rows)


def _tcp_sources(summary: Summary) -> list[Row]:
    sources = figure(summary, "tcp.sources") or []
    return [(f"{source['name']}, {source['congestion']}", tcp_figures(source)) for source in sources]


def tcp_figures(source: Summary) -> str:
    """Return what one TCP source got and what it cost, in a line."""
    again = f"{count(source['retransmitted_packets'])} retransmitted"
    waited = f", queueing p50 {milliseconds(source['queueing_ms']['p50'])}" if "queueing_ms" in source else ""
    return f"{megabits(source['goodput_bps'])}, {again}{waited}"
