"""Events and actions: every kind survives its written form, and equality is by content."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from testbed.files.event_records import from_record
from testbed.records import events
from testbed.records.events import FiveTuple, Floats, Ints, Record, fields_of
from testbed.records.registry import by_kind

KINDS = sorted(by_kind())
EXAMPLES = {
    FiveTuple: ("10.0.16.1", "10.0.0.100", 17, 1000, 9000),
    tuple[str, ...]: ("n1", "n2"),
    tuple[int, ...]: (10_000_000, 50_000_000),
    dict[str, int]: {"forged": 2},
    Ints: np.array([1, 2**60], dtype=np.int64),
    Floats: np.array([0.25, 1.0]),
    int: 7,
    float: 0.5,
    str: "n1",
}
EXAMPLES |= {kind | None: value for kind, value in EXAMPLES.items() if kind not in (Ints, Floats)}


def example(kind: type[Record]) -> Record:
    """Return a record of `kind` with a value in every field."""
    return kind(**{field.name: EXAMPLES[field.type] for field in fields_of(kind)})


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_survives_json(name):
    record = example(by_kind()[name])
    written = json.loads(json.dumps(record.to_record()))
    assert written["kind"] == name
    assert from_record(written) == record


@pytest.mark.parametrize("name", KINDS)
def test_arrays_come_back_as_arrays_of_their_type(name):
    record = example(by_kind()[name])
    back = from_record(json.loads(json.dumps(record.to_record())))
    for field in dataclasses.fields(type(record)):
        before, after = getattr(record, field.name), getattr(back, field.name)
        assert type(after) is type(before)
        assert getattr(after, "dtype", None) == getattr(before, "dtype", None)


def test_fields_of_the_log_are_left_out():
    left = events.NodeLeft(node="n2", reason="port")
    assert from_record({"t_ns": 5, "who": "balancer", **left.to_record()}) == left


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="NodeVanished"):
        from_record({"kind": "NodeVanished"})


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        events.NodeJoined(node="n1").node = "n2"


def test_equality_is_by_kind_and_content():
    def limit(value):
        return events.SetBufferLimit(nodes=("n1",), limit_bytes=np.array([value]))

    assert limit(1) == limit(1)
    assert hash(limit(1)) == hash(limit(1))
    assert limit(1) != limit(2)
    assert events.RemoveNode(node="n1") != events.RestoreNode(node="n1")


def test_numpy_scalars_are_written_as_plain_values():
    written = events.LimitGranted(nodes=("n1",), granted_bytes=np.array([3], dtype=np.int64)).to_record()
    assert json.dumps(written) == '{"kind": "LimitGranted", "nodes": ["n1"], "granted_bytes": [3]}'
