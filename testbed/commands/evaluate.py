"""`evaluate`: compares the LSTM with other forecasters."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed import output, units
from testbed.commands.app import app
from testbed.commands.options import AsJson
from testbed.errors import InputError
from testbed.scenario.sources import RowKind
from testbed.system import patience

_Traces = Annotated[
    list[Path] | None,
    typer.Option(
        "--trace", metavar="FILE", help="CSV, npz or pcap; repeatable; without any, generated traffic is evaluated"
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
_Card = Annotated[
    Path | None,
    typer.Option("--card", metavar="MODEL.md", help="write the tables into this model card"),
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
    generated: Annotated[bool, typer.Option("--generated", help="also evaluate on generated traffic")] = False,
    interval_ms: Annotated[int, typer.Option("--interval", metavar="MS", help="sample interval in ms")] = 10,
    actuation_ms: Annotated[int, typer.Option("--actuation", metavar="MS", help="actuation delay in ms")] = 50,
    card: _Card = None,
    as_json: AsJson = False,
) -> None:
    """Compare the LSTM with other forecasters, on traces or generated traffic that were not used for training."""
    from testbed.forecaster.evaluation import text as evaluation_text
    from testbed.forecaster.evaluation.evaluate import EvaluateConfig
    from testbed.forecaster.evaluation.evaluate import evaluate as judge

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
    document = _noted(partial(judge, config))
    if card is not None:
        evaluation_text.write_section(card, document)
    if as_json:
        output.say_json(document)
    else:
        output.say(evaluation_text.as_markdown(document))


def _noted(judge: Callable[[Callable[[str], None]], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of `judge`; while waiting, show its last note."""
    last = "reading the traces"

    def note(text: str) -> None:
        nonlocal last
        last = text
        output.note(text)

    with patience.noted(lambda: f"evaluating: {last}"):
        return judge(note)


def _quantity(option: str, text: str | None, read: Callable[[object], int]) -> int | None:
    try:
        return None if text is None else read(text)
    except ValueError as error:
        raise InputError(f"{option} {text}", str(error)) from error
