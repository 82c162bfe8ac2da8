"""``samples.parquet`` as a reader takes it: the columns of `samples.COLUMNS`, checked value by value.

Checked is what every reader relies on: no required value missing or negative, no value that arithmetic in 64 bits could
not take, nodes with names.  The rows of a run that was killed lie in the order in which processes handed them over;
readers get them in the order of time.  Columns are read one at a time, as a large file never fits in memory whole; one
that is null throughout is let go at once.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from testbed.files import parquet
from testbed.files.parquet import Columns
from testbed.files.reading import Source
from testbed.records.samples import REQUIRED, SCHEMA, NodeSamples, by_node_from, in_order

FORM = {field.name: field.type for field in SCHEMA}
MAX_ROWS = 12_000_000  # of a file from elsewhere: what a report reads of it stays below 1 GB
MAX_NODES = 10_000
MAX_NAME_CHARS = 64
_MAX_VALUE = 2**62


def read_by_node(
    source: Source, columns: Collection[str] = FORM, *, most_bytes: int | None = parquet.MAX_BYTES
) -> dict[str, NodeSamples]:
    """Return the rows of each node; a column that the file lacks, or is not in `columns`, counts as null.

    Args:
        source: the file.
        columns: what the reader wants besides the required ones.
        most_bytes: bound of what is read; None for a file this process wrote itself.

    Raises:
        InputError: when the file is no such file, is damaged, or takes more memory than that.
    """
    with parquet.opened(source, FORM, REQUIRED, most_bytes) as file:
        if most_bytes is not None:
            _check_rows(file, source)
        nulls = pa.chunked_array([pa.nulls(file.rows, pa.int64())])

        def column(name: str) -> pa.ChunkedArray:
            if name not in file.names or name not in {*columns, *REQUIRED}:
                return nulls
            return _checked(file, name, source)

        return by_node_from(column)


def read_table(source: Source) -> pa.Table:
    """Return the whole file, rows in the order of time, as a table of the columns it has; raises as `read_by_node`."""
    with parquet.opened(source, FORM, REQUIRED) as file:
        _check_rows(file, source)
        known = [name for name in file.names if name in FORM]
        columns = [_checked(file, name, source).cast(FORM[name]) for name in known]
        schema = pa.schema([SCHEMA.field(name) for name in known])
        return in_order(pa.Table.from_arrays(columns, schema=schema))


def _check_rows(file: Columns, source: Source) -> None:
    if file.rows > MAX_ROWS:
        raise source.refusal(f"it declares {file.rows:,} rows, more than {MAX_ROWS:,}")


def _checked(file: Columns, name: str, source: Source) -> pa.ChunkedArray:
    column = file.read(name)
    if name == "node":
        return _nodes(column, source)
    if column.null_count == len(column) and name not in REQUIRED:
        file.give_back()
        return column
    if name in REQUIRED and column.null_count:
        raise source.refusal(f"the column {name} has {column.null_count:,} rows without a value")
    _check_bounds(column, name, source)
    return column


def _check_bounds(column: pa.ChunkedArray, name: str, source: Source) -> None:
    """Refuse values out of bounds and NaN."""
    if not len(column):
        return
    ends = pc.min_max(column)
    low, high = ends["min"].as_py(), ends["max"].as_py()
    if not (0 if name in REQUIRED else -_MAX_VALUE) <= low <= high <= _MAX_VALUE or _has_nan(column):
        raise source.refusal(f"the column {name} has values from {low} to {high}, or no numbers at all")


def _has_nan(column: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py())


def _nodes(column: pa.ChunkedArray, source: Source) -> pa.ChunkedArray:
    """Return the names of the nodes, one dictionary for all rows."""
    with parquet.refusing(source):
        names: Any = column.unify_dictionaries()
        known = names.chunk(0).dictionary.to_pylist() if names.num_chunks else []
    if column.null_count or len(known) > MAX_NODES or len(set(known)) < len(known):
        raise source.refusal("the column node has rows without a name, duplicate names, or thousands of names")
    odd = [name for name in known if not (name and len(name) <= MAX_NAME_CHARS and name.isprintable())]
    if odd:
        raise source.refusal(f"the column node has {odd[0][:MAX_NAME_CHARS]!r}, which is not a node name")
    return names
