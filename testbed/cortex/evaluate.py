"""Judging a model on traces it never saw, beside rivals, as plain JSON data.

`evaluate` reads the series, scales them to one rate, walks through them (`rolling`), lets every forecaster speak, and
returns for each set of series: forecast losses, skill and coverage by horizon; alarms against onsets; the lag of the
prediction; and the closed loop at equal memory.  A file of several segments is a set of its own; files of one series
make up one set together.

Losses are pinball losses in units of rate × interval, the mean within each series, then over series with equal weight.
A figure that is not defined (no burst, nothing to predict, too few series for an interval) is absent: None, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from testbed.cortex import metrics, onsets
from testbed.cortex.arrivals import Series, at_rate, read_series, summed
from testbed.cortex.artefact import Model, load_model
from testbed.cortex.bootstrap import BLOCKS, block_means, mean_interval, ratio_interval
from testbed.cortex.cell import run_series
from testbed.cortex.fitted_rivals import fitted_rivals
from testbed.cortex.generate import TrafficProfile, generate
from testbed.cortex.pareto import MARGINS, REFERENCE_MARGIN, at_equal_memory, pareto_curves
from testbed.cortex.rivals import forecaster_needs, rival_needs
from testbed.cortex.rolling import LEAST_SAMPLES, Group, groups_of, needs_in_intervals, traffic_of
from testbed.cortex.runtime import LstmForecaster
from testbed.cortex.targets import HORIZON_SAMPLES, LOOK_AHEAD
from testbed.errors import InputError
from testbed.events import Floats
from testbed.policies.forecast_corrected import CorrectedForecaster

LSTM, CORRECTED, GATED = "LSTM", "LSTM corrected", "LSTM gated"
LAST_VALUE = "last value"
LEAST_GROWTH = 0.25  # intervals; coverage is also given for predictions above it
MAX_LOOP_ROWS, MAX_LOOP_STEPS, MAX_LOOP_CELLS = 24, 6000, 360_000
_GENERATED_SERIES, _GENERATED_SAMPLES, _GENERATED_STREAM = 24, 2000, 0xE7A1
_LAG_HORIZONS = (5, 20)
_MAX_RATE_BPS = 10**13


@dataclass(frozen=True)
class EvaluateConfig:
    """What to judge, and how.

    Attributes:
        traces: files; none judges generated series.
        model: None is the shipped one.
        rate_bps: of the node; None loads every series to `arrivals.USUAL_LOAD`.
        stretch: times are multiplied by it.
        add_up: judge the sum of all series of all files.
        generated: judge generated series, too.
        actuation_ms: time an expansion takes.
        interval_ms: between samples.
        seed: of generated series.
    """

    traces: tuple[Path, ...] = ()
    model: Path | None = None
    rate_bps: int | None = None
    stretch: float = 1.0
    add_up: bool = False
    generated: bool = False
    actuation_ms: int = 50
    interval_ms: int = 10
    seed: int = 1


Progress = Callable[[str], None]
Growths = dict[str, list[Floats]]  # by forecaster, one array [S, T, h] a group
Scores = dict[str, list[Floats]]
Set = tuple[str, list[Series], int]  # name, series, how many were left out


def evaluate(config: EvaluateConfig, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Return the judgement of a model as JSON data; `progress` is told what goes on.

    Raises:
        InputError: when the model, a trace or a setting does not fit.
    """
    _check(config)
    model = load_model(config.model)
    sets = _trace_sets(config) if config.traces else []
    if config.generated or not config.traces:
        sets += [(f"generated, {kind}", _generated(kind, config), 0) for kind in ("announced", "unannounced")]
    return {
        "model_sha256": model.sha256,
        "quantile": model.quantile,
        "interval_ms": config.interval_ms,
        "actuation_ms": config.actuation_ms,
        "stretch": config.stretch,
        "rate": f"{config.rate_bps} bit/s" if config.rate_bps else "mean load is 60 % of it",
        "sets": [_judged(*one, model, config, progress) for one in sets],
    }


