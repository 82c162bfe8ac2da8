"""Judging a model on traces it never saw, beside rivals, as plain JSON data.

`evaluate` reads the series (`evaluation_series`), scales them to one rate, walks through them (`rolling`), lets every
forecaster speak (`evaluation_forecasts`), and returns for each set of series: forecast losses, skill and coverage by
horizon; alarms against onsets and the lag of the prediction (`evaluation_alarms`); and the closed loop at equal memory
(`pareto`).

A figure that is not defined (no burst, nothing to predict, too few series for an interval) is absent: None, never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from testbed import units
from testbed.forecaster.data.arrivals import Series
from testbed.forecaster.evaluation import metrics
from testbed.forecaster.evaluation.alarms import alarms, lags
from testbed.forecaster.evaluation.config import EvaluateConfig, check
from testbed.forecaster.evaluation.forecasts import LAST_VALUE, LSTM, Growths, forecast_row, spoken
from testbed.forecaster.evaluation.pareto import MARGINS, REFERENCE_MARGIN, at_equal_memory, pareto_curves
from testbed.forecaster.evaluation.rolling import LEAST_SAMPLES, Group, groups_of, traffic_of
from testbed.forecaster.evaluation.series import all_sets
from testbed.forecaster.evaluation.trained_rivals import TrainedRivals, load_rivals
from testbed.forecaster.runtime.artefact import Model, load_model
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES
from testbed.records.events import Floats

__all__ = ["EvaluateConfig", "evaluate"]

MAX_LOOP_ROWS, MAX_LOOP_STEPS, MAX_LOOP_CELLS = 24, 4000, 360_000
_LAG_HORIZONS = (5, 20)

Progress = Callable[[str], None]


def evaluate(config: EvaluateConfig, progress: Progress = lambda _: None) -> dict[str, Any]:
    """Return the judgement of a model as JSON data; `progress` gets what is being done.

    Raises:
        InputError: when the model, a trace or a setting does not fit.
    """
    check(config)
    model, trained = load_model(config.model), load_rivals(config.model)
    read_as: list[str] = []

    def note(line: str) -> None:
        read_as.append(line)
        progress(line)

    sets = all_sets(config, model, note)
    judged = [_judged(*one, model, trained, config, progress) for one in sets]
    return {**setting_of(model, config), "traces": read_as, "sets": judged}


def setting_of(model: Model, config: EvaluateConfig) -> dict[str, Any]:
    """Return what an evaluation was made with, as JSON data."""
    return {
        "model_sha256": model.sha256,
        "quantile": model.quantile,
        "interval_ms": config.interval_ms,
        "actuation_ms": config.actuation_ms,
        "stretch": config.stretch,
        "command": _command(config),
        "rate": f"{config.rate_bps} bit/s" if config.rate_bps else "mean load is 60 % of it",
    }


def _command(config: EvaluateConfig) -> str:
    """Return the command line of the evaluation; of the files only the names, which are not where they were."""
    options = {"interval": config.interval_ms, "actuation": config.actuation_ms, "stretch": f"{config.stretch:g}"}
    words = [f"--{name} {value}" for name, value in options.items()]
    words += [f"--rate {config.rate_bps}bit"] if config.rate_bps else []
    words += [f"--rows {config.rows}"] if config.rows else []
    words += [f"--bin {units.duration_text(round(config.bin_s * units.NS_PER_S))}"] if config.bin_s else []
    words += ["--ranking"] * config.cut + ["--sum"] * config.add_up + ["--generated"] * config.generated
    words += [f"--sums {path.name}" for path in config.sums] + [f"--trace {path.name}" for path in config.traces]
    return " ".join(("python -m testbed evaluate", *words))


def _judged(
    name: str,
    series: Sequence[Series],
    left_out: int,
    model: Model,
    trained: TrainedRivals | None,
    config: EvaluateConfig,
    progress: Progress,
) -> dict[str, Any]:
    progress(f"{name}: forecasts …")
    groups = groups_of(series, config.interval_ms)
    growths, scores = spoken(groups, model, config, trained)
    rows = [forecast_row(groups, growths, scores, index, model, config) for index in range(len(HORIZON_SAMPLES))]
    progress(f"{name}: closed loop …")
    judged = {
        "name": name,
        "series": [row for group in groups for row in _series_rows(group, series, growths, groups, model, config)],
        "forecast": rows,
        "alarms": alarms(groups, scores, config),
        "lag_samples": {str(h): lags(groups, growths, HORIZON_SAMPLES.index(h)) for h in _LAG_HORIZONS},
        "closed_loop": _closed_loop(series, model, config),
        "notes": _notes(series, left_out, groups),
    }
    return dict(plain(judged))


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


def _notes(series: Sequence[Series], left_out: int, groups: Sequence[Group]) -> list[str]:
    notes = []
    if left_out:
        notes.append(f"{left_out} of {left_out + len(series)} series are left out: silent, or too short to judge")
    overloaded = sum(float(group.arrived[row].mean()) >= 1 for group in groups for row in range(len(group.names)))
    if overloaded:
        notes.append(f"{overloaded} series bring more than the rate serves: their queue grows to the end")
    quiet = sum(not group.starts[row].any() for group in groups for row in range(len(group.names)))
    if quiet:
        notes.append(f"{quiet} of {sum(len(group.names) for group in groups)} series contain no burst")
    if all(one.new_flows is None for one in series):
        notes.append("the trace does not contain new flows, so the model sees none")
    return notes


def plain(value: Any) -> Any:
    """Return JSON data without what is no number."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
