"""The reference page of the metrics for Prometheus, made from their rows: ``make reference`` writes it.

python -m testbed.openmetrics.reference > docs/reference/openmetrics.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from testbed.openmetrics.families import BUCKETS_S, EVENT_FAMILIES, RUN_LABELS, SAMPLE_FAMILIES, EventFamily, Fold

_HEAD = f"""\
<!-- made by `make reference` from the rows in testbed/openmetrics/families.py; do not edit -->

# Metrics for Prometheus

`run --metrics ADDRESS` serves these while a trial runs; `export RUN --openmetrics` writes those of a finished run with
a time at each point. Every series has the labels {", ".join(f"`{name}`" for name in RUN_LABELS)}. A counter has
`_total` behind its name, a histogram `_bucket`, `_count` and `_sum`; its upper bounds are
{", ".join(f"{bound:g}" for bound in BUCKETS_S)} s and infinity.

| metric | type | further labels | only | meaning |
|---|---|---|---|---|
| `testbed_build_info` | info | `version` |  | Version of the testbed. |
| `testbed_run_info` | info | `engine`, `balancer`, `seed` | live | What is being run. |
| `testbed_run_time_seconds` | gauge |  | live | Time of the last sample on the run's clock. |
| `testbed_run_planned_seconds` | gauge |  | live | How long traffic is planned to last. |
| `testbed_scrape_cpu_seconds` | counter |  | live | Processor time that answering scrapes took. |
| `testbed_node_delay_seconds` | histogram | `node` | export | One-way delay from client to sink, at the end. |
| `testbed_verdict_check` | gauge | `check`, `verdict` | export | Checks of the verdict; the value is always 1. |"""


def page() -> str:
    """Return the page, as Markdown."""
    return "\n".join([_HEAD, *_rows(), ""])


def _rows() -> Iterator[str]:
    for sampled in SAMPLE_FAMILIES:
        source = "cumulative " if sampled.fold is Fold.RUNNING else ""
        yield _row(sampled.name, sampled.kind, "node", f"{sampled.doc} From the {source}column `{sampled.column}`.")
    for counted in EVENT_FAMILIES:
        yield _row(counted.name, counted.kind, counted.label, f"{counted.doc} {_source(counted)}")


def _source(family: EventFamily) -> str:
    return f"From the records {', '.join(f'`{kind}`' for kind in family.records)}." if family.records else ""


def _row(name: str, kind: str, label: str, doc: str) -> str:
    return f"| `{name}` | {kind} | {f'`{label}`' if label else ''} |  | {doc.strip()} |"


if __name__ == "__main__":
    sys.stdout.write(page())