def _check(config: EvaluateConfig) -> None:
    if not (math.isfinite(config.stretch) and 1e-6 <= config.stretch <= 1e6):
        raise InputError(f"evaluating with --stretch {config.stretch:g}", "it must lie between 1e-6 and 1e6")
    if config.rate_bps is not None and not 0 < config.rate_bps <= _MAX_RATE_BPS:
        raise InputError(f"evaluating with --rate {config.rate_bps}", "it must lie between 1 bit/s and 10 Tbit/s")
    if not 1 <= config.interval_ms <= 1000:
        raise InputError(f"evaluating with --interval {config.interval_ms} ms", "it must be 1 to 1000 ms")
    if not 0 <= config.actuation_ms <= 100:
        raise InputError(f"evaluating with --actuation {config.actuation_ms} ms", "it must be 0 to 100 ms")


# ------------------------------------------------------------------------------------------------------- the series


def _trace_sets(config: EvaluateConfig) -> list[Set]:
    by_file = {path: read_series(path, config.stretch, config.interval_ms) for path in config.traces}
    if config.add_up:
        total = summed([one for series in by_file.values() for one in series])
        return [(total.name, _usable([total], config), 0)]
    found = [(path.name, series) for path, series in by_file.items() if len(series) > 1]
    single = [series[0] for series in by_file.values() if len(series) == 1]
    if single:
        name = single[0].name if len(single) == 1 else f"{len(single)} traces"
        found.append((name, single))
    sets = [(name, series, _usable(series, config)) for name, series in found]
    return [(name, usable, len(series) - len(usable)) for name, series, usable in sets]


def _usable(series: Sequence[Series], config: EvaluateConfig) -> list[Series]:
    """Return the series that carry bytes and are long enough, at their rates; the set says how many are left out."""
    least_ms = LEAST_SAMPLES * config.interval_ms
    busy = [one for one in series if one.mean_bps > 0]
    usable = [at_rate(one, config.rate_bps) for one in busy if len(one.arrived_bytes) >= least_ms]
    if usable:
        return usable
    attempted = f"evaluating {series[0].name}" + (" and others" if len(series) > 1 else "")
    if not busy:
        raise InputError(attempted, "it carries no bytes", "use a trace with traffic")
    longest = max(len(one.arrived_bytes) for one in busy)
    happened = f"{longest} ms are too short: {LEAST_SAMPLES} samples of {config.interval_ms} ms are the least"
    raise InputError(attempted, happened, f"--stretch {least_ms / longest * config.stretch:.3g} or a finer --interval")


def _generated(kind: str, config: EvaluateConfig) -> list[Series]:
    """Return generated series: bursts all announced by ramps of at least 0.3 of the peak, or none."""
    share = 1.0 if kind == "announced" else 0.0
    profile = TrafficProfile(precursor_share=share, strength=(0.3, 1.0), false_ramp_share=0.25 * share)
    bins = _GENERATED_SAMPLES * config.interval_ms
    seed = (config.seed, _GENERATED_STREAM, int(share))
    traffic = generate(profile, _GENERATED_SERIES, bins, seed, config.interval_ms / 10)
    rows = range(_GENERATED_SERIES)
    ramps = traffic.announced if share and traffic.announced is not None else [None] * _GENERATED_SERIES
    made = [
        Series(f"{kind} {row}", traffic.arrived_bytes[row].astype(np.float64), 0.0, traffic.new_flows[row], ramps[row])
        for row in rows
    ]
    return [at_rate(one, int(rate)) for one, rate in zip(made, traffic.rate_bps, strict=True) if one.mean_bps > 0]


# ---------------------------------------------------------------------------------------------------- the judgement


