"""The verdict of a run in ten lines of a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from testbed.report.key_figures import tcp_figures
from testbed.report.written import (
    Summary,
    count,
    figure,
    many,
    megabytes,
    microseconds,
    milliseconds,
    percent,
    short,
)

VERDICT_STYLES = {"VALID": "bold green", "DEGRADED": "bold yellow", "INVALID": "bold red"}
_LABEL_WIDTH = 13
_MOST_REASONS = 3


def print_verdict(summary: Summary, run_path: Path, console: Console) -> None:
    """Print the ten lines; where they go and whether in colour is the console's."""
    for line in verdict_lines(summary, run_path):
        console.print(line, soft_wrap=True)


def verdict_lines(summary: Summary, run_path: Path) -> list[Text]:
    """Return ten lines, from the verdict and its reasons to the expectations and the files.

    One more with TCP, and for each further reason, up to `_MOST_REASONS`.
    """
    rows = (
        *_reasons(summary),
        ("traffic", _traffic(summary)),
        ("lost at", _losses(summary)),
        ("delay", _delay(summary)),
        ("buffer", _buffer(summary)),
        *([("tcp", _tcp(summary))] if "tcp" in summary else []),
        ("prediction", _prediction(summary)),
        ("balancer", _balancer(summary)),
        ("expectations", _expectations(summary)),
        ("files", f"{run_path} (report.html, summary.json)"),
    )
    return [_headline(summary), *(Text.assemble((label.ljust(_LABEL_WIDTH), "dim"), text) for label, text in rows)]


def _headline(summary: Summary) -> Text:
    verdict = str(summary["verdict"])
    facts = f"  {summary['scenario']}, seed {summary['seed']}, {summary['engine']}, {summary['status']}"
    setup, teardown = summary.get("setup_s"), summary.get("teardown_s")
    if setup is not None and teardown is not None:
        facts += f"; set up in {setup:.2f} s, removed in {teardown:.2f} s"
    return Text.assemble((verdict, VERDICT_STYLES.get(verdict, "bold")), facts)


def _reasons(summary: Summary) -> list[tuple[str, str]]:
    """Return the reasons of the verdict, each with its cause and remedy; the first ones are the gravest."""
    reasons = list(summary["verdict_reasons"]) or ["every check of the run's fidelity passed"]
    more = len(reasons) - _MOST_REASONS
    told = reasons[:_MOST_REASONS]
    if more > 0:
        told[-1] += f" (and {more} more in fidelity.json)"
    return list(zip(("why", *[""] * len(told)), told, strict=False))


def _traffic(summary: Summary) -> str:
    traffic = summary["traffic"]
    dropped = sum(traffic["dropped_packets"].values())
    parts = f"{count(traffic['delivered_packets'])} delivered + {count(dropped)} dropped"
    parts += f" + {count(traffic['in_flight_packets'])} in flight"
    return f"{count(traffic['sent_packets'])} sent = {parts}; {count(traffic['unaccounted_packets'])} unaccounted"


def _losses(summary: Summary) -> str:
    return ", ".join(f"{place} {count(lost)}" for place, lost in summary["traffic"]["dropped_packets"].items())


def _joined(summary: Summary, parts: tuple[tuple[str, str, Any], ...], absent: str) -> str:
    """Return ``label value`` of every figure that is there, `absent` when none is."""
    found = [form.format(write(value)) for path, form, write in parts if (value := figure(summary, path)) is not None]
    return ", ".join(found) if found else absent


def _delay(summary: Summary) -> str:
    names = (("p50", "p50"), ("p99", "p99"), ("p999", "p99.9"), ("max", "max"))
    parts = tuple((f"delay_ms.{key}", f"{label} {{}}", milliseconds) for key, label in names)
    return _joined(summary, parts, "not measured")


def _buffer(summary: Summary) -> str:
    parts = (
        ("buffer.policy", "{}", str),
        ("buffer.loss_ratio", "loss {}", percent),
        ("buffer.reserved_mb_s", "reserved {} MB·s", short),
        ("buffer.mean_limit_bytes", "mean limit {}", megabytes),
        ("buffer.resizes", "{}", lambda value: many(value, "resize")),
        ("buffer.deflected_packets", "{} deflected", count),
        ("buffer.marked_packets", "{} marked", count),
        ("buffer.wasted_expansions", "{} in vain", lambda value: many(value, "expansion")),
    )
    return _joined(summary, parts, "not measured")


def _tcp(summary: Summary) -> str:
    parts = (
        ("tcp.streams", "{}", lambda value: many(value, "connection")),
        ("tcp.goodput_bps", "{} Mbit/s", lambda value: short(value / 1e6)),
        ("tcp.retransmitted_packets", "{} segments sent again", count),
        ("tcp.rtt_ms.p50", "round trip p50 {}", milliseconds),
        ("tcp.rtt_ms.p99", "p99 {}", milliseconds),
        ("tcp.queueing_ms.p50", "of it {} in queues", milliseconds),
    )
    return "; ".join([_joined(summary, parts, "not measured"), *_tcp_sources(summary)])


def _tcp_sources(summary: Summary) -> list[str]:
    return [f"{source['name']} ({source['congestion']}): {tcp_figures(source)}" for source in summary["tcp"]["sources"]]


def _prediction(summary: Summary) -> str:
    parts = (
        ("prediction.bursts", "{}", lambda value: many(value, "burst")),
        ("prediction.recall", "{} announced", percent),
        ("prediction.lead_ms.p50", "lead {} at the median", milliseconds),
        ("prediction.precision", "{} of the alarms right", percent),
        ("prediction.false_alarms_per_min", "{} false a minute", short),
    )
    return _joined(summary, parts, "none: the buffer policy does not predict")


def _balancer(summary: Summary) -> str:
    parts = (
        ("balancer.policy", "{}", str),
        ("balancer.max_over_mean_load", "busiest node {} × the mean", lambda value: f"{value:.3f}"),
        ("balancer.broken_flows", "{}", lambda value: many(value, "broken flow")),
        ("balancer.packet_ins", "{}", lambda value: many(value, "packet-in")),
        ("balancer.first_packet_ms.p99", "first packets p99 {}", milliseconds),
        ("balancer.decision_us.p99", "decision p99 {}", microseconds),
        ("control_loop_us.p99", "agent loop p99 {}", microseconds),
    )
    return _joined(summary, parts, "none")


def _expectations(summary: Summary) -> str:
    results = summary.get("expectations", [])
    if not results:
        return "none"
    failed = [result for result in results if not result["passed"]]
    text = f"{len(results) - len(failed)} of {len(results)} hold"
    return text + "".join(f"; not `{result['text']}`: {_measured(result)}" for result in failed)


def _measured(result: Summary) -> str:
    value = result["value"]
    return str(result.get("reason", "not measured")) if value is None else f"it is {value:g}"
