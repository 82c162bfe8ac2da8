"""Which forecaster is better over many series: mean ranks, and tests of each against the LSTM.

For a horizon, every series gives each forecaster a rank by its pinball loss (1 is the lowest, ties share).  The mean
ranks order them, as in a critical-difference diagram.  Whether a rival really differs from the LSTM is a Wilcoxon
signed-rank test over the series (two-sided, of the logarithms of the two losses, so that a busy series weighs no more
than a quiet one), with Holm's correction over the rivals: at level 5 %, `better` and `worse` say how the LSTM does, and
`not significant` that the series do not tell.  Fewer than `LEAST_SERIES` series can tell nothing: the smallest p-value
of n is 2 / 2^n.

Over many series there are two more figures.  Friedman's test says whether the forecasters differ at all.  Two of k
forecasters whose mean ranks over N series lie within the critical difference of Nemenyi's test,
``q sqrt(k (k + 1) / 6 N)`` with q of the studentised range divided by the root of two, are not told apart by their
ranks; they share a letter.  This compares all pairs and is the coarser test; the signs are of the pairwise one.

Source: J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006 (ranks, and tests
against one); A. Benavoli, G. Corani, F. Mangili, "Should we really use post-hoc tests based on mean-ranks?", JMLR 17,
2016 (why the tests are pairwise); S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from testbed.records.events import Floats

LEVEL = 0.05
LEAST_SERIES = 6
LEAST_LOSS = 1e-9  # intervals; a series that asks for nothing has no loss to take the logarithm of


def ranking(losses: Mapping[str, Floats], own: str) -> list[dict[str, Any]]:
    """Return a row for each forecaster, best mean rank first.

    Args:
        losses: by forecaster, the loss of each series, [series].
        own: the one that the others are tested against.
    """
    names = list(losses)
    ranks = _ranks(np.stack([losses[name] for name in names]))
    rivals = [name for name in names if name != own]
    p_values = dict(zip(rivals, holm([_p_value(losses[name], losses[own]) for name in rivals]), strict=True))
    rows = [
        {
            "name": name,
            "mean_rank": float(ranks[index].mean()),
            "won_by_own": None if name == own else float((losses[own] < losses[name]).mean()),
            "p_holm": p_values.get(name),
            "own_is": None if name == own else _finding(losses[name], losses[own], p_values[name]),
        }
        for index, name in enumerate(names)
    ]
    return sorted(rows, key=lambda row: (float(row["mean_rank"]), str(row["name"])))


def over_many(losses: Mapping[str, Floats], own: str) -> dict[str, Any]:
    """Return the ranking over many series, with Friedman's test, the critical difference and the groups by letter.

    Args:
        losses: as for `ranking`.
        own: as for `ranking`.
    """
    rows, series = ranking(losses, own), len(losses[own])
    known = series >= LEAST_SERIES and len(losses) > 2
    difference = _critical_difference(len(losses), series) if known else None
    if difference is not None:
        letters = _letters([float(row["mean_rank"]) for row in rows], difference)
        rows = [{**row, "group": letter} for row, letter in zip(rows, letters, strict=True)]
    return {
        "series": series,
        "friedman_p": _friedman(losses) if known else None,
        "critical_difference": difference,
        "ranking": rows,
    }


def _critical_difference(count: int, series: int) -> float:
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(1 - LEVEL, count, np.inf)) / math.sqrt(2)
    return quantile * math.sqrt(count * (count + 1) / (6 * series))


def _friedman(losses: Mapping[str, Floats]) -> float | None:
    from scipy.stats import friedmanchisquare

    if not np.ptp(np.stack(list(losses.values())), axis=0).any():
        return None  # all tie in every series
    return float(friedmanchisquare(*losses.values()).pvalue)


def _letters(ranks: Sequence[float], difference: float) -> list[str]:
    """Return for each of the ascending ranks the letters of the largest groups, within `difference`, that it is in."""
    ends = [max(i for i, rank in enumerate(ranks) if rank - first <= difference) for first in ranks]
    groups = [(start, end) for start, end in enumerate(ends) if start == 0 or end > ends[start - 1]]
    names = "abcdefghijklmnopqrstuvwxyz"
    return [
        "".join(names[number] for number, (start, end) in enumerate(groups) if start <= index <= end)
        for index in range(len(ranks))
    ]


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return the p-values after Holm's correction; what was not tested (None) takes no part."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for place, (p, index) in enumerate(known):
        highest = max(highest, min(1.0, (len(known) - place) * p))
        corrected[index] = highest
    return corrected


def _ranks(losses: Floats) -> Floats:
    """Return the rank of each row within each column; equal values share the mean of their ranks."""
    below = (losses[None] < losses[:, None]).sum(axis=1)
    equal = (losses[None] == losses[:, None]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2)


def _apart(rival: Floats, own: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(rival, LEAST_LOSS)) - np.log(np.maximum(own, LEAST_LOSS)))


def _p_value(rival: Floats, own: Floats) -> float | None:
    from scipy.stats import wilcoxon

    apart = _apart(rival, own)
    if np.count_nonzero(apart) < LEAST_SERIES:
        return None
    return float(wilcoxon(apart, zero_method="wilcox").pvalue)


def _finding(rival: Floats, own: Floats, p_holm: float | None) -> str:
    if p_holm is None:
        return "too few series"
    if p_holm >= LEVEL:
        return "not significant"
    return "better" if float(np.median(_apart(rival, own))) > 0 else "worse"