def _judged(
    name: str, series: Sequence[Series], left_out: int, model: Model, config: EvaluateConfig, progress: Progress
) -> dict[str, Any]:
    progress(f"{name}: forecasts")
    groups = groups_of(series, config.interval_ms)
    growths, scores = _spoken(groups, model, config)
    rows = [_forecast_row(groups, growths, scores, index, model, config) for index in range(len(HORIZON_SAMPLES))]
    progress(f"{name}: closed loop")
    judged = {
        "name": name,
        "series": [row for group in groups for row in _series_rows(group, series, growths, groups, model, config)],
        "forecast": rows,
        "alarms": _alarms(groups, scores, config),
        "lag_samples": {str(h): _lags(groups, growths, HORIZON_SAMPLES.index(h)) for h in _LAG_HORIZONS},
        "closed_loop": _closed_loop(series, model, config),
        "notes": _notes(series, left_out, groups, growths),
    }
    return dict(_plain(judged))


def _spoken(groups: Sequence[Group], model: Model, config: EvaluateConfig) -> tuple[Growths, list[Scores]]:
    """Return what every forecaster says: growth by name, and for each horizon a score of an onset by name."""
    run = [run_series(model, group.inputs) for group in groups]
    growths: Growths = {LSTM: [np.expm1(growth.astype(np.float64)) for growth, _ in run]}
    for name, setting in ((CORRECTED, {"gate": False}), (GATED, {"correct": False})):
        growths[name] = [_wrapped(group, model, config, setting) for group in groups]
    for name in (LAST_VALUE, "EWMA", "Holt"):
        needs = [rival_needs(name, group.samples) for group in groups]
        growths[name] = [needs_in_intervals(n, g, config.interval_ms) for n, g in zip(needs, groups, strict=True)]
    growths |= fitted_rivals(groups, model.quantile)
    scores: list[Scores] = []
    for index in range(len(HORIZON_SAMPLES)):
        of_horizon: Scores = {LSTM: [logits[:, :, index].astype(np.float64) for _, logits in run]}
        for name in (LAST_VALUE, "EWMA", "Holt", "AR", "linear", "trees"):
            if name in growths:
                of_horizon[name] = [
                    g.backlog + said[:, :, index] for g, said in zip(groups, growths[name], strict=True)
                ]
        scores.append(of_horizon)
    return growths, scores


def _wrapped(group: Group, model: Model, config: EvaluateConfig, setting: dict[str, bool]) -> Floats:
    samples = group.samples
    inner = LstmForecaster(model, samples.nodes, samples.rate_bps, samples.interval_ns)
    forecaster = CorrectedForecaster(inner, samples.rate_bps, samples.interval_ns, model.quantile, **setting)
    return needs_in_intervals(forecaster_needs(forecaster, samples), group, config.interval_ms)


def _units(groups: Sequence[Group], values: Sequence[Floats]) -> Floats:
    """Return the means over the judged part, one a series, or of blocks where there are too few series."""
    judged = [value[:, group.split :] for group, value in zip(groups, values, strict=True)]
    if sum(len(value) for value in judged) >= 3:
        return np.concatenate([value.mean(axis=1) for value in judged])
    return np.concatenate([block_means(value, BLOCKS).ravel() for value in judged])


def _losses(groups: Sequence[Group], said: Sequence[Floats], index: int, quantile: float) -> Floats:
    short = [group.growth[:, :, index] - growth[:, :, index] for group, growth in zip(groups, said, strict=True)]
    return _units(groups, [np.maximum(quantile * miss, (quantile - 1) * miss) for miss in short])


