"""The written form of what every policy was given and what it answered, in ``events.jsonl``.

    {"t_ns": …, "policy": "brain:n1", "direction": "in" | "out", "kind": …, the fields of the event or action}

Both engines write this form.  A record of more rows than `FULL_ROWS` (or slots than `FULL_SLOTS`) is written *in
short*: kind, number of rows, scalars and the SHA-256 of its values.  Nothing is lost by that.  A `TrafficSampled` in
short stands in full in ``samples.parquet``, in the rows of its instant; every other input in short is the output of
another policy, which a replay has made itself by then; an output needs only to be compared, and the digest does that.
`SetBufferLimit` is always written in full, because the figures of a run are read from it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np

from testbed.records.events import PeersAssessed, Record, SetBufferLimit, TrafficSampled

FULL_ROWS = 64
FULL_SLOTS = 256
DIGEST = "sha256"

Direction = Literal["in", "out"]


def written(record: Record) -> dict[str, Any]:
    """Return the form in which an event or action is written."""
    rows = len(getattr(record, "nodes", ()))
    slots = len(getattr(record, "slots", ()))
    if (rows <= FULL_ROWS and slots <= FULL_SLOTS) or isinstance(record, (PeersAssessed, SetBufferLimit)):
        return record.to_record()
    short: dict[str, Any] = {"kind": type(record).__name__, "rows": rows or slots}
    if isinstance(record, TrafficSampled):
        return {**short, "interval_ns": record.interval_ns}
    return {**short, DIGEST: digest(record)}


def in_short(line: Mapping[str, Any]) -> bool:
    """Tell whether a written record is one in short."""
    return "rows" in line


def digest(record: Record) -> str:
    """Return the SHA-256 of the values of an event or action; its kind is not part of it."""
    state = hashlib.sha256()
    for field in dataclasses.fields(cast(Any, record)):
        value = getattr(record, field.name)
        if isinstance(value, np.ndarray):
            state.update(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).data)
        else:
            state.update(repr(value).encode())
        state.update(b"\0")
    return state.hexdigest()
