"""The model card: what a model is for, how it was made, how good it is.  Written from the manifest and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from testbed.files import writing
from testbed.forecaster.evaluation.text import table
from testbed.forecaster.runtime.artefact import load_model

_INTENDED = """\
The model forecasts, from a node's own samples, the {quantile:.0%} quantile of the peak backlog that its queue will
reach within {horizons} samples if nothing is dropped, and the probability that a burst starts within the longest
of them.
It is meant to *raise* a buffer limit above what a floor policy asks for; it must never be the only thing that sizes a
buffer.  Inputs are dimensionless, so one model serves any link rate; it was trained at sample intervals of 1 to 10 ms.

Use it for sums of many hosts and for bursts that ramps or new flows announce: there it has the best mean rank, also
before boosted trees that were trained on the same data with the same effort (docs/forecaster.md).  Do not use it for
traffic of single applications with long silences, where an EWMA is better and even the last value is, nor expect more
than Holt's smoothing gives where nothing announces a burst and samples are 1 ms long.  Where a forecaster can be fitted
to the stream itself, boosted trees are better for periodic frames, and over all series together.
"""

_LIMITS = """\
- A burst that nothing announces cannot be foreseen.  The rows *unannounced* say what is left then.  There the loss in
  the closed loop is 15 to 18 % lower than with Holt's smoothing at an actuation delay of 50 ms, with 6 to 7 % more
  memory, and 6 to 12 % lower at equal memory; without a delay the two are equal.
- Nor can one whose announcement is still to come.  The ramps of generated traffic are 20 to 120 ms long, so within 20
  samples of 10 ms most onsets lie beyond every ramp.  The column *AUC of a perfect precursor detector* above says what
  can be known then, and the model is there; at short horizons the model exceeds it, since it also sees the first
  arrivals.
- Generated traffic decides most of what the model knows: ramps before bursts, Pareto, exponential and constant bursts,
  crowds of short ones, periodic frames.  Traffic of another kind should be scored before the model is relied on.
- Validation series come from the same generator as those of training, with other random numbers.  The default width and
  number of epochs were chosen with such figures in view, so they flatter a little.
- Periodic bursts, such as the frames of video, are learnt from generated frames.  Rules fitted to the
  stream itself are better still, and beyond two frames the coverage lies above the nominal quantile.
- Of samples shorter than 10 ms it has learnt less.  At 1 ms, bursts that nothing announces cost more at equal memory
  than with Holt's smoothing (`evaluate --interval 1`), and bursts shorter than a sample that depend on nothing are
  forecast worse, within 1 or 2 samples, than by the last value.
- The first 20 samples give no forecast.
- The quantile is calibrated over all instants together, not for each node and not inside bursts.
- The closed loop above is a fluid replay of single queues, not a run of the testbed.
- The backlog is taken as measured.  The number of new flows comes from an approximate counter (sketch); its errors
  worsen the forecast, but cause no loss.
"""


def write_card(weights: Path, card: Path) -> None:
    """Write the card of the model at `weights` to `card`, from its manifest.

    Raises:
        InputError: when the model does not load.
    """
    model = load_model(weights)
    manifest = dict(model.manifest)
    horizons = ", ".join(str(samples) for samples in model.horizon_samples)
    parts = [
        "# Model card: burst forecaster",
        "Written by `python -m testbed train`; do not edit, train again.",
        "## What it is for",
        _INTENDED.format(quantile=model.quantile, horizons=horizons),
        "## How it was made",
        _made(manifest, model.hidden),
        "## How good it is",
        *_scores(manifest["metrics"]),
        "## Limits",
        _LIMITS,
        *_notices(manifest["notices"]),
    ]
    writing.folder(card.parent)
    writing.replace(card, "\n\n".join(part.strip("\n") for part in parts) + "\n")


def _made(manifest: dict[str, Any], hidden: int) -> str:
    training = manifest["training"]
    rows = [
        ("network", f"LSTM, 1 layer, {hidden} units, linear head"),
        ("inputs", ", ".join(manifest["architecture"]["features"])),
        ("command", f"`python -m testbed train{_options(training['config'])}`"),
        ("date", manifest["date"]),
        ("seed", training["config"]["seed"]),
        ("epochs", f"{training['config']['epochs']}, {training['seconds']} s on one core"),
        ("weights SHA-256", f"`{manifest['weights_sha256']}`"),
        *((f"data: {name}", f"`{digest}`") for name, digest in training["data_sha256"].items()),
    ]
    return table(("", ""), rows)


def _options(config: dict[str, Any]) -> str:
    options = {"seed": config["seed"], "epochs": config["epochs"]}
    periods = " --periods" if config.get("periods") else ""
    return (
        "".join(f" --{name} {value}" for name, value in options.items())
        + periods
        + "".join(f" --trace {name}" for name in config["traces"])
    )


def _scores(metrics: dict[str, Any]) -> list[str]:
    parts = []
    for name, rows in metrics["forecast"].items():
        names = [key for key in rows[0] if key != "horizon_samples"]
        body = [(f"{row['horizon_samples']:.0f}", *(_figure(row[key]) for key in names)) for row in rows]
        parts += [f"### Forecast on {name} validation series", table(("horizon (samples)", *names), body)]
    return [*parts, _FORECAST_NOTE, "### Closed loop", _loops(metrics["closed_loop"]), _LOOP_NOTE]


_FORECAST_NOTE = """\
*pinball* is in units of rate × interval a sample.  *skill* is 1 − loss / loss of the rival (above 0: better).
*generated frames*: periodic sources; a meta file: sums of its held-out hosts, at held-out times where
the hosts were recorded together.
*coverage* is the share of instants at which the prediction sufficed; an instant at which the queue will not grow is
covered whatever is predicted, so coverage lies above the nominal where such instants prevail.  *AUC* is the mean over
series of the area under the ROC curve, each series by itself, at instants outside bursts; *announced*: precursor
strength ≥ 0.3, *unannounced*: no precursor.  A burst counts as begun when two intervals of link time are queued; within
1 and 2 samples even an unannounced one shows in its first arrivals, so those figures are no foresight."""

_LOOP_NOTE = """\
Loss in per cent of the arrived bytes, in brackets the mean limit of a node in MB.  The project's own buffer policies
with their default settings on fluid queues: limits from 0.5 to 10 MB, a sample every 10 ms, no shared pool; 32 nodes,
20 s.  No policy can avoid the loss of *static-max*: those bursts are larger than the cap.  *lstm*, *holt* and *oracle*
never ask for less than *reactive*, which accounts for most of their memory.  *static-mean* holds the mean of *lstm* for
all of the time."""


def _loops(rows: Sequence[dict[str, Any]]) -> str:
    policies = list(rows[0]["policies"])
    head = ("rate", "precursors", "actuation", *policies)
    return table(head, [(*_case(row), *(_outcome(row["policies"][policy]) for policy in policies)) for row in rows])


def _case(row: dict[str, Any]) -> tuple[str, str, str]:
    return f"{row['rate_mbit']:.0f} Mbit/s", "yes" if row["announced"] else "none", f"{row['actuation_ms']} ms"


def _outcome(result: dict[str, float]) -> str:
    return f"{100 * result['loss_ratio']:.2f} ({result['reserved_mb']:.2f})"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _notices(notices: Sequence[str]) -> list[str]:
    return ["## Notices", *notices] if notices else []