def _forecast_row(
    groups: Sequence[Group],
    growths: Growths,
    scores: Sequence[Scores],
    index: int,
    model: Model,
    config: EvaluateConfig,
) -> dict[str, Any]:
    losses = {name: _losses(groups, said, index, model.quantile) for name, said in growths.items()}
    own = losses[LSTM]
    skills = {
        name: {"skill": _complement(_ratio(own, loss)), "ci": _complement_all(ratio_interval(own, loss))}
        for name, loss in losses.items()
        if not name.startswith(LSTM)
    }
    return {
        "horizon_samples": HORIZON_SAMPLES[index],
        "horizon_ms": HORIZON_SAMPLES[index] * config.interval_ms,
        "pinball": {name: float(loss.mean()) for name, loss in losses.items()},
        "skill_over": skills,
        "coverage": {name: _coverage(groups, growths[name], index) for name in growths if name.startswith(LSTM)},
        "onset": _onset_row(groups, scores[index], index),
    }


def _ratio(numerator: Floats, denominator: Floats) -> float | None:
    return float(numerator.sum() / denominator.sum()) if denominator.sum() > 0 else None


def _complement(value: float | None) -> float | None:
    return None if value is None else 1 - value


def _complement_all(bounds: list[float] | None) -> list[float] | None:
    return None if bounds is None else [1 - bounds[1], 1 - bounds[0]]


def _coverage(groups: Sequence[Group], said: Sequence[Floats], index: int) -> dict[str, Any]:
    """Return the share of kept promises: of all, and of those above `LEAST_GROWTH`."""
    kept = [(g.growth[:, :, index] <= growth[:, :, index] + 1e-6) for g, growth in zip(groups, said, strict=True)]
    weighty = [growth[:, g.split :, index] >= LEAST_GROWTH for g, growth in zip(groups, said, strict=True)]
    units = _units(groups, [hit.astype(np.float64) for hit in kept])
    count = sum(int(mask.sum()) for mask in weighty)
    of_weighty = sum(int(hit[:, g.split :][mask].sum()) for g, hit, mask in zip(groups, kept, weighty, strict=True))
    return {
        "all": float(units.mean()),
        "ci": mean_interval(units),
        "weighty": of_weighty / count if count else None,
        "weighty_share": count / sum(mask.size for mask in weighty),
    }


def _onset_row(groups: Sequence[Group], scores: Scores, index: int) -> dict[str, Any]:
    areas, precisions = {}, {}
    for name, said in scores.items():
        pairs = [pair for group, score in zip(groups, said, strict=True) for pair in _calm(group, score, index)]
        areas[name] = _finite(metrics.series_auc(*_columns(pairs)))
        precisions[name] = onsets.average_precision(*(np.concatenate(column) for column in zip(*pairs, strict=True)))
    positives = np.concatenate([p for g in groups for p, _ in _calm(g, g.backlog, index)])
    ceiling = None
    if all(group.announced is not None for group in groups):
        known = [pair for g in groups for pair in _calm(g, np.asarray(g.announced, dtype=np.float64), index)]
        ceiling = _mean(_finite(metrics.series_auc(*_columns(known))))
    return {
        "prevalence": float(positives.mean()) if len(positives) else None,
        "auc": {name: _mean(area) for name, area in areas.items()},
        "auc_ci": mean_interval(areas[LSTM]),
        "auc_of_who_sees_precursors": ceiling,
        "series_with_onsets": len(areas[LSTM]),
        "pr_auc": precisions,
    }


def _calm(group: Group, score: Floats, index: int) -> list[tuple[Any, Floats]]:
    """Return, for each series, onset and score of the judged samples outside bursts."""
    judged = range(len(score))
    masks = [group.calm[row] & (np.arange(group.length) >= group.split) for row in judged]
    return [(group.onset[row, mask, index], score[row, mask]) for row, mask in zip(judged, masks, strict=True)]


def _columns(pairs: Sequence[tuple[Any, Floats]]) -> tuple[Any, Any, Any]:
    positive, score = zip(*pairs, strict=True)
    return positive, score, [np.ones(len(one), dtype=np.bool_) for one in positive]


def _finite(values: Floats) -> Floats:
    return values[np.isfinite(values)]


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


# --------------------------------------------------------------------------------------------------- alarms and lag


