"""`package` and `reproduce`: results that travel, and are made again elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AsJson, Jobs
from testbed.system import patience


@app.command(epilog="Example: `python -m testbed package runs/sweep-policies -o runs/policies.zip`")
def package(
    path: Annotated[
        Path,
        typer.Argument(metavar="RUN|SWEEP|CLAIMS", help="directory of the run, sweep or claims", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE.zip", help="package file to write", show_default=False)
    ],
) -> None:
    """Pack a run, a sweep or claims, together with all inputs of their results, as an RO-Crate."""
    from testbed.crate import contents

    with patience.noted(f"packing {path}"):
        packed = contents.package(path, out)
    output.say(str(packed))


@app.command(epilog="Example: `sudo python -m testbed reproduce runs/policies.zip --out runs/again`")
def reproduce(
    path: Annotated[Path, typer.Argument(metavar="FILE.zip", help="package file", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="output directory; default: reproduced-NAME; refused if it exists"),
    ] = None,
    trust: Annotated[bool, typer.Option("--trust", help="execute the plug-ins contained in the package")] = False,
    jobs: Jobs = None,
    as_json: AsJson = False,
) -> None:
    """Check a package, repeat its runs on this machine, and report for each: reproduced, differs, or not run.

    Simulated results must be equal, emulated ones equivalent: within the tolerances of `agree`, over several seeds by
    the 95 % interval of their mean difference.
    """
    from testbed.trials import reproducing

    result = reproducing.reproduce(
        path, out or Path(f"reproduced-{path.stem}"), trust=trust, jobs=jobs, note=output.note
    )
    if as_json:
        output.say_json([one.to_record() for one in result.runs])
    else:
        for one in result.runs:
            output.say(f"{one.outcome:11} {one.run} ({one.engine}): {one.why}")
        output.say(f"files: {result.path} (reproduction.json, runs, package)")
    raise typer.Exit(result.exit_code)
