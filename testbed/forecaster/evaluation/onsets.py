"""Was the burst announced?  Alarms against onsets, within each series.

At every sample outside a burst a forecaster has a score; an *alarm* is a stretch of such samples whose score reaches
the threshold.  The threshold is the one with the best F1 on the first part of the series (all series together); it is
then held on the part that is judged.

* An alarm is *true* when a burst starts while it lasts or within the longest horizon of its beginning, else *false*.
* An onset is *warned* when an alarm is in force at the sample before it.  The *lead* runs from the beginning of that
  alarm, at most the longest horizon; it is *useful* when it leaves time for the loop and the actuation.
* PR-AUC (`metrics.average_precision`) is taken over the samples outside bursts, to be read beside the prevalence: an
  alarm at random has just that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from testbed.forecaster.data.targets import Bools
from testbed.forecaster.runtime.horizons import LOOK_AHEAD
from testbed.records.events import Floats

_MAX_THRESHOLDS = 512


@dataclass
class AlarmCount:
    """What alarms and onsets came to, added up over series; leads in samples."""

    onsets: int = 0
    warned: int = 0
    alarms: int = 0
    true_alarms: int = 0
    calm_samples: int = 0
    leads: list[int] = field(default_factory=list)

    def useful(self, least: int) -> int:
        """Return how many onsets were warned at least so many samples ahead."""
        return sum(lead >= least for lead in self.leads)


def best_threshold(positive: Bools, score: Floats) -> float | None:
    """Return the score with the best F1; None without a positive or without a negative."""
    hits = int(positive.sum())
    if hits in (0, len(positive)):
        return None
    candidates = np.unique(np.quantile(score, np.linspace(0, 1, _MAX_THRESHOLDS)))
    order = np.argsort(score)
    below = np.searchsorted(score[order], candidates)
    found = hits - np.concatenate(([0], np.cumsum(positive[order])))[below]
    f1 = 2 * found / (len(score) - below + hits)
    return float(candidates[int(np.argmax(f1))])


def count_alarms(score: Floats, calm: Bools, starts: Bools, threshold: float, begin: int, total: AlarmCount) -> None:
    """Add a series to `total`.

    Args:
        score: of every sample, [T].
        calm: outside bursts, [T].
        starts: a burst starts, [T or more].
        threshold: of an alarm.
        begin: first judged sample.
        total: to add to.
    """
    alarm = (score >= threshold) & calm
    alarm[:begin] = False
    edges = np.diff(alarm.astype(np.int8), prepend=0, append=0)
    rises, falls = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    ahead = np.concatenate(([0], np.cumsum(starts)))
    ends = np.minimum(np.maximum(falls, rises + LOOK_AHEAD), len(starts) - 1) + 1
    total.alarms += len(rises)
    total.true_alarms += int(np.count_nonzero(ahead[ends] > ahead[rises]))
    total.calm_samples += int(calm[begin:].sum())
    onsets = np.flatnonzero(starts[: len(score)])
    onsets = onsets[onsets > begin]
    total.onsets += len(onsets)
    warned = onsets[alarm[onsets - 1]] if len(onsets) else onsets
    total.warned += len(warned)
    began = rises[np.searchsorted(rises, warned - 1, side="right") - 1] if len(warned) else warned
    total.leads += np.minimum(warned - began, LOOK_AHEAD).tolist()


def lag_of(predicted: Floats, truth: Floats, most: int) -> int | None:
    """Return by how many samples `predicted` [T] is behind `truth` [T]: the shift that correlates best, 0 is in time.

    None where either does not vary or the series is too short.
    """
    if len(truth) < 4 * most:
        return None
    middle = slice(most, len(truth) - most)
    window = predicted[middle]
    best, found = -np.inf, None
    for lag in range(-most, most + 1):
        shifted = truth[most - lag : len(truth) - most - lag]
        spread = float(np.std(window) * np.std(shifted))
        if spread <= 1e-9:
            return None
        correlation = float(np.mean((window - window.mean()) * (shifted - shifted.mean()))) / spread
        if correlation > best + 1e-12:
            best, found = correlation, lag
    return found


def quartiles(values: Sequence[float]) -> list[float] | None:
    """Return the 10, 25, 50, 75 and 90 % points; None of nothing."""
    return [float(value) for value in np.quantile(values, (0.1, 0.25, 0.5, 0.75, 0.9))] if len(values) else None