def _alarms(groups: Sequence[Group], scores: Sequence[Scores], config: EvaluateConfig) -> dict[str, Any]:
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


def _lags(groups: Sequence[Group], growths: Growths, index: int) -> dict[str, float | None]:
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


# ------------------------------------------------------------------------------------------------- loop, series, notes


def _closed_loop(series: Sequence[Series], model: Model, config: EvaluateConfig) -> dict[str, Any]:
    """Return curves and the comparison at equal memory, of the first series, as long as all of them and time allow."""
    chosen = list(series[:MAX_LOOP_ROWS])
    bins = min(len(one.arrived_bytes) for one in chosen)
    most = min(MAX_LOOP_STEPS, MAX_LOOP_CELLS // (len(chosen) * len(MARGINS)))
    steps = min(bins // config.interval_ms, max(LEAST_SAMPLES, most))
    traffic = traffic_of(chosen, steps * config.interval_ms)
    curves = pareto_curves(traffic, model, config.actuation_ms, config.interval_ms, lambda: None)
    return {
        "series": len(chosen),
        "seconds": steps * config.interval_ms / 1000,
        "equal_memory": [at_equal_memory(curves, f"margin {margin:g}") for margin in (1.0, REFERENCE_MARGIN, 1.75)],
        "curves": {name: [asdict(point) for point in points] for name, points in curves.items()},
    }


def _series_rows(
    group: Group,
    series: Sequence[Series],
    growths: Growths,
    groups: Sequence[Group],
    model: Model,
    config: EvaluateConfig,
) -> list[dict[str, Any]]:
    """Return a row for each series of a group: what it is, and skill at every horizon."""
    by_name = {one.name: one for one in series}
    place = next(index for index, one in enumerate(groups) if one is group)
    losses = {
        name: np.stack(
            [
                metrics.pinball_losses(
                    group.growth[:, group.split :, index],  # type: ignore[arg-type]
                    growths[name][place][:, group.split :, index],  # type: ignore[arg-type]
                    model.quantile,
                )
                for index in range(len(HORIZON_SAMPLES))
            ]
        )
        for name in (LSTM, LAST_VALUE, "Holt")
    }
    rows = []
    for row, name in enumerate(group.names):
        own = losses[LSTM][:, row]
        rows.append(
            {
                "name": name,
                "seconds": group.length * config.interval_ms / 1000,
                "rate_bps": by_name[name].rate_bps,
                "load_ratio": float(group.arrived[row].mean()),
                "bursts": int(group.starts[row].sum()),
                "skill_over_last_value": _skills(own, losses[LAST_VALUE][:, row]),
                "skill_over_holt": _skills(own, losses["Holt"][:, row]),
            }
        )
    return rows


def _skills(own: Floats, rival: Floats) -> list[float | None]:
    return [1 - float(a) / float(b) if b > 0 else None for a, b in zip(own, rival, strict=True)]


def _notes(series: Sequence[Series], left_out: int, groups: Sequence[Group], growths: Growths) -> list[str]:
    notes = []
    if left_out:
        notes.append(f"{left_out} of {left_out + len(series)} series are left out: silent, or too short to judge")
    overloaded = sum(float(group.arrived[row].mean()) >= 1 for group in groups for row in range(len(group.names)))
    if overloaded:
        notes.append(f"{overloaded} series bring more than the rate serves: their queue grows to the end")
    quiet = sum(not group.starts[row].any() for group in groups for row in range(len(group.names)))
    if quiet:
        notes.append(f"{quiet} of {sum(len(group.names) for group in groups)} series hold no burst")
    if "trees" not in growths:
        notes.append("no row for trees: scikit-learn is not installed (`pip install 'testbed[evaluate]'`)")
    if all(one.new_flows is None for one in series):
        notes.append("the trace does not tell new flows: none are shown to the model")
    return notes


def _plain(value: Any) -> Any:
    """Return JSON data without what is no number."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
