"""The command line: arguments in, exit code out.  What a verb does is in the room that does it."""

from __future__ import annotations

import os
import sys

# One thread for linear algebra: the arrays are small, and idle helper threads would disturb the trial they serve.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, Optional

import typer
from rich.console import Console

from testbed import __version__, learning, operating
from testbed.bench import COUNTED
from testbed.bench import NAMES as BENCHES
from testbed.errors import (
    EXIT_BAD_INPUT,
    EXIT_BUG,
    EXIT_EXPECTATION_FAILED,
    EXIT_INTERRUPTED,
    EXIT_MACHINE_LACKS,
    EXIT_OK,
    InputError,
    TestbedError,
)

app = typer.Typer(
    name="testbed",
    help="A network-emulation testbed for clusters of predictive buffers: scenario in, believable run directory out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
)


Engine = Literal["emulation", "simulation"]
ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO", help="scenario file (YAML)", show_default=False)]
Seed = Annotated[Optional[int], typer.Option("--seed", help="replace the scenario's seed")]  # noqa: UP045
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY=VALUE", help="override a key, such as buffer.policy=reactive; repeatable"),
]
OutDirectory = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--out", metavar="DIR", help="run directory; default runs/NAME-TIME-SEED, refused if it exists"),
]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable result on standard output")]
Quiet = Annotated[bool, typer.Option("--quiet", help="say nothing on the way")]


