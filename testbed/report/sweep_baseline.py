"""How far a combination of a sweep is from its baseline, seed by seed.

Runs of one seed met the same packets, so what two of them differ by is due to what was set, and most of what one seed
differs from another by cancels out.  For n seeds with differences d the mean of d has the interval of `confidence`,
with n - 1 degrees of freedom (the paired t test).  Compared with the two means and their intervals side by side that is
narrower by as much as the seeds make both go up and down together.

Source: "Student" (W. S. Gosset), "The probable error of a mean", Biometrika 6, 1908, section 9 (the paired test); A. M.
Law, "Simulation modeling and analysis", 2015, section 10.2.1 (under common random numbers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from testbed.report.compare import FIGURES, Row
from testbed.results.confidence import Estimate, estimate

if TYPE_CHECKING:
    from testbed.report.sweep_table import TrialRow


def baseline_differences_of(
    parameters: Mapping[str, str], baseline: Mapping[str, str], trials: Sequence[TrialRow]
) -> dict[str, Estimate | None]:
    """Return the mean difference of each figure of `compare.FIGURES` from the baseline.

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
        return dict.fromkeys((*FIGURES, "gain_ratio"))
    pairs = [(one.row, other.row) for one, other in both]
    figures = {name: _difference(name, pairs) for name in FIGURES}
    return {**figures, "gain_ratio": _difference("gain_ratio", pairs)}


def _by_seed(parameters: Mapping[str, str], trials: Sequence[TrialRow]) -> dict[int | None, TrialRow]:
    return {trial.row.seed: trial for trial in trials if trial.parameters == parameters}


def _carried_out(trial: TrialRow) -> dict[str, str]:
    """Return what carried a run out, but for the model, which follows the policy."""
    return {name: value for name, value in trial.origin.items() if name != "model"}


def _difference(name: str, pairs: Sequence[tuple[Row, Row]]) -> Estimate | None:
    values = [(getattr(ours, name), getattr(theirs, name)) for ours, theirs in pairs]
    if any(value is None for pair in values for value in pair):
        return None
    return estimate([ours - theirs for ours, theirs in values])
