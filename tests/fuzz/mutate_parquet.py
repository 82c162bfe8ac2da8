"""Damage to Parquet files: other columns, types, values and orders, lying metadata, bombs."""

from __future__ import annotations

import io
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.fuzz import mutate_bytes, mutate_json

_TYPES = (
    *(pa.int8(), pa.int32(), pa.uint64(), pa.float32(), pa.float64(), pa.string(), pa.bool_(), pa.timestamp("ns")),
    *(pa.large_string(), pa.binary(), pa.decimal128(20, 2), pa.list_(pa.int64()), pa.struct([("x", pa.int64())])),
)
_INTEGERS = (-1, 0, 1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63))
_NAMES = ("", "n1", "n9", "x" * 5000, "\0", "é", "../n1", "</script>", None)


def mutate(content: bytes, rng: Random) -> bytes:
    """Return a Parquet file damaged once or twice."""
    if rng.random() < 0.4:
        return _near_the_end(content, rng) if rng.random() < 0.5 else mutate_bytes.mutate(content, rng)
    table = pq.read_table(io.BytesIO(content))
    for _ in range(rng.choice((1, 1, 2))):
        table = _changed(table, rng)
    return written(table, rng.choice(("zstd", "snappy", "gzip", "none", "brotli", "lz4")), rng.random() < 0.5)


def written(table: pa.Table, compression: str = "zstd", store_schema: bool = False) -> bytes:
    """Return a table as a Parquet file."""
    out = io.BytesIO()
    pq.write_table(table, out, compression=compression, store_schema=store_schema)
    return out.getvalue()


def _near_the_end(content: bytes, rng: Random) -> bytes:
    """Return the file with its footer damaged, which says where everything is."""
    size = int.from_bytes(content[-8:-4], "little") + 8
    head, footer = content[:-size], content[-size:]
    return head + mutate_bytes.mutate(footer, rng)


def _changed(table: pa.Table, rng: Random) -> pa.Table:
    index = rng.randrange(max(table.num_columns, 1))
    if not table.num_columns:
        return table
    match rng.randrange(9):
        case 0:
            return table.remove_column(index)
        case 1:
            return table.rename_columns([*_renamed(table.column_names, index, rng)])
        case 2:
            return _recast(table, index, rng.choice(_TYPES))
        case 3 | 4:
            return _with_value(table, index, rng)
        case 5:
            return table.take(pa.array(np.array(rng.sample(range(table.num_rows), table.num_rows), np.int64)))
        case 6:
            return (
                pa.concat_tables([table] * rng.choice((2, 3)))
                if rng.random() < 0.7
                else table.slice(0, rng.randrange(2))
            )
        case 7:
            return table.append_column("more", pa.array([[1]] * table.num_rows))
        case _:
            return _with_metadata(table, rng)


def _renamed(names: list[str], index: int, rng: Random) -> list[str]:
    return [*names[:index], rng.choice((names[0], names[-1], "", names[index] + "x", "x" * 1000)), *names[index + 1 :]]


def _replaced(table: pa.Table, index: int, values: Any) -> pa.Table:
    field = pa.field(table.schema.field(index).name, values.type, nullable=True)
    return table.set_column(index, field, values)


def _recast(table: pa.Table, index: int, kind: pa.DataType) -> pa.Table:
    try:
        return _replaced(table, index, table.column(index).cast(kind, safe=False))
    except (pa.ArrowException, ValueError):
        return _replaced(table, index, pa.nulls(table.num_rows, kind))


def _with_value(table: pa.Table, index: int, rng: Random) -> pa.Table:
    values, kind = table.column(index).to_pylist(), table.schema.field(index).type
    if not values:
        return table
    choices = (
        _NAMES if pa.types.is_string(kind) else (_INTEGERS if pa.types.is_integer(kind) else (float("nan"), 1e308))
    )
    everywhere, value, at = rng.random() < 0.2, rng.choice((*choices, None)), rng.randrange(len(values))
    values = [value] * len(values) if everywhere else [*values[:at], value, *values[at + 1 :]]
    try:
        return _replaced(table, index, pa.array(values, kind))
    except (pa.ArrowException, OverflowError):
        return _replaced(table, index, pa.nulls(len(values), kind))


def _with_metadata(table: pa.Table, rng: Random) -> pa.Table:
    known = dict(table.schema.metadata or {b"x": b"{}"})
    key = rng.choice(list(known))
    known[key] = mutate_json.mutate(known[key], rng)
    return table.replace_schema_metadata(known)
