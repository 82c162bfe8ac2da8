"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from testbed.records.engines import ENGINES

if TYPE_CHECKING:
    _Engine = str
else:
    _Engine = Literal[tuple(ENGINES)]
EngineName = Annotated[
    _Engine, typer.Option("--engine", help="; ".join(f"{row.name}: {row.doc}" for row in ENGINES.values()))
]
AnyEngineName = Annotated[
    _Engine | None,
    typer.Option(
        "--engine",
        help="default: emulation, or simulation for a topology that only the simulation has",
        show_default=False,
    ),
]
ScenarioPath = Annotated[Path, typer.Argument(metavar="SCENARIO", help="scenario file (YAML)", show_default=False)]
Seed = Annotated[int | None, typer.Option("--seed", help="replace the scenario's seed")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="override a key, such as buffer.policy=reactive; repeatable"),
]
PluginFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", metavar="FILE.py", help="a file that adds policies, families, shapes or metrics; repeatable"
    ),
]
PluginConsent = Annotated[
    Literal["allow", "refuse"],
    typer.Option(
        "--plugins",
        help="`allow` or `refuse` the execution of the plug-ins named in these files or runs; plug-ins are code",
    ),
]
OutDirectory = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="run directory; default runs/NAME-TIME-SEED, refused if it exists"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="remove an existing run in --out")]
Packets = Annotated[
    bool,
    typer.Option(
        "--packets",
        help="write packets.parquet (a row for each packet) and flows.parquet (a row for each flow), as "
        "--set record_packets=true does",
    ),
]
Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="run directories", show_default=False)]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        min=1,
        metavar="N",
        help="number of simulated trials that run at a time; default: one per processor that this process may use, as "
        "far as memory allows; emulated trials run one at a time",
    ),
]
Scheduler = Annotated[
    str,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="run the trials on the workers of the Dask scheduler at this address, such as tcp://host:8786; local: "
        "start a scheduler and a worker on this machine; needs the extra `distributed`",
    ),
]
JunitFile = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE.xml", help="also write the outcome as JUnit XML, even if the command fails"),
]
AsJson = Annotated[bool, typer.Option("--json", help="machine-readable result on standard output")]
Quiet = Annotated[bool, typer.Option("--quiet", help="no progress output")]


def recording(settings: list[str] | None, packets: bool) -> list[str] | None:
    """Return the settings of a command line, with that of ``--packets``."""
    return [*(settings or ()), "record_packets=true"] if packets else settings
