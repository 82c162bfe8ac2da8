"""How far a combination of a sweep is from its baseline, seed by seed.

Runs of one seed met the same packets, so what two of them differ by is due to what was set, and most of what one seed
differs from another by cancels out.  For n seeds with differences d the mean of d has the interval of `confidence`,
with n - 1 degrees of freedom (the paired t test).  Compared with the two means and their intervals side by side that is
narrower by as much as the seeds make both go up and down together.

A family, over which Holm's correction is made (`differences`), is one figure and all combinations that are compared
with the baseline.  Who looks for *some* figure in which a combination is better has to correct over the figures, too.

Source: "Student" (W. S. Gosset), "The probable error of a mean", Biometrika 6, 1908, section 9 (the paired test); A. M.
Law, "Simulation modeling and analysis", 2015, section 10.2.1 (under common random numbers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from testbed.report.compare import Row
from testbed.report.figure_columns import figure_columns
from testbed.results.differences import Difference, difference, holm

if TYPE_CHECKING:
    from testbed.report.sweep_table import CombinationRow, TrialRow


def baseline_differences_of(
    parameters: Mapping[str, str], baseline: Mapping[str, str], trials: Sequence[TrialRow]
) -> dict[str, Difference | None]:
    """Return the mean difference of each figure of `figure_columns` from the baseline.

    Args:
        parameters: of the combination.
        baseline: the values of some parameters; the others of the baseline are those of the combination.
        trials: all runs that count.

    Returns:
        Estimates by figure, None where a run of a pair lacks the figure or another version made it; nothing for the
        baseline itself.
    """
    against = {**parameters, **baseline}
    if not baseline or against == parameters:
        return {}
    ours, theirs = _by_seed(parameters, trials), _by_seed(against, trials)
    both = [(ours[seed], theirs[seed]) for seed in ours if seed in theirs]
    if any(_carried_out(one) != _carried_out(other) for one, other in both):
        return dict.fromkeys(column.key for column in figure_columns())
    pairs = [(one.row, other.row) for one, other in both]
    return {column.key: _difference(column.key, pairs) for column in figure_columns()}


def corrected(rows: Sequence[CombinationRow]) -> tuple[CombinationRow, ...]:
    """Return the combinations with the p of their differences corrected, figure by figure."""
    p_holm: dict[tuple[int, str], float] = {}
    for column in figure_columns():
        family = {k: found.p for k, row in enumerate(rows) if (found := row.differences.get(column.key)) is not None}
        known = {k: p for k, p in family.items() if p is not None}
        p_holm |= {(k, column.key): p for k, p in zip(known, holm(list(known.values())), strict=True)}
    return tuple(
        replace(row, differences={key: _with_p(one, p_holm.get((k, key))) for key, one in row.differences.items()})
        for k, row in enumerate(rows)
    )


def _with_p(found: Difference | None, p_holm: float | None) -> Difference | None:
    return found if found is None or p_holm is None else replace(found, p_holm=p_holm)


def _by_seed(parameters: Mapping[str, str], trials: Sequence[TrialRow]) -> dict[int | None, TrialRow]:
    return {trial.row.seed: trial for trial in trials if trial.parameters == parameters}


def _carried_out(trial: TrialRow) -> dict[str, str]:
    """Return what carried a run out, but for the model, which follows the policy."""
    return {name: value for name, value in trial.origin.items() if name != "model"}


def _difference(name: str, pairs: Sequence[tuple[Row, Row]]) -> Difference | None:
    values = [(ours.value(name), theirs.value(name)) for ours, theirs in pairs]
    known = [ours - theirs for ours, theirs in values if ours is not None and theirs is not None]
    return difference(known) if len(known) == len(values) else None
