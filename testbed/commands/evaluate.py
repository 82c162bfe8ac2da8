"""`evaluate`: compares the LSTM with other forecasters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed import output, units
from testbed.commands.app import app
from testbed.commands.following import followed
from testbed.commands.options import AsJson
from testbed.errors import InputError
from testbed.scenario.sources import RowKind

if TYPE_CHECKING:
    from testbed.forecaster.evaluation.config import EvaluateConfig

_Traces = Annotated[
    list[Path] | None,
    typer.Option(
        "--trace",
        metavar="FILE",
        help="CSV, npz or pcap, or a folder of them; repeatable; without any, generated traffic is evaluated",
    ),
]
_Model = Annotated[
    Path | None,
    typer.Option("--model", metavar="FILE.npz", help="LSTM model to evaluate; default: the shipped model"),
]
_Rows = Annotated[
    RowKind | None,
    typer.Option("--rows", help="what the rows of CSV traces are; default: inferred from the timestamps and reported"),
]
_BinLength = Annotated[
    str | None,
    typer.Option("--bin", metavar="TIME", help="length of the bins of CSV traces, such as 10ms"),
]
_NodeRate = Annotated[
    str | None,
    typer.Option(
        "--rate",
        help="service rate of the node, such as 100Mbit; default: chosen per series so that the mean load is 60 %",
    ),
]
_Sums = Annotated[
    list[Path] | None,
    typer.Option("--sums", metavar="FILE.npz", help="evaluate sums of random hosts that were not used for training"),
]
_Ablations = Annotated[
    Path | None,
    typer.Option(
        "--ablations",
        metavar="SCENARIO",
        help="only simulate the scenario with parts of the predictive buffer left out, ten seeds each",
    ),
]
_Card = Annotated[
    Path | None,
    typer.Option("--card", metavar="MODEL.md", help="write the tables into this model card"),
]
_Many = Annotated[
    bool,
    typer.Option("--ranking", help="only rank the forecasters, over all series together; each is cut to 4000 samples"),
]


@app.command(epilog="Example: `python -m testbed evaluate --generated --json`")
def evaluate(
    traces: _Traces = None,
    model: _Model = None,
    rows: _Rows = None,
    bin_length: _BinLength = None,
    rate: _NodeRate = None,
    stretch: Annotated[
        float, typer.Option("--stretch", help="factor by which the timestamps of traces are multiplied")
    ] = 1.0,
    add_up: Annotated[bool, typer.Option("--sum", help="evaluate on the sum of all series of all traces")] = False,
    sums: _Sums = None,
    many: _Many = False,
    ablations: _Ablations = None,
    generated: Annotated[bool, typer.Option("--generated", help="also evaluate on generated traffic")] = False,
    interval_ms: Annotated[int, typer.Option("--interval", metavar="MS", help="sample interval in ms")] = 10,
    actuation_ms: Annotated[int, typer.Option("--actuation", metavar="MS", help="actuation delay in ms")] = 50,
    card: _Card = None,
    as_json: AsJson = False,
) -> None:
    """Compare the LSTM with other forecasters, on traces or generated traffic that were not used for training."""
    from testbed.forecaster.evaluation.config import EvaluateConfig

    bin_ns = _quantity("--bin", bin_length, units.duration_ns)
    config = EvaluateConfig(
        traces=tuple(traces or ()),
        model=model,
        rows=rows,
        bin_s=None if bin_ns is None else bin_ns / units.NS_PER_S,
        rate_bps=_quantity("--rate", rate, units.rate_bps),
        stretch=stretch,
        add_up=add_up,
        sums=tuple(sums or ()),
        generated=generated,
        interval_ms=interval_ms,
        actuation_ms=actuation_ms,
    )
    document, text, write = _ablated(ablations) if ablations else (_ranked if many else _judged)(config)
    if card is not None:
        write(card)
    if as_json:
        output.say_json(document)
    else:
        output.say(text())


Shown = tuple[dict[str, Any], Callable[[], str], Callable[[Path], None]]  # JSON data; makes Markdown; writes a card


def _judged(config: EvaluateConfig) -> Shown:
    from testbed.forecaster.evaluation import text
    from testbed.forecaster.evaluation.evaluate import evaluate as judge

    document = followed("evaluating", partial(judge, config))
    return document, partial(text.as_markdown, document), partial(text.write_section, document=document)


def _ranked(config: EvaluateConfig) -> Shown:
    from testbed.forecaster.evaluation import many, ranking_text, text

    document = followed("evaluating", partial(many.rank, config))
    tables = partial(ranking_text.as_markdown, document)

    def write(card: Path) -> None:
        text.write_part(card, "ranking", "Ranking over many series", document["model_sha256"], tables())

    return document, tables, write


def _ablated(scenario: Path) -> Shown:
    from testbed.forecaster.evaluation import ablations_text, text
    from testbed.forecaster.runtime.artefact import load_model
    from testbed.trials.ablations import ablated

    document = followed("evaluating", lambda note: ablated(scenario, note=note))
    tables = partial(ablations_text.as_markdown, document)

    def write(card: Path) -> None:
        text.write_part(card, "ablations", "Ablations", load_model().sha256, tables())

    return document, tables, write


def _quantity(option: str, text: str | None, read: Callable[[object], int]) -> int | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise InputError(f"{option} {text}", str(error)) from error
