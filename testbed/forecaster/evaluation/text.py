"""An evaluation as tables in Markdown: for the terminal, and as a section of the model card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from testbed.errors import InputError
from testbed.files import writing
from testbed.files.reading import Source
from testbed.forecaster.evaluation.trained_rivals import PREFIX

EVALUATION = "evaluation"
BEGIN, END = f"<!-- {EVALUATION}: begin -->", f"<!-- {EVALUATION}: end -->"
_BEFORE = "## Limits"
_MOST_SERIES = 12
_MAX_CARD_BYTES = 10**6

_NOTE = """\
*skill* is 1 − loss / loss of the rival (above 0: the model is better), in brackets the 95 % bootstrap interval over
series (over ten blocks of time where there are fewer than three series).  last value: the queue stays as it is;
constant, AR, linear and trees were fitted, EWMA and Holt tuned, on the first 40 % of the very series they are judged
on, which the model never saw; each had as many settings to choose from (`fitted_rivals.py`).  *trained …*: fitted to
the training series of the model and tuned on its validation series (`train --rivals`).  *mean rank*: of the pinball
loss, 1 is best; + : the LSTM is better than this one, − : worse, = : not significant (Wilcoxon's signed-rank test over
the series, Holm's correction over the rivals, 5 %), ? : too few series.
*coverage*: share of instants at which the peak stayed at or below the predicted quantile;
*weighty*: the same, over predictions above 0.25 × rate × interval, since near-zero predictions hold trivially in idle
times.  *corrected*: recalibrated online (`policies/forecast_corrected.py`); the *skill of the correction* is that over
the LSTM as it is; *gated*: with `policies/forecast_gated.py`, as in a run.
*AUC*: mean over series, instants outside bursts; *AUC of a perfect precursor detector*: that of one who knows
exactly while a precursor is in progress and at no other time.  *late by*: median delay of the forecast behind the true
peak, in samples (the shift at which the two correlate best); negative: ahead.  Loss is compared at the mean memory
of the LSTM at the margin given, each policy at the settings of its own that lose least with that much; memory in ms
of link time; at the cap nothing is lost, so all loss is the policy's.  *p99 at most*: each policy at the setting that
loses least with no more memory and no higher p99 delay than the LSTM at that margin (– : it has none)."""


def as_markdown(document: dict[str, Any]) -> str:
    """Return the document of `evaluate` as Markdown."""
    head = (
        f"Model `{document['model_sha256'][:12]}…`, quantile {document['quantile']:g}, samples of "
        f"{document['interval_ms']} ms, actuation {document['actuation_ms']} ms, times stretched by "
        f"{document['stretch']:g}; rate: {document['rate']}.  Made by `{document['command']}`."
    )
    if document["traces"]:
        head += "\n\n" + "\n".join(f"- {line}" for line in document["traces"])
    return "\n\n".join([head, *(part for one in document["sets"] for part in _set(one)), _NOTE])


def write_section(card: Path, document: dict[str, Any]) -> None:
    """Put the tables of `document` into the model card at `card`, in place of those that are there.

    Raises:
        InputError: when the card cannot be read or has no place for them.
    """
    write_part(card, EVALUATION, "Against rivals, on traces", document["model_sha256"], as_markdown(document))


def write_part(card: Path, name: str, title: str, model_sha256: str, tables: str) -> None:
    """Put tables into the model card at `card`, in place of those of the section `name` that are there.

    Args:
        card: of the model.
        name: of the section, in the marks around it.
        title: its heading.
        model_sha256: of the model that the tables are about.
        tables: Markdown.

    Raises:
        InputError: when the card cannot be read, has no place for them or is that of another model.
    """
    attempted, begin, end = f"writing tables into {card}", f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    source = Source(card, "give the MODEL.md that `train` wrote", attempted)
    try:
        text = source.read(_MAX_CARD_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise source.refusal(f"it is not UTF-8 text (byte {error.start})") from error
    if model_sha256 not in text:
        raise InputError(
            attempted, "it is the card of another model", "give the card that `train` wrote with this model"
        )
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2] if rest else ""
    if not rest:
        before, found, after = text.partition(_BEFORE)
        if not found:
            raise InputError(attempted, f"it has no {_BEFORE!r}", "give the MODEL.md that `train` wrote")
        after = "\n\n" + found + after
    section = f"{begin}\n### {title}\n\n{tables}\n\n{end}"
    writing.replace(card, before + section + after)


def _set(judged: dict[str, Any]) -> Iterable[str]:
    series = judged["series"]
    seconds = sum(one["seconds"] for one in series)
    bursts = sum(one["bursts"] for one in series)
    yield f"#### {judged['name']}: {len(series)} series, {seconds:,.0f} s, {bursts:,} bursts"
    yield from (f"- {note}" for note in judged["notes"])
    yield from _skills(judged["forecast"])
    yield _ranking(judged["forecast"])
    yield _promises(judged["forecast"])
    yield _alarms(judged["alarms"])
    yield _lags(judged["lag_samples"])
    yield _loop(judged["closed_loop"])
    if 1 < len(series) <= _MOST_SERIES:
        yield _each(series)


def _skills(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Yield a table of the rivals fitted to the stream, and one of those fitted to the training series, if any."""
    names = list(rows[0]["skill_over"])
    trained = [name for name in names if name.startswith(PREFIX)]
    for rivals in ([name for name in names if name not in trained], trained):
        if rivals:
            yield _skill(rows, rivals)


def _skill(rows: Sequence[dict[str, Any]], rivals: Sequence[str]) -> str:
    head = ("horizon", "pinball", *(f"skill over {name}" for name in rivals))
    body = [
        (
            f"{row['horizon_ms']} ms",
            _number(row["pinball"]["LSTM"]),
            *(_sure(row["skill_over"][name]) for name in rivals),
        )
        for row in rows
    ]
    return table(head, body)


SIGNS = {"better": "+", "worse": "−", "not significant": "=", "too few series": "?", None: ""}


def _ranking(rows: Sequence[dict[str, Any]]) -> str:
    """Return mean ranks by horizon, and how the LSTM does against each forecaster; best over all horizons first."""
    cells: dict[str, list[tuple[float, str]]] = {name: [] for name in (one["name"] for one in rows[0]["ranking"])}
    for row in rows:
        for one in row["ranking"]:
            cells[one["name"]].append((one["mean_rank"], SIGNS[one["own_is"]]))
    ordered = sorted(cells.items(), key=lambda item: sum(rank for rank, _ in item[1]))
    head = ("mean rank over the series", *(f"{row['horizon_ms']} ms" for row in rows))
    return table(head, [(name, *(f"{rank:.1f} {sign}".rstrip() for rank, sign in found)) for name, found in ordered])


def _promises(rows: Sequence[dict[str, Any]]) -> str:
    names = list(rows[0]["coverage"])
    rivals = [name for name in rows[0]["onset"]["auc"] if name != "LSTM"]
    head = (
        *("horizon", *(f"coverage, {name}" for name in names), "weighty", "skill of the correction", "pinball gated"),
        *("AUC", "AUC of a perfect precursor detector", "best rival's AUC", "PR-AUC", "prevalence"),
    )
    return table(head, [_promise(row, names, rivals) for row in rows])


def _promise(row: dict[str, Any], names: Sequence[str], rivals: Sequence[str]) -> tuple[str, ...]:
    onset, coverage = row["onset"], row["coverage"]
    areas = {name: onset["auc"][name] for name in rivals if onset["auc"][name] is not None}
    best = max(areas, key=lambda name: float(areas[name]), default=None)
    return (
        f"{row['horizon_ms']} ms",
        *(_number(coverage[name]["all"]) for name in names),
        _number(coverage["LSTM"]["weighty"]),
        _sure(row["skill_of_correction"]),
        _number(row["pinball"]["LSTM gated"]),
        _sure({"skill": onset["auc"]["LSTM"], "ci": onset["auc_ci"]}),
        _number(onset["auc_of_who_sees_precursors"]),
        "–" if best is None else f"{_number(areas[best])} ({best})",
        _number(onset["pr_auc"]["LSTM"]),
        _number(onset["prevalence"]),
    )


def _alarms(alarms: dict[str, Any]) -> str:
    least = alarms["useful_lead_ms"]
    head = (
        *(f"alarms within {alarms['horizon_samples']} samples", "precision", "recall", f"recall ≥ {least} ms ahead"),
        *("false alarms per minute", "lead in ms: 10, 25, 50, 75, 90 %"),
    )
    body = [(name, *_alarm(row)) for name, row in alarms["by"].items() if row is not None]
    return table(head, body) if body else "No alarms: the first part of the series has no burst to set a threshold by."


def _alarm(row: dict[str, Any]) -> tuple[str, ...]:
    leads = row["lead_ms_p10_p25_p50_p75_p90"]
    figures = (row["precision"], row["recall"], row["useful_recall"], row["false_alarms_per_minute"])
    return (*map(_number, figures), "–" if leads is None else ", ".join(f"{lead:.0f}" for lead in leads))


def _lags(lags: dict[str, Any]) -> str:
    names = list(next(iter(lags.values())))
    body = [(f"{horizon} samples", *(_number(row[name], 1) for name in names)) for horizon, row in lags.items()]
    return table(("late by (samples), horizon", *names), body)


def _loop(loop: dict[str, Any]) -> str:
    names = list(loop["curves"])
    head = ("equal memory", "ms", *(f"loss %, {name}" for name in names), "LSTM / best rival")
    body = []
    for row in loop["equal_memory"]:
        ratio = (
            "–" if row["lstm_over_best_rival"] is None else f"{row['lstm_over_best_rival']:.2f} ({row['best_rival']})"
        )
        body.append((row["setting"], f"{row['reserved_ms']:.0f}", *_per_cent(row["loss_ratio"], names), ratio))
        within = f"{row['setting']}, p99 at most {row['delay_p99_ms']:.0f} ms"
        body.append((within, "", *_per_cent(row["loss_ratio_at_equal_delay"], names), ""))
    delays = ("at its default", "", *(_delay(points) for points in loop["curves"].values()), "")
    return table(head, [*body, delays])


def _per_cent(ratios: dict[str, float | None], names: Sequence[str]) -> Iterable[str]:
    return (_number(None if (ratio := ratios[name]) is None else 100 * ratio) for name in names)


def _delay(points: Sequence[dict[str, Any]]) -> str:
    usual = next((point for point in points if point["setting"] in ("margin 1.25", "shrink hold 200 ms")), points[-1])
    return f"p99 delay {usual['delay_p99_ms']:.0f} ms"


def _each(series: Sequence[dict[str, Any]]) -> str:
    head = ("series", "rate", "load", "bursts", "skill over last value by horizon", "over Holt")
    body = [
        (
            one["name"],
            f"{one['rate_bps'] / 1e6:.3g} Mbit/s",
            _number(one["load_ratio"], 2),
            one["bursts"],
            ", ".join(_number(skill, 2) for skill in one["skill_over_last_value"]),
            ", ".join(_number(skill, 2) for skill in one["skill_over_holt"]),
        )
        for one in series
    ]
    return table(head, body)


def _sure(figure: dict[str, Any]) -> str:
    if figure["skill"] is None or figure["ci"] is None:
        return _number(figure["skill"])
    return f"{figure['skill']:.2f} ({figure['ci'][0]:.2f} to {figure['ci'][1]:.2f})"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
