"""Every record says what its fields mean and in which unit, can be read back and replayed; the page is current.

A record that is declared anew is held against all of this by being in the registry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from testbed.files.event_records import READERS, from_record
from testbed.records import reference
from testbed.records.events import Doc, Event, Ints, LogEntry, Record, SampleRow, Short, fields_of, recast
from testbed.records.events.record import flaws
from testbed.records.registry import by_kind
from testbed.records.samples import COLUMNS, REQUIRED, SCHEMA
from testbed.records.written import DIGEST, FULL_ROWS, digest, in_short, written
from tests.test_events import EXAMPLES

ROOT = Path(__file__).parent.parent
ROWS = FULL_ROWS + 6
NODES = tuple(f"n{k + 1}" for k in range(ROWS))


@pytest.mark.parametrize("name", [*by_kind(), "SampleRow"])
def test_a_record_lacks_nothing(name: str) -> None:
    kind = SampleRow if name == "SampleRow" else by_kind()[name]
    assert flaws(kind) == []
    assert [field.name for field in fields_of(kind) if field.type not in READERS | {float | None: 0}] == []


def test_what_a_declaration_lacks_is_named() -> None:
    @dataclass(frozen=True, slots=True, eq=False, kw_only=True)
    class NodeVanished(Event):
        """A record without docs, unit and replay."""

        nodes: tuple[str, ...]
        left_bytes: Annotated[Ints, Doc("what it left")]
        why: Annotated[str, Doc("why")]

    @dataclass(slots=True, eq=False)
    class Changeable(LogEntry):
        """A record that can be changed."""

    @dataclass(frozen=True, slots=True, eq=False)
    class Positional(LogEntry):
        node: Annotated[str, Doc("the node", "name")]

    assert flaws(NodeVanished) == [
        "NodeVanished.nodes does not say what it means",
        "NodeVanished.nodes does not say its unit",
        "NodeVanished.why does not say its unit",
        "NodeVanished cannot be replayed: in short, it is no output of a policy",
    ]
    assert flaws(Changeable) == ["Changeable is no frozen dataclass"]
    assert flaws(Positional) == ["Positional can be made by position", "Positional has no docstring"]


def many(kind: type[Record]) -> Record:
    """Return a record of more rows than are written in full."""
    values: dict[str, Any] = {field.name: EXAMPLES[field.type] for field in fields_of(kind)}
    columns = {field.name: np.arange(ROWS).astype(EXAMPLES[field.type].dtype) for field in fields_of(kind)
               if isinstance(EXAMPLES[field.type], np.ndarray)}  # fmt: skip
    names = {name: NODES for name in ("nodes", "siblings", "slots") if name in values}
    return kind(**{**values, **columns, **names})


@pytest.mark.parametrize("name", by_kind())
def test_a_record_of_many_nodes_can_be_had_back(name: str) -> None:
    """In full, from the samples, or from what another policy answered."""
    record = many(by_kind()[name])
    line = json.loads(json.dumps(written(record)))
    if not in_short(line):
        assert from_record(line) == record
    elif record.short is Short.SAMPLES:
        assert DIGEST not in line
    elif isinstance(record, Event):
        sent = recast(record, by_kind()[record.sent_as])
        assert digest(sent) == line[DIGEST]
        assert recast(sent, type(record)) == record


def test_the_columns_of_samples_are_those_of_the_row() -> None:
    assert list(COLUMNS) == SCHEMA.names == [field.name for field in fields_of(SampleRow)]
    assert {name for name in REQUIRED if not SCHEMA.field(name).nullable} == REQUIRED
    assert all(SCHEMA.field(name).nullable for name in set(COLUMNS) - REQUIRED)


def test_the_reference_page_is_current() -> None:
    text = (ROOT / "docs" / "reference" / "records.md").read_text(encoding="utf-8")
    assert text == reference.page(), "the declarations of records have changed: run `make reference`"


def test_the_reference_page_names_every_record_and_field() -> None:
    text = reference.page()
    kinds: Mapping[str, type[Record]] = {**by_kind(), "SampleRow": SampleRow}
    missing = [f"{name}.{field.name}" for name, kind in kinds.items() for field in fields_of(kind)
               if f"| `{field.name}` |" not in text or field.meaning.replace("|", r"\|") not in text]  # fmt: skip
    assert missing == []
    assert [name for name in by_kind() if f"### `{name}`" not in text] == []
