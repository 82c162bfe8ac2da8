"""The verdict of a run in ten lines of a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from testbed.report.key_figures import tcp_figures
from testbed.report.written import Summary, count, figure, in_line, written
from testbed.results.metrics import METRICS

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
        ("delay", _figures(summary, "Delay", "not measured")),
        ("buffer", ", ".join(_figures(summary, part, "not measured") for part in ("Buffer", "Objective"))),
        *([("tcp", _tcp(summary))] if "tcp" in summary else []),
        ("prediction", _figures(summary, "Prediction", "none: the buffer policy does not predict")),
        ("balancer", _figures(summary, "Control", "none")),
        *([("own", own)] if (own := _of_plug_ins(summary)) else []),
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
    reasons = list(summary["verdict_reasons"]) or [
        f"every check that applies to the {summary['engine']} passed; "
        "fidelity.json lists the checks made and those not applicable"
    ]
    more = len(reasons) - _MOST_REASONS
    shown = reasons[:_MOST_REASONS]
    if more > 0:
        shown[-1] += f" (and {more} more in fidelity.json)"
    return list(zip(("why", *[""] * len(shown)), shown, strict=False))


def _traffic(summary: Summary) -> str:
    traffic = summary["traffic"]
    dropped = sum(traffic["dropped_packets"].values())
    parts = f"{count(traffic['delivered_packets'])} delivered + {count(dropped)} dropped"
    parts += f" + {count(traffic['in_flight_packets'])} in flight"
    return f"{count(traffic['sent_packets'])} sent = {parts}; {count(traffic['unaccounted_packets'])} unaccounted"


def _losses(summary: Summary) -> str:
    return ", ".join(f"{place} {count(lost)}" for place, lost in summary["traffic"]["dropped_packets"].items())


def _figures(summary: Summary, section: str, absent: str) -> str:
    """Return every figure of a section that is there and has a part in its line, `absent` when there is none."""
    wanted = [metric for metric in METRICS if metric.section == section and metric.line]
    found = [in_line(metric, value) for metric in wanted if (value := figure(summary, metric.name)) is not None]
    return ", ".join(found) if found else absent


def _of_plug_ins(summary: Summary) -> str:
    """Return the figures of plug-ins that have no part in another line."""
    wanted = [metric for metric in METRICS if not METRICS.is_ours(metric.name) and not metric.line]
    found = ((metric, figure(summary, metric.name)) for metric in wanted)
    return ", ".join(f"{metric.label} {written(metric, value)}" for metric, value in found if value is not None)


def _tcp(summary: Summary) -> str:
    return "; ".join([_figures(summary, "TCP", "not measured"), *_tcp_sources(summary)])


def _tcp_sources(summary: Summary) -> list[str]:
    return [f"{source['name']} ({source['congestion']}): {tcp_figures(source)}" for source in summary["tcp"]["sources"]]


def _expectations(summary: Summary) -> str:
    results = summary.get("expectations", [])
    if not results:
        return "none"
    failed = [result for result in results if not result["passed"]]
    text = f"{len(results) - len(failed)} of {len(results)} hold"
    return text + "".join(f"; not `{result['text']}`: {measured(result)}" for result in failed)


def measured(result: Summary) -> str:
    """Return what an expectation that failed met."""
    value = result["value"]
    return str(result.get("reason", "not measured")) if value is None else f"it is {value:g}"
