"""The reference page of what a scenario may name, made from the tables: ``make reference`` writes it.

python -m testbed.scenario.reference > docs/reference/choices.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from testbed.registry import Registry
from testbed.scenario.fault_kinds import FAULT_KINDS, FaultKind
from testbed.scenario.tables import (
    AUTOSCALER_POLICIES,
    BALANCER_POLICIES,
    BUFFER_POLICIES,
    PLACEMENT_POLICIES,
    TOPOLOGIES,
    TRAFFIC_SHAPES,
    Traits,
)

_HEAD = """\
<!-- made by `make reference` from the rows of the tables in testbed/scenario; do not edit -->

# Policies, topologies, traffic shapes and faults
"""
_TABLES: tuple[tuple[str, str, Registry[Traits]], ...] = (
    ("Buffer policies", "`buffer.policy`", BUFFER_POLICIES),
    ("Balancer policies", "`balancer.policy`", BALANCER_POLICIES),
    ("Autoscaler policies", "`autoscaler.policy`", AUTOSCALER_POLICIES),
    ("Placement policies", "`placement.policy`", PLACEMENT_POLICIES),
    ("Topology families", "`topology.family`", TOPOLOGIES),
    ("Traffic shapes", "`traffic.shape`", TRAFFIC_SHAPES),
)
_NOTES = {"Traffic shapes": "`tcp` and `trace` are not in this table; see [scenario.md](scenario.md).\n"}


def page() -> str:
    """Return the page, as Markdown."""
    parts = [_table(title, key, table) + _NOTES.get(title, "") for title, key, table in _TABLES]
    return "\n".join([_HEAD, *parts, "## Faults\n", *fault_table(), "", *_refused(FAULT_KINDS.values()), ""])


def fault_table() -> Iterator[str]:
    """Yield the lines of the table of faults, which the page on scenarios has, too."""
    yield from ("| fault | effect | ended by |", "|---|---|---|")
    healers = {row.heals: row for row in FAULT_KINDS.values() if row.heals}
    for row in FAULT_KINDS.values():
        if not row.heals:
            keys = "".join(f", `{key}: {example}`" for key, example in row.needs.items() if key != "for")
            yield f"| `{row.key}: {row.example}`{keys} | {row.breaks} | {_healing(row, healers.get(row.name))} |"


def _healing(row: FaultKind, healer: FaultKind | None) -> str:
    if not row.lasts:
        return "–"
    if healer is not None:
        return f"`for`, or `{healer.key}: {healer.example}`"
    return "`for` (required)" if "for" in row.needs else "`for`"


def _table(title: str, key: str, table: Registry[Traits]) -> str:
    lines = [f"## {title}\n", f"| {key} | description | source |", "|---|---|---|"]
    lines += [f"| `{row.name}` | {row.doc} | {row.source} |" for row in table]
    return "\n".join([*lines, "", *_refused(table), ""])


def _refused(rows: Iterable[Traits | FaultKind]) -> Iterator[str]:
    for row in rows:
        yield from (f"The {engine} refuses `{row.name}`: {why}.\n" for engine, why in row.refused_by.items())


if __name__ == "__main__":
    sys.stdout.write(page())
