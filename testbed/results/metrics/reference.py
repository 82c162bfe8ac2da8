"""The reference page of the figures of a summary, made from their rows: ``make reference`` writes it.

python -m testbed.results.metrics.reference > docs/reference/metrics.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from testbed.results.metrics import METRICS, Metric

_HEAD = """\
<!-- made by `make reference` from the rows in testbed/results/metrics; do not edit -->

# Metrics

This page lists the metrics in `summary.json` by their dotted paths. `expect` uses the same paths
(`traffic.unaccounted_packets == 0`). A
section that does not apply to a run is absent, never filled with zeros. *Better* says whether lower or higher values
are better. *Column* is the name of the metric in the JSON tables of `compare` and `sweep`.
"""
_BETTER = {None: "", True: "lower", False: "higher"}


def page() -> str:
    """Return the page, as Markdown."""
    sections = dict.fromkeys(metric.section for metric in METRICS)
    return "\n".join([_HEAD, *(line for section in sections for line in _section(section))])


def _section(section: str) -> Iterator[str]:
    yield from (f"## {section}", "", "| path | unit | better | column | meaning |", "|---|---|---|---|---|")
    yield from (_line(metric) for metric in METRICS if metric.section == section)
    yield ""


def _line(metric: Metric) -> str:
    key = f"`{metric.key}`" if metric.key else ""
    unit = "text" if metric.unit == "name" else metric.unit
    return f"| `{metric.name}` | {unit} | {_BETTER[metric.lower_is_better]} | {key} | {metric.doc} |"


if __name__ == "__main__":
    sys.stdout.write(page())
