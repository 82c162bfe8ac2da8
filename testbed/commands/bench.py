"""`bench`: benchmarks, each with a baseline measured in the same invocation."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Collection, Iterable, Sequence
from types import ModuleType
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from testbed import output
from testbed.bench import ANYBODYS, COUNTED, DRAWN, FILTERED, JUDGED, LONG, NAMES, TABLED, TIMED
from testbed.commands.app import app
from testbed.commands.options import AsJson
from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_OK, InputError
from testbed.records.engines import EMULATION

_COUNTS = "; ".join(f"{name}: {what}" for name, what in COUNTED.items())


Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME...]", help=f"one or more of {', '.join(NAMES)}; default: all except {', '.join(LONG)}"
    ),
]
Count = Annotated[
    int | None,
    typer.Option(
        "--count", "--trials", "--seeds", min=1, help=f"number of repetitions (default in parentheses). {_COUNTS}"
    ),
]
Only = Annotated[
    str,
    typer.Option(
        "--only", metavar="TEXT", help=f"{', '.join(FILTERED)}: run only the cases whose name contains this text"
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", min=0, help=f"{', '.join(DRAWN)}: seed for order and timing (default 1)")
]
CheckEvery = Annotated[
    int | None,
    typer.Option(
        "--check-every", min=1, help=f"{', '.join(DRAWN)}: number of kills between two runs without a kill (default 50)"
    ),
]
Minutes = Annotated[
    float | None, typer.Option("--minutes", min=0.2, help=f"{', '.join(TIMED)}: duration in minutes (default 30)")
]
MapEngine = Annotated[
    str | None, typer.Option("--engine", help="map: simulation (default) or emulation, which needs root")
]
Cells = Annotated[
    str | None, typer.Option("--cells", metavar="SET", help="map: all, or five (default in the emulation)")
]
Weights = Annotated[
    bool, typer.Option("--weights", help="map: also rank the pairs of policies with other weights in the cost")
]


@app.command(epilog="Example: `sudo python -m testbed bench xdp loop sender`")
def bench(
    names: Names = None,
    count: Count = None,
    only: Only = "",
    seed: Seed = None,
    check_every: CheckEvery = None,
    minutes: Minutes = None,
    engine: MapEngine = None,
    cells: Cells = None,
    weights: Weights = False,
    as_json: AsJson = False,
) -> None:
    """Run benchmarks.

    Each one also measures its baseline in the same invocation. On Ctrl-C, the completed results are printed.
    """
    chosen = names or [name for name in NAMES if name not in LONG]
    options = {"count": count, "only": only or None, "seed": seed, "check_every": check_every, "minutes": minutes}
    options |= {"engine": engine, "cells": cells, "weights": weights or None}
    given = {name: value for name, value in options.items() if value is not None}
    _check(chosen, given)
    if set(chosen) - set(ANYBODYS) or engine == EMULATION:
        _refuse_if_lacking()
    rows: list[dict[str, Any]] = []
    try:
        for name in chosen:
            output.note(f"measuring {NAMES[name]} …")
            rows += _measured(name, given)
    finally:
        if rows:
            output.say_json([_finite(row) for row in rows]) if as_json else _print(rows)
    missed = any(row["met"] is False for row in rows if row["name"].partition(".")[0] in JUDGED)
    raise typer.Exit(EXIT_EXPECTATION_FAILED if missed else EXIT_OK)


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row in which what JSON has no number for (never, not measured) is null."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()
    }


def _check(names: list[str], given: Collection[str]) -> None:
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        raise InputError("bench", f"unknown {', '.join(unknown)}", f"known: {', '.join(NAMES)}")
    takers: dict[str, Collection[str]] = {
        "count": COUNTED,
        "only": FILTERED,
        "seed": DRAWN,
        "check_every": DRAWN,
        "minutes": TIMED,
        **dict.fromkeys(("engine", "cells", "weights"), ("map",)),
    }
    for option in given:
        without = sorted(set(names) - set(takers[option]))
        if without:
            flag = f"--{option.replace('_', '-')}"
            raise InputError(
                f"bench {flag}", f"{without[0]} does not take this option", f"choose one of {', '.join(takers[option])}"
            )


def _refuse_if_lacking() -> None:
    """Refuse before anything is measured what this machine cannot do."""
    from testbed import doctor

    doctor.refuse_without_root(tuple(sys.argv[1:]))
    doctor.refuse_if_lacking(None)


def _measured(name: str, options: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = _module(name).run(**options)
    return rows


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"testbed.bench.{name.replace('-', '_')}")


def _print(rows: list[dict[str, Any]]) -> None:
    figures = [row for row in rows if row["name"].partition(".")[0] not in TABLED]
    if figures:
        _print_figures(figures)
    for name in TABLED:
        of_it = [row for row in rows if row["name"].partition(".")[0] == name]
        if of_it:
            _print_table(_module(name).table(of_it))


def _print_table(lines: Iterable[Sequence[str]]) -> None:
    head, *rest = lines
    table = Table(*head, box=None, pad_edge=False)
    for line in rest:
        table.add_row(*map(escape, line))
    output.table_console().print(table)


def _print_figures(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for header in ("figure", "value", "bound", "baseline", "baseline value", "ratio", "note"):
        table.add_column(header, justify="right" if header in ("value", "baseline value", "ratio") else "left")
    for row in rows:
        rival = "" if row.get("rival_value") is None else f"{row['rival_value']:,.4g} {row['unit']}"
        ratio = "" if row.get("ratio") is None else f"{row['ratio']:.3g}"
        cells = (f"{row['value']:,.4g} {row['unit']}", row.get("bar") or "", row.get("rival") or "", rival, ratio)
        table.add_row(row["name"], *map(str, cells), row.get("note") or "")
    output.table_console().print(table)
