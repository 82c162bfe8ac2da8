"""`train`: fits the LSTM."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.following import followed
from testbed.system import patience


@app.command(epilog="Example: `python -m testbed train --out model`")
def train(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="output directory for model, manifest and model card")
    ] = Path("model"),
    seed: Annotated[int, typer.Option("--seed", help="seed of all random numbers")] = 1,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="passes over the training series")] = 60,
    traces: Annotated[
        list[Path] | None,
        typer.Option("--trace", metavar="FILE.npz", help="recorded host traces to add to the generated ones"),
    ] = None,
    periods: Annotated[
        bool, typer.Option("--periods", help="also give the model the period of the arrivals (11 more inputs)")
    ] = False,
    rivals: Annotated[
        bool,
        typer.Option(
            "--rivals",
            help="fit the other forecasters of `evaluate` to the training series of the model in --out, with the same "
            "--seed and --trace (needs scikit-learn instead of torch, takes minutes)",
        ),
    ] = False,
    card: Annotated[
        Path | None,
        typer.Option("--card", metavar="FILE.md", help="file for the model card; default: MODEL.md in --out"),
    ] = None,
) -> None:
    """Train the LSTM (needs torch, see `doctor`). Interrupted training is resumed."""
    if rivals:
        output.say(_rivals(out, seed, traces or []))
    else:
        output.say(_fitted(out=out, card=card, seed=seed, epochs=epochs, periods=periods, traces=tuple(traces or ())))


def _fitted(**config: Any) -> Path:
    """Train the LSTM with the fields of a `TrainConfig` and return the model; meanwhile, show the progress."""
    from rich.progress import Progress

    with patience.noted("loading torch"):
        from testbed.forecaster.training.config import TrainConfig
        from testbed.forecaster.training.train import TrainProgress
        from testbed.forecaster.training.train import train as fit

    stage = "reading the traces"
    with Progress(console=output.console(stderr=True)) as bars, patience.noted(lambda: f"training: {stage}"):
        tasks: dict[str, Any] = {}

        def show(step: TrainProgress) -> None:
            nonlocal stage
            stage = f"{step.stage}, {step.done} of {step.total}"
            if step.stage not in tasks:
                tasks[step.stage] = bars.add_task(step.stage, total=step.total)
            bars.update(tasks[step.stage], completed=step.done)

        return fit(TrainConfig(**config), show)


def _rivals(out: Path, seed: int, traces: list[Path]) -> Path:
    """Fit the rivals of the model in `out`; while waiting, show what is being done."""
    from testbed.forecaster.training.config import TrainConfig
    from testbed.forecaster.training.rivals import train_rivals

    config = TrainConfig(out=out, seed=seed, traces=tuple(traces))
    return followed("fitting rivals", partial(train_rivals, config))
