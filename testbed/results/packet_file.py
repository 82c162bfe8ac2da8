"""``packets.parquet`` and ``flows.parquet`` as a reader takes them: the columns of `packet_rows`, checked."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from testbed.files import parquet
from testbed.files.parquet import Columns
from testbed.files.reading import Source
from testbed.records.packet_rows import FLOWS, LOST_AT, PACKETS

MAX_ROWS = 6_000_000  # 5 million planned packets, and what a random plan may have beyond
MAX_NAMES = 20_000  # nodes, clients, sources, addresses
MAX_NAME_CHARS = 64
_MAX_VALUE = 2**62
_REMEDY = "run the scenario with --packets"


def read_packets(source: Source) -> pa.Table:
    """Return ``packets.parquet``.

    Raises:
        InputError: when it is missing, unreadable, lacks a column or holds what cannot be.
    """
    return _read(source, PACKETS)


def read_flows(source: Source) -> pa.Table:
    """Return ``flows.parquet``; raises as `read_packets`."""
    return _read(source, FLOWS)


def _read(source: Source, schema: pa.Schema) -> pa.Table:
    if not source.exists():
        raise source.refusal("the run has no such file: it did not record its packets", _REMEDY)
    form = {field.name: field.type for field in schema}
    with parquet.opened(source, form, frozenset(form)) as file:
        if file.rows > MAX_ROWS:
            raise source.refusal(f"it declares {file.rows:,} rows, more than {MAX_ROWS:,}")
        columns = [_checked(file, field, source) for field in schema]
    return pa.table(columns, names=schema.names)


def _checked(file: Columns, field: pa.Field, source: Source) -> pa.ChunkedArray:
    column = file.read(field.name)
    if column.null_count and not field.nullable:
        raise source.refusal(f"the column {field.name} has {column.null_count:,} rows without a value")
    if pa.types.is_string(field.type):
        return _names(column, field.name, source)
    ends = pc.min_max(column)
    if len(column) > column.null_count and not 0 <= ends["min"].as_py() <= ends["max"].as_py() <= _MAX_VALUE:
        raise source.refusal(f"the column {field.name} has values from {ends['min']} to {ends['max']}")
    return column


def _names(column: pa.ChunkedArray, name: str, source: Source) -> pa.ChunkedArray:
    with parquet.refusing(source):
        column = column.unify_dictionaries()
        known = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    odd = [text for text in known if not (text and len(text) <= MAX_NAME_CHARS and text.isprintable())]
    if odd or len(known) > MAX_NAMES or len(set(known)) < len(known):
        raise source.refusal(f"the column {name} has texts that are no names, or thousands of them")
    if name == "lost" and (unknown := set(known) - set(LOST_AT)):
        raise source.refusal(f"the column lost has {min(unknown)!r}, which is none of {', '.join(LOST_AT)}")
    return column
