"""A ranking over many series as tables in Markdown: for the terminal, and as a section of the model card."""

from __future__ import annotations

from typing import Any

from testbed.forecaster.evaluation.text import SIGNS, table

_NOTE = """\
*mean rank*: of the pinball loss within each series, 1 is best; in *all* of the geometric mean over the horizons.
+ : the LSTM is better than this one, − : worse, = : not significant (Wilcoxon's signed-rank test over the series,
Holm's correction over the rivals, 5 %), ? : too few series.  *won*: share of the series in which the LSTM has the lower
loss.  Forecasters that share a letter do not differ by more than the critical difference (Nemenyi, 5 %).
*trained …*: fitted to the training series of the LSTM and tuned on its validation series (`train --rivals`); they know
as little of these streams as the LSTM.  The others but *last value* were fitted and tuned on the first 40 % of the very
series; all are judged on the rest."""


def as_markdown(document: dict[str, Any]) -> str:
    """Return the document of `many.rank` as Markdown."""
    over, sets = document["over_horizons"], document["sets"]
    head = (
        f"Model `{document['model_sha256'][:12]}…`, {over['series']} series in {len(sets)} sets, samples of "
        f"{document['interval_ms']} ms.  Made by `{document['command']}`."
    )
    notes = "\n".join(f"- {line}" for line in (*document["traces"], *map(_left_out, filter(_short, sets))))
    return "\n\n".join(part for part in (head, notes, _pooled(document), _test(over), _sets(document), _NOTE) if part)


def _short(one: dict[str, Any]) -> bool:
    return bool(one["left_out"])


def _left_out(one: dict[str, Any]) -> str:
    total = one["series"] + one["left_out"]
    return f"{one['name']}: {one['left_out']} of {total} series are left out: silent, or too short to judge"


def _test(over: dict[str, Any]) -> str:
    if over["critical_difference"] is None:
        return "There are too few series for a critical difference."
    p_value = "–" if over["friedman_p"] is None else f"{over['friedman_p']:.2g}"
    return f"Critical difference of mean ranks: {over['critical_difference']:.2f}; Friedman's test: p = {p_value}."


def _pooled(document: dict[str, Any]) -> str:
    horizons, over = document["by_horizon"], document["over_horizons"]
    cells = [{row["name"]: row for row in one["ranking"]} for one in horizons]
    times = (f"{one['horizon_samples'] * document['interval_ms']} ms" for one in horizons)
    body = [
        (
            row["name"],
            *(_cell(found[row["name"]]) for found in cells),
            _cell(row),
            row.get("group", ""),
            "" if row["won_by_own"] is None else f"{row['won_by_own']:.0%}",
        )
        for row in over["ranking"]
    ]
    return table(("mean rank, all series", *times, "all", "group", "won"), body)


def _sets(document: dict[str, Any]) -> str:
    cells = [{row["name"]: row for row in one["ranking"]} for one in document["sets"]]
    head = ("mean rank by set, all horizons", *(f"{one['name']} ({one['series']})" for one in document["sets"]))
    names = [row["name"] for row in document["over_horizons"]["ranking"]]
    return table(head, [(name, *(_cell(found[name]) for found in cells)) for name in names])


def _cell(row: dict[str, Any]) -> str:
    return f"{row['mean_rank']:.1f} {SIGNS[row['own_is']]}".rstrip()