@app.callback()
def _main(
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks of errors")] = False,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    if debug:
        os.environ["TESTBED_DEBUG"] = "1"


@app.command(
    epilog="Examples:\n\n"
    "`sudo python -m testbed run scenarios/burst.yaml`\n\n"
    "`sudo python -m testbed run scenarios/burst.yaml --set buffer.policy=static-min --seed 7 --json`"
)
def run(
    scenario: ScenarioPath,
    seed: Seed = None,
    settings: Settings = None,
    engine: Annotated[Engine, typer.Option("--engine", help="real kernel, or virtual time (no root)")] = "emulation",
    out: OutDirectory = None,
    repeat: Annotated[
        int, typer.Option("--repeat", min=1, metavar="N", help="so many trials, one after the other; DIR/1 to DIR/N")
    ] = 1,
    no_live: Annotated[bool, typer.Option("--no-live", help="no live view")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run one trial: emulated on the real kernel (needs root), or simulated in virtual time."""
    _run_trials(scenario, seed, settings, engine, out, repeat, not no_live, as_json, quiet)


@app.command(epilog="Example: `python -m testbed simulate scenarios/burst.yaml --set buffer.policy=reactive`")
def simulate(
    scenario: ScenarioPath,
    seed: Seed = None,
    settings: Settings = None,
    out: OutDirectory = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run one trial in virtual time: the same scenario, traffic and policies, no root, no kernel features."""
    _run_trials(scenario, seed, settings, "simulation", out, 1, False, as_json, quiet)


def _run_trials(
    scenario: Path,
    seed: int | None,
    settings: list[str] | None,
    engine: Engine,
    out: Path | None,
    repeat: int,
    live: bool,
    as_json: bool,
    quiet: bool,
) -> NoReturn:
    from testbed import run as trials
    from testbed.report.terminal import print_verdict
    from testbed.spec.loading import load

    options = trials.RunOptions(engine, out, live, quiet, tuple(sys.argv[1:]))
    results = []
    for result in trials.repeated(load(scenario, settings or (), seed), options, repeat):
        results.append(result)
        if not quiet:
            print_verdict(result.summary, result.path, Console(stderr=as_json))
    if as_json:
        print(json.dumps(results[0].summary if repeat == 1 else [result.summary for result in results], indent=2))
    raise typer.Exit(next((result.exit_code for result in results if result.exit_code), EXIT_OK))


@app.command(epilog="Example: `sudo python -m testbed sweep scenarios/sweeps/policies.yaml`")
def sweep(
    path: Annotated[Path, typer.Argument(metavar="SWEEP", help="sweep file (YAML)", show_default=False)],
    engine: Annotated[Engine, typer.Option("--engine", help="real kernel, or virtual time (no root)")] = "emulation",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="DIR", help="default runs/sweep-NAME; goes on with what is there"),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run a scenario under all combinations of settings and seeds; a second call goes on where the first ended."""
    from testbed import sweep as sweeping

    result = sweeping.sweep(path, out, engine, quiet=quiet, argv=tuple(sys.argv[1:]))
    if as_json:
        print(json.dumps(result.table.to_record(), indent=2))
    elif not quiet:
        print(f"{result.table.text()}\nfiles: {result.path} (sweep.html, sweep.txt, sweep.json)")
    if result.unsettled:
        print(f"{result.unsettled} trials are still to be run: the same command goes on", file=sys.stderr)
    raise typer.Exit(result.exit_code)


@app.command(epilog="Example: `sudo python -m testbed agree scenarios/sweeps/agreement-single.yaml`")
def agree(
    sweeps: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Argument(metavar="[SWEEP...]", help="sweep files; default scenarios/sweeps/agreement*.yaml"),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="DIR", help="default runs/agreement; goes on with what is there"),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run sweeps in both engines and say where they agree; a second call goes on where the first ended."""
    from testbed import agree as agreeing
    from testbed.report import agreement

    result = agreeing.agree(sweeps or agreeing.default_sweeps(), out, quiet=quiet, argv=tuple(sys.argv[1:]))
    if as_json:
        print(json.dumps(agreement.to_record(result.judgements), indent=2))
    elif not quiet:
        print(f"{agreement.text(result.judgements)}\nfiles: {result.path} (agreement.html, agreement.json)")
    raise typer.Exit(result.exit_code)


@app.command(epilog="Example: `python -m testbed validate scenarios/*.yaml`")
def validate(
    scenarios: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="scenario or sweep files", show_default=False)
    ],
    settings: Settings = None,
    schema: Annotated[bool, typer.Option("--schema", help="print the JSON schema of scenario files")] = False,
) -> None:
    """Check scenario and sweep files; says what is wrong, and where."""
    from testbed import run as trials
    from testbed.spec import loading
    from testbed.sweep import checked

    if schema:
        print(json.dumps(loading.schema(), indent=2))
        return
    worst = 0
    for path in scenarios:
        try:
            if loading.names_a_sweep(path):
                print(f"{path}: fine (a sweep of {len(checked(path).trials)} trials)")
                continue
            loaded = loading.load(path, settings or ())
            trials.check(loaded)
            trials.check_traces(loaded)
            print(f"{path}: fine ({loaded.scenario.name}, {loaded.scenario.topology.nodes} nodes)")
        except TestbedError as error:
            worst = error.exit_code
            print(f"{error}", file=sys.stderr)
    raise typer.Exit(worst)


@app.command(epilog="Example: `python -m testbed doctor scenarios/burst.yaml`")
def doctor(
    scenario: Annotated[Optional[Path], typer.Argument(metavar="[SCENARIO]", help="check what this one needs")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """Say what this machine offers and lacks, and what mends it."""
    from testbed import doctor as machine
    from testbed.spec.loading import load

    findings = machine.diagnose(None if scenario is None else load(scenario).scenario)
    if as_json:
        print(json.dumps(machine.to_record(findings), indent=2))
    else:
        _print_findings(findings)
    raise typer.Exit(EXIT_MACHINE_LACKS if machine.worst(findings) == "missing" else 0)


def _print_findings(findings: list[Any]) -> None:
    styles = {"ok": "green", "limited": "yellow", "missing": "bold red"}
    console = Console()
    for finding in findings:
        console.print(
            f"[{styles[finding.status]}]{finding.status:8}[/] {finding.name}: {finding.detail}", highlight=False
        )
        if finding.remedy:
            console.print(f"         → {finding.remedy}", highlight=False)


@app.command(epilog="Example: `python -m testbed report runs/burst-*`")
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run directories", show_default=False)],
) -> None:
    """Write the HTML page of runs anew; works for interrupted and killed runs too."""
    from testbed.report.page import write_page

    for path in runs:
        print(write_page(path))


@app.command(epilog="Example: `python -m testbed replay runs/burst-*`")
def replay(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="run directories", show_default=False)],
    model: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--model", metavar="FILE.npz", help="the LSTM of the run; default the one shipped"),
    ] = None,
) -> None:
    """Feed the recorded inputs of runs to the present code; exit 1 and show the first decision that differs."""
    from testbed.replay import replay as first_difference

    code = EXIT_OK
    for path in runs:
        difference = first_difference(path, model)
        print(f"{path}: {'every decision as recorded' if difference is None else difference}")
        code = code if difference is None else EXIT_EXPECTATION_FAILED
    raise typer.Exit(code)


