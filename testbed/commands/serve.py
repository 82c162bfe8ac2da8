"""`serve`: a trial without an end, a verdict for each window of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import PluginFiles, Quiet, ScenarioPath, Seed, Settings


@app.command(
    epilog="Examples:\n\n"
    "`sudo python -m testbed serve scenarios/soak.yaml`\n\n"
    "`sudo python -m testbed serve scenarios/soak.yaml --window 60s --keep 10 --metrics 127.0.0.1:9464`"
)
def serve(
    scenario: ScenarioPath,
    window: Annotated[
        str | None,
        typer.Option("--window", metavar="TIME", help="length of a window, such as 60s; default `serve.window`, 1h"),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option("--keep", min=1, metavar="N", help="number of windows that are kept; default `serve.keep`, 48"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="directory of the windows; an existing one is continued"),
    ] = None,
    seed: Seed = None,
    settings: Settings = None,
    plugins: PluginFiles = None,
    metrics: Annotated[
        str, typer.Option("--metrics", metavar="ADDRESS", help="serve OpenMetrics, such as 127.0.0.1:9464")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one line of JSON per window")] = False,
    quiet: Quiet = False,
) -> None:
    """Run a scenario until stopped, on the real kernel (needs root), in windows that each have a verdict.

    SIGTERM and Ctrl-C end it in order (exit code 0). SIGHUP reloads the scenario and its model.
    """
    from testbed import doctor
    from testbed.scenario.loading import LoadedScenario, load
    from testbed.trials.service import ServeOptions
    from testbed.trials.service import serve as serve_windows
    from testbed.trials.windows import Windows

    given = [*([f"serve.window={window}"] if window else []), *([f"serve.keep={keep}"] if keep else [])]

    def read() -> LoadedScenario:
        return load(scenario, [*(settings or ()), *given], seed, plugins or ())

    first = read()
    doctor.refuse_without_root(tuple(sys.argv[1:]))
    windows = Windows(out or _default_path(first.scenario.name))
    note = (lambda _text: None) if quiet else output.note
    note(f"testbed: serving in {windows.path}")
    report = _say_json if as_json else (lambda _line: None) if quiet else _say
    serve_windows(windows, ServeOptions(read, metrics, report, lambda text: note(f"testbed: {text}")))


def _default_path(name: str) -> Path:
    return Path("runs") / f"{name}-serve-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"


def _say_json(line: dict[str, Any]) -> None:
    output.say_json_line(line)


def _say(line: dict[str, Any]) -> None:
    head = f"window {line['window']}  {line['began_utc']}"
    if "verdict" not in line:
        output.say(
            f"{head}  " + (f"FAILED  {line['failure']}" if "failure" in line else f"no verdict: {line['cut_short']}")
        )
        return
    counts = f"{line['sent_packets']:,} sent, {line['unaccounted_packets']:,} unaccounted"
    output.say(f"{head}  {line['verdict']}  {line['traffic_s']:g} s  {counts}")
    for reason in line["verdict_reasons"]:
        output.say(f"    {reason}")
