"""Was it announced in time?  Alarms of every forecaster against onsets, and by how much each prediction comes late."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.forecaster.evaluation import onsets
from testbed.forecaster.evaluation.config import EvaluateConfig
from testbed.forecaster.evaluation.forecasts import LAST_VALUE, LSTM, Growths, Scores
from testbed.forecaster.evaluation.rolling import Group
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, LOOK_AHEAD
from testbed.records.events import Floats


def alarms(groups: Sequence[Group], scores: Sequence[Scores], config: EvaluateConfig) -> dict[str, Any]:
    """Return how every forecaster warns, at the first horizon that leaves time for the loop and the actuation."""
    least = 1 + -(-config.actuation_ms // config.interval_ms)
    index = next((i for i, horizon in enumerate(HORIZON_SAMPLES) if horizon >= least), len(HORIZON_SAMPLES) - 1)
    rows = {name: _alarm_row(groups, said, index, least, config) for name, said in scores[index].items()}
    return {"horizon_samples": HORIZON_SAMPLES[index], "useful_lead_ms": least * config.interval_ms, "by": rows}


def _alarm_row(
    groups: Sequence[Group], said: Sequence[Floats], index: int, least: int, config: EvaluateConfig
) -> dict[str, Any] | None:
    fitted = [slice(group.first, max(group.first + 1, group.split - LOOK_AHEAD)) for group in groups]
    calm = [group.calm[:, part] for group, part in zip(groups, fitted, strict=True)]
    positive = [g.onset[:, part, index][mask] for g, part, mask in zip(groups, fitted, calm, strict=True)]
    score = [s[:, part][mask] for s, part, mask in zip(said, fitted, calm, strict=True)]
    threshold = onsets.best_threshold(np.concatenate(positive), np.concatenate(score))
    if threshold is None:
        return None
    total = onsets.AlarmCount()
    for group, scores in zip(groups, said, strict=True):
        for row, values in enumerate(scores):
            onsets.count_alarms(values, group.calm[row], group.starts[row], threshold, group.split, total)
    minutes = total.calm_samples * config.interval_ms / 60_000
    leads = onsets.quartiles([lead * float(config.interval_ms) for lead in total.leads])
    return {
        "threshold": threshold,
        "onsets": total.onsets,
        "precision": total.true_alarms / total.alarms if total.alarms else None,
        "recall": total.warned / total.onsets if total.onsets else None,
        "useful_recall": total.useful(least) / total.onsets if total.onsets else None,
        "false_alarms_per_minute": (total.alarms - total.true_alarms) / minutes if minutes else None,
        "lead_ms_p10_p25_p50_p75_p90": leads,
    }


def lags(groups: Sequence[Group], growths: Growths, index: int) -> dict[str, float | None]:
    """Return the median over series of how many samples each prediction of the need comes late."""
    return {
        name: _lag(groups, growths[name], index)
        for name in (LSTM, LAST_VALUE, "Holt", "linear", "trees")
        if name in growths
    }


def _lag(groups: Sequence[Group], said: Sequence[Floats], index: int) -> float | None:
    found = []
    for group, growth in zip(groups, said, strict=True):
        needs = np.log1p(group.backlog + group.growth[:, :, index])[:, group.split :]
        told = np.log1p(group.backlog + growth[:, :, index])[:, group.split :]
        lags = [onsets.lag_of(t, n, LOOK_AHEAD) for t, n in zip(told, needs, strict=True)]
        found += [lag for lag in lags if lag is not None]
    return float(np.median(found)) if found else None
