"""`bench`: benchmarks, each figure beside its rival's."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from rich.table import Table

from testbed import output
from testbed.bench import ANYBODYS, COUNTED, LONG, NAMES
from testbed.commands.app import app
from testbed.commands.options import AsJson
from testbed.errors import InputError


@app.command(epilog="Example: `sudo python -m testbed bench xdp loop sender`")
def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help=f"which ones: {', '.join(NAMES)}; default all but {', '.join(LONG)}"),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("--count", min=1, help=f"how much of it: {'; '.join(f'{n}: {c}' for n, c in COUNTED.items())}"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run benchmarks, each figure beside its rival's from the same call; Ctrl-C prints what is complete."""
    chosen = names or [name for name in NAMES if name not in LONG]
    _check(chosen, count)
    if set(chosen) - set(ANYBODYS):
        _refuse_if_lacking()
    rows: list[dict[str, Any]] = []
    try:
        for name in chosen:
            output.note(f"measuring {NAMES[name]} …")
            rows += _measured(name, count)
    finally:
        if rows:
            output.say_json(rows) if as_json else _print(rows)


def _check(names: list[str], count: int | None) -> None:
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise InputError("bench", f"unknown {', '.join(unknown)}", f"known: {', '.join(NAMES)}")
    uncounted = sorted(set(names) - set(COUNTED))
    if count is not None and uncounted:
        raise InputError("bench --count", f"{uncounted[0]} takes none", f"name one of {', '.join(COUNTED)}")


def _refuse_if_lacking() -> None:
    """Refuse before anything is measured what this machine cannot do."""
    from testbed import doctor

    doctor.refuse_without_root(tuple(sys.argv[1:]))
    doctor.refuse_if_lacking(None)


def _measured(name: str, count: int | None) -> list[dict[str, Any]]:
    module = importlib.import_module(f"testbed.bench.{name.replace('-', '_')}")
    rows: list[dict[str, Any]] = module.run() if count is None else module.run(count)
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for header in ("figure", "value", "bar", "rival", "its value", "ratio", "note"):
        table.add_column(header, justify="right" if header in ("value", "its value", "ratio") else "left")
    for row in rows:
        rival = "" if row.get("rival_value") is None else f"{row['rival_value']:,.4g} {row['unit']}"
        ratio = "" if row.get("ratio") is None else f"{row['ratio']:.3g}"
        cells = (f"{row['value']:,.4g} {row['unit']}", row.get("bar") or "", row.get("rival") or "", rival, ratio)
        table.add_row(row["name"], *map(str, cells), row.get("note") or "")
    output.table_console().print(table)
