"""Ablations as a table in Markdown: for the terminal, and as a section of the model card."""

from __future__ import annotations

from typing import Any

from testbed.forecaster.evaluation.text import table

_LEVEL = 0.05
_NOTE = """\
Means over the seeds; in brackets the difference to the complete buffer with its 95 % interval (pairs of the same seed,
Student t).  \\* : significant at 5 % after Holm's correction over all differences of the table.  The packets of a seed
are the same in all rows.  *no gate*: every forecast counts; *no precursors*: `precursor_gain` 0, so that only the
forecast raises a limit; *no precursors of peers*: only the node's own."""


def as_markdown(document: dict[str, Any]) -> str:
    """Return the document of `trials.ablations.ablated` as Markdown."""
    head = (
        f"`{document['scenario']}` in the simulation, {document['seeds']} seeds.  "
        f"Made by `python -m testbed evaluate --ablations {document['scenario']}`."
    )
    body = [
        (row["part"], *(_cell(index, mean, row) for index, mean in enumerate(row["means"])))
        for row in document["parts"]
    ]
    return "\n\n".join((head, table(("without", *document["figures"]), body), _NOTE))


def _cell(index: int, mean: float, row: dict[str, Any]) -> str:
    if not row["differences"]:
        return f"{mean:.3g}"
    found = row["differences"][index]
    if found["half_width"] is None:
        return f"{mean:.3g}"
    sign = r" \*" if found["p_holm"] is not None and found["p_holm"] < _LEVEL else ""
    return f"{mean:.3g} ({found['mean']:+.2g} ± {found['half_width']:.2g}{sign})"
