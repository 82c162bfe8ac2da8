"""The reference page of all records, made from their declarations: ``make reference`` writes it.

python -m testbed.records.reference > docs/reference/records.md
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from testbed.records.events import Action, Event, FiveTuple, Floats, Ints, LogEntry, Record, SampleRow, Short, fields_of
from testbed.records.events.record import plain
from testbed.records.packet_rows import FlowRow, PacketRow
from testbed.records.registry import by_kind
from testbed.records.written import FULL_ROWS, FULL_SLOTS

_HEAD = f"""\
<!-- made by `make reference` from the declarations in testbed/records; do not edit -->

# Records

A run writes one line to `events.jsonl` for each event, and one row to `samples.parquet` for each node and sample. Times
are ns since the start of the run.

## A line of `events.jsonl`

| field | unit | meaning |
|---|---|---|
| `t_ns` | ns | when it happened, on the run's clock |
| `kind` | name | name of the record type (see below); the remaining fields of the line are those of this type |
| `policy` | name | see the next table |
| `direction` | name | `in` for an input of a policy, `out` for an output; absent in all other lines |

| `policy` | source of the line |
|---|---|
| `brain:n1` | the brain of node `n1`; in a simulation also `brain:n1-n8` (of these nodes) and `brain` (of all nodes) |
| `pool` | the pool policy, which grants buffer limits from the memory shared by all nodes |
| `balancer` | the balancer policy, and the controller that runs it |
| `deflection` | the policy that names siblings |
| `mesh` | the failure detector in the controller |
| `mesh:n1` | the mesh member of `n1` |
| `lifecycle` | lifecycle states of all nodes (`AddOrdered`, `SizeOrdered`, `StartNode`): a part of the orchestrator |
| `autoscaler` | the policy for the number of nodes (`LoadMeasured`, `ScaleDecided`): a part of the orchestrator |
| absent | no policy: a fault, a TCP source, or an agent (`NotificationLost`, `SiblingSet`) |

The *orchestrator* starts and stops nodes: it carries out `add` and `drain` of the scenario and the decisions of the
autoscaler. It announces the lifecycle states of all nodes to the balancer and the mesh members (`SendStages`). The
balancer records the announcement when it receives it (`StagesAnnounced`); mesh members do not record it. The *brain* of
a node is its policy: precursors, forecast, sizing rule.

Messages between mesh members are not recorded, neither by the emulation nor by the simulation: heartbeats, reports of
suspicions, rumours, states. Recorded are their consequences: `MemberSilent`, `MemberHeard`, `MemberDied` and
`MemberReturned` of each member, and `SuspicionsChanged` of the failure detector in the controller.

For example, this line says that the buffer limit of `n1` is 1,242,185 bytes from 1.33 s on, as decided by its brain:

    {{"t_ns":1330000000,"policy":"brain:n1","direction":"out","kind":"SetBufferLimit","nodes":["n1"],"limit_bytes":[1242185]}}

Record types with the line *Abbreviated form* are abbreviated if they concern more than {FULL_ROWS} nodes (or
{FULL_SLOTS} slots). Then the list fields are omitted: `rows` is the number of their entries, and `sha256` the digest of
their values.

Runs of earlier versions may lack a field. The column *absent* gives the default that is used in this case.
"""
_GROUPS: tuple[tuple[str, type[Record], str], ...] = (
    ("Inputs of policies", Event, "`testbed replay` feeds these records to the current code."),
    ("Outputs of policies", Action, "`testbed replay` compares these records with the outputs of the current code."),
    ("Log records", LogEntry, "What happened outside the policies; ignored by `testbed replay`."),
)
_TYPES: dict[Any, str] = {
    int: "integer",
    float: "number",
    str: "string",
    Ints: "list of integers",
    Floats: "list of numbers",
    FiveTuple: "list of two strings and three integers",
    tuple[str, ...]: "list of strings",
    tuple[int, ...]: "list of integers",
    dict[str, int]: "object of integers",
}
_TYPES |= {kind | None: f"{name} or null" for kind, name in list(_TYPES.items())[:3]}
_TYPES |= {dict[str, int] | None: "object of integers or null"}


def page() -> str:
    """Return the page, as Markdown."""
    groups = (_group(title, group, note) for title, group, note in _GROUPS)
    return "\n".join([_HEAD, *groups, _samples(), *map(_on_demand, (PacketRow, FlowRow))])


def _group(title: str, group: type[Record], note: str) -> str:
    kinds = [kind for kind in by_kind().values() if issubclass(kind, group)]
    return f"## {title}\n\n{note}\n\n" + "\n".join(_record(kind) for kind in sorted(kinds, key=_place))


def _place(kind: type[Record]) -> tuple[str, int]:
    """Return where a record is declared: the file, and the line in it."""
    return kind.__module__, inspect.getsourcelines(kind)[1]


def _record(kind: type[Record]) -> str:
    return f"### `{kind.__name__}`\n\n{inspect.getdoc(kind)}\n{_short_form(kind)}\n" + "\n".join(_table(kind)) + "\n"


def _short_form(kind: type[Record]) -> str:
    """Return when and how a record is abbreviated; empty for one that never is."""
    names = {field.name for field in fields_of(kind)}
    if kind.short is Short.NEVER or not names & {"nodes", "slots"}:
        return ""
    limit = f"{FULL_SLOTS} slots" if "slots" in names else f"{FULL_ROWS} nodes"
    return f"\nAbbreviated form (more than {limit}): {kind.short.value}.\n"


def _table(kind: type[Record]) -> Iterator[str]:
    if not fields_of(kind):
        yield "No fields."
        return
    yield from ("| field | type | unit | absent | meaning |", "|---|---|---|---|---|")
    for field in fields_of(kind):
        absent = f"`{json.dumps(plain(field.default))}`" if field.has_default else ""
        yield _row(f"`{field.name}`", _TYPES[field.type], _unit(field.unit), absent, field.meaning)


def _unit(unit: str) -> str:
    return "µs" if unit == "us" else unit


def _samples() -> str:
    rows = [
        _row(f"`{field.name}`", field.unit, "no" if field.has_default else "yes", field.meaning)
        for field in fields_of(SampleRow)
    ]
    head = "| column | unit | in every row | meaning |\n|---|---|---|---|\n"
    about = "Null means that the value was not measured. 0 means that it was measured and is zero."
    return f"## A row of `samples.parquet`\n\n{about}\n\n{head}" + "\n".join(rows) + "\n"


def _on_demand(kind: type[Record]) -> str:
    """Return the section of a table that a run writes on demand."""
    file = {PacketRow: "packets.parquet", FlowRow: "flows.parquet"}[kind]
    about_rows = (inspect.getdoc(kind) or "").replace("``", "`")
    about = (
        f"{about_rows} A run with `record_packets: true` (option `--packets`) writes the file. Times are ns "
        "since the start of the run. Null means that it did not happen."
    )
    rows = [_row(f"`{f.name}`", f.unit, "no" if f.has_default else "yes", f.meaning) for f in fields_of(kind)]
    head = "| column | unit | in every row | meaning |\n|---|---|---|---|\n"
    return f"## A row of `{file}`\n\n{about}\n\n{head}" + "\n".join(rows) + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(_escaped(cells)) + " |"


def _escaped(cells: Iterable[str]) -> Iterator[str]:
    return (cell.replace("|", r"\|") for cell in cells)


if __name__ == "__main__":
    sys.stdout.write(page())
