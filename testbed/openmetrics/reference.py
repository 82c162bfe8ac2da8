"""The reference page of the metrics for Prometheus, made from their rows: ``make reference`` writes it.

python -m testbed.openmetrics.reference > docs/reference/openmetrics.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from testbed.openmetrics.families import BUCKETS_S, EVENT_FAMILIES, RUN_FAMILIES, SAMPLE_FAMILIES, EventFamily, Fold

_HEAD = f"""\
<!-- made by `make reference` from the rows in testbed/openmetrics/families.py; do not edit -->

# Metrics for Prometheus

`run --metrics ADDRESS` serves these metrics while a trial runs. `export RUN --openmetrics` writes the metrics of a
finished run, with a timestamp on every sample. Every time series has the labels `run`, `scenario` and `policy` (the
buffer policy). The exposed name of a counter ends with `_total`, that of an info with `_info`, and those of a histogram
with `_bucket`, `_count` and `_sum`. The upper bounds of the histogram buckets are
{", ".join(f"{bound:g}" for bound in BUCKETS_S)} s and infinity.

| metric | type | further labels | available only in | meaning |
|---|---|---|---|---|"""


def page() -> str:
    """Return the page, as Markdown."""
    return "\n".join([_HEAD, *_rows(), ""])


def _rows() -> Iterator[str]:
    for one in RUN_FAMILIES:
        yield _row(one.name, one.kind, "`, `".join(one.labels), one.doc, one.only)
    for sampled in SAMPLE_FAMILIES:
        source = "cumulative " if sampled.fold is Fold.RUNNING else ""
        yield _row(sampled.name, sampled.kind, "node", f"{sampled.doc} From the {source}column `{sampled.column}`.")
    for counted in EVENT_FAMILIES:
        yield _row(counted.name, counted.kind, counted.label, f"{counted.doc} {_source(counted)}")


def _source(family: EventFamily) -> str:
    return f"From the records {', '.join(f'`{kind.__name__}`' for kind in family.records)}." if family.records else ""


def _row(name: str, kind: str, labels: str, doc: str, only: str = "") -> str:
    return f"| `{name}` | {kind} | {f'`{labels}`' if labels else ''} | {only} | {doc.strip()} |"


if __name__ == "__main__":
    sys.stdout.write(page())
