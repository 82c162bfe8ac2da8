"""Events and actions: every kind survives its written form, and equality is by content."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from testbed.files.event_records import from_record
from testbed.records import events
from testbed.records.events import Action, Event, Record

KINDS = sorted(name for name, kind in Record.kinds.items() if kind not in (Event, Action))
EXAMPLES = {
    "FiveTuple": ("10.0.16.1", "10.0.0.100", 17, 1000, 9000),
    "tuple[str, ...]": ("n1", "n2"),
    "tuple[int, ...]": (10_000_000, 50_000_000),
    "Ints": np.array([1, 2**60], dtype=np.int64),
    "Floats": np.array([0.25, 1.0]),
    "int": 7,
    "float": 0.5,
    "str": "n1",
    "bool": True,
}


def example(kind: type[Record]) -> Record:
    """Return a record of `kind` with a value in every field."""
    values = {field.name: EXAMPLES[str(field.type).removesuffix(" | None")] for field in dataclasses.fields(kind)}
    return kind(**values)


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_survives_json(name):
    record = example(Record.kinds[name])
    written = json.loads(json.dumps(record.to_record()))
    assert written["kind"] == name
    assert from_record(written) == record


@pytest.mark.parametrize("name", KINDS)
def test_arrays_come_back_as_arrays_of_their_type(name):
    record = example(Record.kinds[name])
    back = from_record(json.loads(json.dumps(record.to_record())))
    for field in dataclasses.fields(type(record)):
        before, after = getattr(record, field.name), getattr(back, field.name)
        assert type(after) is type(before)
        assert getattr(after, "dtype", None) == getattr(before, "dtype", None)


def test_fields_of_the_log_are_left_out():
    left = events.NodeLeft("n2", "port")
    assert from_record({"t_ns": 5, "who": "balancer", **left.to_record()}) == left


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="NodeVanished"):
        from_record({"kind": "NodeVanished"})


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        events.NodeJoined("n1").node = "n2"


def test_equality_is_by_kind_and_content():
    def limit(value):
        return events.SetBufferLimit(("n1",), np.array([value]))

    assert limit(1) == limit(1)
    assert hash(limit(1)) == hash(limit(1))
    assert limit(1) != limit(2)
    assert events.RemoveNode("n1") != events.RestoreNode("n1")


def test_numpy_scalars_are_written_as_plain_values():
    written = events.LimitGranted(("n1",), np.array([3], dtype=np.int64)).to_record()
    assert json.dumps(written) == '{"kind": "LimitGranted", "nodes": ["n1"], "granted_bytes": [3]}'