@app.command(epilog="Example: `python -m testbed compare runs/burst-lstm runs/burst-reactive`")
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="run directories", show_default=False)],
    page: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--page", metavar="FILE.html", help="write the comparison as a page, too"),
    ] = None,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="compare although scenario, seed or traffic differ")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare runs of one scenario and seed."""
    from testbed.report import compare as comparing
    from testbed.report.compare_page import write_compare_page

    comparison = comparing.compare(runs, allow_different=allow_different)
    print(json.dumps(asdict(comparison), indent=2) if as_json else comparison.text())
    if page is not None:
        print(f"page: {write_compare_page(comparison, page)}", file=sys.stderr)


@app.command(epilog="Example: `sudo python -m testbed bench xdp loop sender`")
def bench(
    names: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(metavar="[NAME...]", help=f"which ones; default all: {', '.join(BENCHES)}"),
    ] = None,
    count: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option("--count", min=1, help=f"how much of it: {'; '.join(f'{n}: {c}' for n, c in COUNTED.items())}"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run benchmarks, each figure beside its rival's from the same call; Ctrl-C prints what is complete."""
    unknown = sorted(set(names or ()) - set(BENCHES))
    if unknown:
        raise InputError("bench", f"unknown {', '.join(unknown)}", f"known: {', '.join(BENCHES)}")
    uncounted = sorted(set(names or BENCHES) - set(COUNTED))
    if count is not None and uncounted:
        raise InputError("bench --count", f"{uncounted[0]} takes none", f"name one of {', '.join(COUNTED)}")
    rows: list[dict[str, Any]] = []
    try:
        for name in names or BENCHES:
            print(f"measuring {BENCHES[name]} …", file=sys.stderr)
            rows += _measured(name, count)
    finally:
        if rows:
            print(json.dumps(rows, indent=2)) if as_json else _print_rows(rows)


def _measured(name: str, count: int | None) -> list[dict[str, Any]]:
    import importlib

    module = importlib.import_module(f"testbed.bench.{name}")
    rows: list[dict[str, Any]] = module.run() if count is None else module.run(count)
    return rows


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for header in ("figure", "value", "bar", "rival", "its value", "ratio", "note"):
        table.add_column(header, justify="right" if header in ("value", "its value", "ratio") else "left")
    for row in rows:
        rival = "" if row.get("rival_value") is None else f"{row['rival_value']:,.4g} {row['unit']}"
        ratio = "" if row.get("ratio") is None else f"{row['ratio']:.3g}"
        cells = (f"{row['value']:,.4g} {row['unit']}", row.get("bar") or "", row.get("rival") or "", rival, ratio)
        table.add_row(row["name"], *map(str, cells), row.get("note") or "")
    Console(width=None if sys.stdout.isatty() else 200).print(table)


app.add_typer(learning.verbs)
app.add_typer(operating.verbs)


def main() -> NoReturn:
    """Run the command line and exit; every error is a few lines and an exit code."""
    try:
        code = app(standalone_mode=False)
    except TestbedError as error:
        code = _fail(f"testbed: {error}", error.exit_code)
    except typer.Abort:
        code = _fail("testbed: stopped", EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        code = _fail("testbed: stopped", EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001 (the last door: whatever comes here is our own bug)
        code = _usage_or_bug(error)
    sys.exit(code or 0)


def _fail(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    if os.environ.get("TESTBED_DEBUG"):
        traceback.print_exc()
    return code


def _usage_or_bug(error: Exception) -> int:
    show = getattr(error, "show", None)  # Typer's usage errors; their class has moved between its versions
    if callable(show):
        show()
        return EXIT_BAD_INPUT
    print(
        f"testbed: our own bug: {type(error).__name__}: {error}; please report it with the lines of --debug",
        file=sys.stderr,
    )
    if os.environ.get("TESTBED_DEBUG"):
        traceback.print_exc()
    return EXIT_BUG
