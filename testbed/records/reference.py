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
| `kind` | name | which of the records below; the other fields are those of the record |
| `policy` | name | see the next table |
| `direction` | `in` or `out` | of an input or output of a policy; absent in all other lines |

| `policy` | the line is of |
|---|---|
| `brain:n1` | the brain of node `n1`; in a simulation also `brain:n1-n8` (of these nodes) and `brain` (of all nodes) |
| `pool` | the shared memory that grants buffer limits |
| `balancer` | the balancer policy, and the controller that runs it |
| `deflection` | the policy that names siblings |
| `mesh` | the failure detector in the controller |
| `mesh:n1` | the mesh member of `n1` |
| `lifecycle` | the stages of all nodes (`AddOrdered`, `SizeOrdered`, `StartNode`): part of the orchestrator |
| `autoscaler` | the rule that decides the number of nodes (`LoadMeasured`, `ScaleDecided`): part of the orchestrator |
| absent | a fault, a TCP source, or an agent that reports a lost notification or a new sibling |

The *orchestrator* starts and stops nodes: it carries out `add` and `drain` of the scenario and the decisions of the
autoscaler. It announces the lifecycle states of all nodes. A `StagesAnnounced` line of `balancer`, `mesh` or `mesh:n1`
means that this recipient has received such an announcement. The *brain* of a node is its policy: precursors, forecast,
sizing rule.

For example, the brain of `n1` set its limit to 1,242,185 bytes at 1.33 s:

    {{"t_ns":1330000000,"policy":"brain:n1","direction":"out","kind":"SetBufferLimit","nodes":["n1"],"limit_bytes":[1242185]}}

A record of more than {FULL_ROWS} nodes (or {FULL_SLOTS} slots) has an abbreviated form where its section says so: the
fields are left out, `rows` is their number and `sha256` the digest of their values.

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
    return "\n".join([_HEAD, *groups, _samples()])


def _group(title: str, group: type[Record], note: str) -> str:
    kinds = [kind for kind in by_kind().values() if issubclass(kind, group)]
    return f"## {title}\n\n{note}\n\n" + "\n".join(_record(kind) for kind in sorted(kinds, key=_place))


def _place(kind: type[Record]) -> tuple[str, int]:
    """Return where a record is declared: the file, and the line in it."""
    return kind.__module__, inspect.getsourcelines(kind)[1]


def _record(kind: type[Record]) -> str:
    short = "" if kind.short is Short.NEVER or not _may_be_long(kind) else f"\nAbbreviated form: {kind.short.value}.\n"
    return f"### `{kind.__name__}`\n\n{inspect.getdoc(kind)}\n{short}\n" + "\n".join(_table(kind)) + "\n"


def _may_be_long(kind: type[Record]) -> bool:
    return any(field.name in ("nodes", "slots") for field in fields_of(kind))


def _table(kind: type[Record]) -> Iterator[str]:
    if not fields_of(kind):
        yield "No fields."
        return
    yield from ("| field | type | unit | absent | meaning |", "|---|---|---|---|---|")
    for field in fields_of(kind):
        absent = f"`{json.dumps(plain(field.default))}`" if field.has_default else ""
        yield _row(f"`{field.name}`", _TYPES[field.type], field.unit, absent, field.meaning)


def _samples() -> str:
    rows = [
        _row(f"`{field.name}`", field.unit, "no" if field.has_default else "yes", field.meaning)
        for field in fields_of(SampleRow)
    ]
    head = "| column | unit | in every row | meaning |\n|---|---|---|---|\n"
    about = "Null means that the value was not measured. 0 means that it was measured and is zero."
    return f"## A row of `samples.parquet`\n\n{about}\n\n{head}" + "\n".join(rows) + "\n"


def _row(*cells: str) -> str:
    return "| " + " | ".join(_escaped(cells)) + " |"


def _escaped(cells: Iterable[str]) -> Iterator[str]:
    return (cell.replace("|", r"\|") for cell in cells)


if __name__ == "__main__":
    sys.stdout.write(page())
