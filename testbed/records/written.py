"""The written form of what every policy was given and what it answered, in ``events.jsonl``.

    {"t_ns": …, "policy": "brain:n1", "direction": "in" | "out", "kind": …, the fields of the event or action}

What happened beside the policies is written likewise, with the process that says so as ``policy``, or without, and
without a direction.

Both engines write this form.  A record of more rows than `FULL_ROWS` (or slots than `FULL_SLOTS`) is written *in
short*, if its declaration lets it (`Record.short`): kind, number of rows, scalars and the SHA-256 of its values.
Nothing is lost by that.  A `TrafficSampled` in short stands in full in ``samples.parquet``, in the rows of its instant;
every other input in short is the output of another policy, which a replay has made itself by then; an output needs only
to be compared, and the digest does that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from testbed.records.events import Action, Event, Record, Short, TrafficSampled, values_of

FULL_ROWS = 64
FULL_SLOTS = 256
DIGEST = "sha256"
OF_SITE = "/"  # between the name of a site and that of one of its policies

Direction = Literal["in", "out"]


def written(record: Record, policy: str = "", direction: Direction | None = None) -> dict[str, Any]:
    """Return the line of a record, but for its time.

    Args:
        record: what happened.
        policy: the policy that it is an input or output of, or the process that recorded it; empty: neither.
        direction: of an input or output.
    """
    form = written_form(record)
    if direction:
        return {"policy": policy, "direction": direction, **form}
    return {"policy": policy, **form} if policy else form


def written_form(record: Record) -> dict[str, Any]:
    """Return kind and fields of a record as they are written: in full or in short."""
    if record.short is Short.NEVER:
        return record.to_record()
    rows, slots = len(getattr(record, "nodes", ())), len(getattr(record, "slots", ()))
    if rows <= FULL_ROWS and slots <= FULL_SLOTS:
        return record.to_record()
    short: dict[str, Any] = {"kind": type(record).__name__, "rows": rows or slots}
    if isinstance(record, TrafficSampled):
        return {**short, "interval_ns": record.interval_ns}
    return {**short, DIGEST: digest(record)}


def direction_of(record: Record) -> Direction | None:
    """Return whether a record of the one policy of its process went in or came out; None beside the policy."""
    if isinstance(record, Event):
        return "in"
    return "out" if isinstance(record, Action) else None


def own_name(policy: str) -> str:
    """Return the name of a policy without that of its site (`OF_SITE`)."""
    return policy.rpartition(OF_SITE)[2]


def is_a(line: Mapping[str, Any], *kinds: type[Record]) -> bool:
    """Return whether a written line is a record of one of these kinds."""
    return any(line.get("kind") == kind.__name__ for kind in kinds)


def in_short(line: Mapping[str, Any]) -> bool:
    """Return whether a written record is one in short."""
    return "rows" in line


def digest(record: Record) -> str:
    """Return the SHA-256 of the values of an event or action; its kind is not part of it."""
    state = hashlib.sha256()
    for value in values_of(record).values():
        if isinstance(value, np.ndarray):
            state.update(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).data)
        else:
            state.update(repr(value).encode())
        state.update(b"\0")
    return state.hexdigest()
