"""`list`: what a scenario may name, a line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.table import Table

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AsJson, PluginFiles
from testbed.errors import InputError

if TYPE_CHECKING:
    from testbed.registry import Registry

_NAMES = (
    *("policies", "balancers", "autoscalers", "placements", "topologies", "faults"),
    *("shapes", "metrics", "engines", "scenarios"),
)


class Line(NamedTuple):
    """One name, its description, and its source: a plug-in or a publication; empty: the testbed itself."""

    kind: str
    name: str
    doc: str
    source: str = ""


@app.command(
    name="list",
    epilog="Examples:\n\n`python -m testbed list`\n\n"
    "`python -m testbed list policies --plugin scenarios/plugins/ewma_peak.py`",
)
def list_(
    kinds: Annotated[
        list[str] | None, typer.Argument(metavar="[KIND]...", help=f"one or more of {', '.join(_NAMES)}; default: all")
    ] = None,
    plugins: PluginFiles = None,
    as_json: AsJson = False,
) -> None:
    """List policies, topologies, faults, shapes, metrics, engines and shipped scenarios."""
    from testbed.scenario import plugins as plugged

    plugged.load_installed()
    for path in plugins or ():
        plugged.load(path)
    wrong = next((kind for kind in kinds or () if kind not in KINDS), None)
    if wrong is not None:
        raise InputError(f"list {wrong}", "unknown kind", f"choose one of {', '.join(KINDS)}")
    lines = [line for kind in kinds or KINDS for line in KINDS[kind]()]
    if as_json:
        output.say_json([line._asdict() for line in lines])
        return
    table = Table(box=None, show_header=True, pad_edge=False, header_style="")
    for title in ("kind", "name", "description", "source"):
        table.add_column(title, overflow="fold")
    for line in lines:
        table.add_row(*line)
    output.console().print(table)


def _policies() -> Iterator[Line]:
    from testbed.scenario.tables import BUFFER_POLICIES

    return _rows("buffer policy", BUFFER_POLICIES)


def _balancers() -> Iterator[Line]:
    from testbed.scenario.tables import BALANCER_POLICIES

    return _rows("balancer policy", BALANCER_POLICIES)


def _autoscalers() -> Iterator[Line]:
    from testbed.scenario.tables import AUTOSCALER_POLICIES

    return _rows("autoscaler", AUTOSCALER_POLICIES)


def _placements() -> Iterator[Line]:
    from testbed.scenario.tables import PLACEMENT_POLICIES

    return _rows("placement", PLACEMENT_POLICIES)


def _topologies() -> Iterator[Line]:
    from testbed.scenario.tables import TOPOLOGIES

    return _rows("topology", TOPOLOGIES)


def _rows(kind: str, table: Registry[Any]) -> Iterator[Line]:
    from testbed.scenario.plugins import plugin_of

    for row in table:
        plugin = plugin_of(table, row.name)
        yield Line(kind, row.name, row.doc, str(plugin.path) if plugin is not None else row.source)


def _faults() -> Iterator[Line]:
    from testbed.scenario.fault_kinds import FAULT_KINDS

    return (Line("fault", row.name, row.doc) for row in FAULT_KINDS.values() if not row.between_of)


def _shapes() -> Iterator[Line]:
    from testbed.scenario import sources, tables

    yield from _rows("traffic", tables.TRAFFIC_SHAPES)
    yield Line("traffic", "trace", _first_line(sources.TraceSpec))
    yield Line("traffic", "tcp", _first_line(sources.TcpSpec))


def _metrics() -> Iterator[Line]:
    from testbed.results.metrics import METRICS

    return _rows("metric", METRICS)


def _engines() -> Iterator[Line]:
    from testbed.records.engines import ENGINES

    return (Line("engine", row.name, row.doc) for row in ENGINES.values())


def _scenarios() -> Iterator[Line]:
    from testbed.scenario.document import read_bytes
    from testbed.scenario.loading import question_of
    from testbed.system import places

    for path in sorted(places.scenarios().rglob("*.yaml")):
        question = question_of(read_bytes(path).decode(errors="replace")).splitlines()
        yield Line("scenario", str(path.relative_to(places.scenarios())), question[0] if question else "")


def _first_line(model: type) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


KINDS: dict[str, Callable[[], Iterator[Line]]] = dict(
    zip(
        _NAMES,
        (
            *(_policies, _balancers, _autoscalers, _placements, _topologies, _faults),
            *(_shapes, _metrics, _engines, _scenarios),
        ),
        strict=True,
    )
)
