"""Which forecaster is better over many series: mean ranks, and tests of each against the LSTM.

For a horizon, every series gives each forecaster a rank by its pinball loss (1 is the lowest, ties share).  The mean
ranks order them, as in a critical-difference diagram.  Whether a rival really differs from the LSTM is a Wilcoxon
signed-rank test over the series (two-sided, of the logarithms of the two losses, so that a busy series weighs no more
than a quiet one), with Holm's correction over the rivals: at level 5 %, `better` and `worse` say how the LSTM does, and
`not significant` that the series do not tell.  Fewer than `LEAST_SERIES` series can tell nothing: the smallest p-value
of n is 2 / 2^n.

Source: J. Demšar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006 (ranks, and tests
against one); A. Benavoli, G. Corani, F. Mangili, "Should we really use post-hoc tests based on mean-ranks?", JMLR 17,
2016 (why the tests are pairwise); S. Holm, "A simple sequentially rejective multiple test procedure", 1979.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from testbed.records.events import Floats

LEVEL = 0.05
LEAST_SERIES = 6
_LEAST_LOSS = 1e-9  # intervals; a series that asks for nothing has no loss to take the logarithm of


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
    return np.asarray(np.log(np.maximum(rival, _LEAST_LOSS)) - np.log(np.maximum(own, _LEAST_LOSS)))


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
