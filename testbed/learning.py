"""The verbs of the forecaster: `train` and `evaluate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console

from testbed.errors import InputError

verbs = typer.Typer()


@verbs.command(epilog="Example: `python -m testbed train --out model --trace traces/rack.npz`")
def train(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="where model, manifest and card go")] = Path(
        "model"
    ),
    seed: Annotated[int, typer.Option("--seed", help="seed of everything random")] = 1,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="passes over the training series")] = 60,
    traces: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--trace", metavar="FILE.npz", help="recorded host traces to add to the generated ones"),
    ] = None,
    card: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--card", metavar="FILE.md", help="where the model card goes; default MODEL.md in --out"),
    ] = None,
) -> None:
    """Train the LSTM (needs torch: `make setup-test`); interrupted training goes on where it was."""
    from rich.progress import Progress

    from testbed.forecaster.training.config import TrainConfig
    from testbed.forecaster.training.train import TrainProgress
    from testbed.forecaster.training.train import train as fit

    with Progress(console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def show(step: TrainProgress) -> None:
            if step.stage not in tasks:
                tasks[step.stage] = bars.add_task(step.stage, total=step.total)
            bars.update(tasks[step.stage], completed=step.done)

        path = fit(TrainConfig(out=out, card=card, seed=seed, epochs=epochs, traces=tuple(traces or ())), show)
    print(path)


def _rate_bps(text: str | None) -> int | None:
    from testbed import units

    try:
        return None if text is None else units.rate_bps(text)
    except ValueError as error:
        raise InputError(f"--rate {text}", str(error)) from error


@verbs.command(epilog="Example: `python -m testbed evaluate --trace scenarios/traces/rack.csv --json`")
def evaluate(
    traces: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--trace", metavar="FILE", help="CSV, npz or pcap; repeatable; none judges generated traffic"),
    ] = None,
    model: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--model", metavar="FILE.npz", help="default the one shipped"),
    ] = None,
    rate: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            "--rate", help="of the node, such as 100Mbit; default: the mean load of each series is 60 % of it"
        ),
    ] = None,
    stretch: Annotated[float, typer.Option("--stretch", help="times of traces are multiplied by it")] = 1.0,
    add_up: Annotated[bool, typer.Option("--sum", help="judge the sum of all series of all traces")] = False,
    sums: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option("--sums", metavar="FILE.npz", help="judge sums of random hosts that training did not see"),
    ] = None,
    generated: Annotated[bool, typer.Option("--generated", help="judge generated traffic, too")] = False,
    interval_ms: Annotated[int, typer.Option("--interval", metavar="MS", help="between samples")] = 10,
    actuation_ms: Annotated[int, typer.Option("--actuation", metavar="MS", help="time an expansion takes")] = 50,
    card: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--card", metavar="MODEL.md", help="put the tables into this model card"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="machine-readable result on standard output")] = False,
) -> None:
    """Judge the LSTM beside its rivals, on traces it never saw."""
    from testbed.forecaster.evaluation import text as evaluation_text
    from testbed.forecaster.evaluation.evaluate import EvaluateConfig
    from testbed.forecaster.evaluation.evaluate import evaluate as judge

    config = EvaluateConfig(
        traces=tuple(traces or ()),
        model=model,
        rate_bps=_rate_bps(rate),
        stretch=stretch,
        add_up=add_up,
        sums=tuple(sums or ()),
        generated=generated,
        interval_ms=interval_ms,
        actuation_ms=actuation_ms,
    )
    document = judge(config, lambda stage: print(f"{stage} …", file=sys.stderr))
    if card is not None:
        evaluation_text.write_section(card, document)
    print(json.dumps(document, indent=2, allow_nan=False) if as_json else evaluation_text.as_markdown(document))
