"""The scores of a model, computed by the runtime that ships it: forecast, onset and closed loop.

Everything is plain JSON data, so that manifest and card show one and the same set of figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from testbed.forecaster.data.dataset import Dataset, Samples
from testbed.forecaster.data.generate import TrafficProfile, generate
from testbed.forecaster.evaluation import metrics
from testbed.forecaster.evaluation.closed_loop import compare_policies
from testbed.forecaster.evaluation.rivals import RIVALS, rival_needs
from testbed.forecaster.runtime.artefact import Model
from testbed.forecaster.runtime.cell import run_series
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, LOOK_AHEAD
from testbed.forecaster.runtime.lstm import WARM_UP_SAMPLES
from testbed.policies import fluid
from testbed.records.events import Floats

ANNOUNCED_STRENGTH = 0.3  # a precursor below this is too faint to be asked for
_LOOP_STREAM = 3
_LOOP_NODES, _LOOP_MS = 32, 20_000


def loop_profile(rate_bps: float, announced: bool) -> TrafficProfile:
    """Return the traffic of the closed-loop table: a cluster of three, bursts of 2-6 times a node's rate.

    Args:
        rate_bps: service rate of a node.
        announced: whether ramps of strength 0.2 to 1, 50-100 ms long, precede the bursts.
    """
    return TrafficProfile(
        rate_bps=(rate_bps, rate_bps),
        packet_bytes=(1000.0, 1000.0),
        base_ratio=(0.3, 0.6),
        peak_ratio=(2.0, 6.0),
        on_ms=(60.0, 200.0),
        off_ms=(400.0, 2000.0),
        lead_ms=(50.0, 100.0),
        strength=(0.2, 1.0),
        precursor_share=1.0 if announced else 0.0,
        false_ramp_share=0.25 if announced else 0.0,
        sources=(1, 1),
        nodes=(3, 3),
        burst_flows=(20, 20),
    )


# (rate in bit/s, precursors, actuation delay in ms)
_LOOPS = (
    *((rate, True, delay) for rate in (4e7, 1e8) for delay in (0, 10, 50, 100)),
    *((rate, False, delay) for rate in (4e7, 1e8) for delay in (0, 50)),
)


def score(model: Model, validation: Mapping[str, Sequence[Dataset]], seed: int) -> dict[str, Any]:
    """Return all scores: ``forecast`` by data set and horizon, and ``closed_loop`` rows.

    Args:
        model: as shipped.
        validation: data sets by name; each a list of parts.
        seed: names the traffic of the closed loop.
    """
    forecast = {name: forecast_scores(model, parts) for name, parts in validation.items()}
    return {"forecast": forecast, "closed_loop": [_loop(model, seed, *case) for case in _LOOPS]}


def forecast_scores(model: Model, parts: Sequence[Dataset]) -> list[dict[str, Any]]:
    """Return one row of scores for each horizon; losses are in units of rate x interval, per sample and series."""
    predictions = [run_series(model, part.inputs) for part in parts]
    truth = [_late(np.expm1(part.growth)) for part in parts]
    guesses = {"": [_late(np.expm1(growth)) for growth, _ in predictions]}
    guesses |= {name: [_rival_growth(name, part.samples) for part in parts] for name in RIVALS}
    rows = []
    for index, horizon in enumerate(HORIZON_SAMPLES):
        losses = {name: _losses(truth, guess, index, model.quantile) for name, guess in guesses.items()}
        row: dict[str, Any] = {"horizon_samples": float(horizon), "pinball": float(losses[""].mean())}
        row["coverage"] = _coverage(truth, guesses[""], index)
        row |= {f"skill over {name}": metrics.skill(losses[""], losses[name]) for name in RIVALS}
        rows.append({**row, **_onset_scores(parts, [logits for _, logits in predictions], index)})
    return rows


def _late(array: Any) -> Any:
    """Return the samples after the warm-up."""
    return array[:, WARM_UP_SAMPLES:]


def _rival_growth(name: str, samples: Samples) -> Floats:
    """Return the growth a rival predicts, in units of rate x interval, [S, T, horizons]."""
    unit = fluid.service_bytes(samples.rate_bps, samples.interval_ns)
    growth = (rival_needs(name, samples) - samples.backlog_bytes[:, :, None]) / unit[:, None, None]
    return np.asarray(growth[:, WARM_UP_SAMPLES:-LOOK_AHEAD])


def _losses(truths: Sequence[Any], guesses: Sequence[Any], index: int, quantile: float) -> Floats:
    pairs = zip(truths, guesses, strict=True)
    return np.concatenate([metrics.pinball_losses(t[:, :, index], g[:, :, index], quantile) for t, g in pairs])


def _coverage(truths: Sequence[Any], guesses: Sequence[Any], index: int) -> float:
    shares = [metrics.coverage(t[:, :, index], g[:, :, index]) for t, g in zip(truths, guesses, strict=True)]
    return float(np.average(shares, weights=[truth.size for truth in truths]))


def _onset_scores(parts: Sequence[Dataset], logits: Sequence[Any], index: int) -> dict[str, Any]:
    areas, strengths, prevalence = [], [], []
    for part, logit in zip(parts, logits, strict=True):
        onset, calm = _late(part.onset)[:, :, index], _late(part.calm)
        areas.append(metrics.series_auc(onset, _late(logit)[:, :, index], calm))
        strengths.append(part.strength)
        prevalence.append(onset[calm])
    area, strength = np.concatenate(areas), np.concatenate(strengths)
    groups = {"all": np.isfinite(area), "announced": strength >= ANNOUNCED_STRENGTH, "unannounced": strength == 0}
    scores = {f"onset AUC, {name}": _mean(area[chosen]) for name, chosen in groups.items()}
    return {**scores, "onset prevalence": _mean(np.concatenate(prevalence).astype(np.float64))}


def _mean(values: Floats) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def _loop(model: Model, seed: int, rate_bps: float, announced: bool, actuation_ms: int) -> dict[str, Any]:
    traffic = generate(loop_profile(rate_bps, announced), _LOOP_NODES, _LOOP_MS, (seed, _LOOP_STREAM, int(announced)))
    results = compare_policies(traffic, model, actuation_ms)
    return {
        "rate_mbit": rate_bps / 1e6,
        "announced": announced,
        "actuation_ms": actuation_ms,
        "policies": {
            name: {"loss_ratio": result.loss_ratio, "reserved_mb": result.mean_limit_bytes / 1e6}
            for name, result in results.items()
        },
    }
