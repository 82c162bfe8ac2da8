"""Columns from a Parquet file that may come from elsewhere.

**Bounds.**  Equal values take next to nothing in the file and eight bytes each in memory, so the number of rows that
the footer declares is held against the bound before a column is read, and what was read is counted.  A page is unpacked
into as much memory as its own header declares; `pages` reads those headers first.  Text is read as numbers into a list
of the different texts, since one long text in a million rows would be a million long texts.

A file of ours is flat: no lists, no structures, no column twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from testbed.files import pages
from testbed.files.reading import Source

MAX_BYTES = 900 * 10**6  # of what is read of one file
MAX_FILE_BYTES = 4 * 10**9
_VALUE_BYTES = 8
_MAX_COLUMNS = 100
_MAX_TEXT_BYTES = 10**6
_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError, IndexError)

Form = Mapping[str, pa.DataType]


class Columns:
    """The columns of an open file; what is read is counted, and all of it stays below `most_bytes`.

    Attributes:
        names: of the columns.
        rows: how many there are.
        metadata: of the file, name to bytes.
    """

    def __init__(self, file: pq.ParquetFile, stream: Any, source: Source, most_bytes: int | None) -> None:
        self._file, self._stream, self._source = file, stream, source
        self._left_bytes = most_bytes
        self.names = tuple(file.schema_arrow.names)
        self.rows: int = file.metadata.num_rows
        self.metadata: Mapping[bytes, bytes] = file.schema_arrow.metadata or {}

    def read(self, name: str) -> pa.ChunkedArray:
        """Return a column; texts are dictionary-encoded.

        Raises:
            InputError: when it cannot be read, or more would be in memory than is allowed.
        """
        self._take(self.rows * _VALUE_BYTES)
        index = self.names.index(name)
        if self._left_bytes is not None:
            self._take(0 if _is_number(self._file.schema_arrow.types[index]) else _MAX_TEXT_BYTES)
            pages.check(self._stream, self._footer, index, self._source, name)
        with refusing(self._source):
            column = self._file.read([name], use_threads=False).column(0)
            column.validate(full=True)
        if len(column) != self.rows:
            raise self._source.refusal(f"the column {name} has {len(column):,} values, the file {self.rows:,} rows")
        return column

    @cached_property
    def _footer(self) -> pages.Footer:
        return pages.footer_of(self._stream, self._source)

    def give_back(self) -> None:
        """Say that the column read last was let go."""
        if self._left_bytes is not None:
            self._left_bytes += self.rows * _VALUE_BYTES

    def _take(self, n_bytes: int) -> None:
        if self._left_bytes is None:
            return
        self._left_bytes -= n_bytes
        if self._left_bytes < 0:
            raise self._source.refusal(f"its {self.rows:,} rows need more memory than {MAX_BYTES:,} bytes")


@contextmanager
def opened(
    source: Source, form: Form, required: frozenset[str], most_bytes: int | None = MAX_BYTES
) -> Iterator[Columns]:
    """Open a file for the block.

    Args:
        source: the file.
        form: the columns there may be, with their types.
        required: those there must be.
        most_bytes: bound of what is read; None for a file this process wrote itself.

    Raises:
        InputError: when it is no Parquet file, or not of that form.
    """
    with source.open() as stream:
        with refusing(source):
            texts = [name for name, kind in form.items() if pa.types.is_string(kind)]
            file = pq.ParquetFile(stream, read_dictionary=texts, pre_buffer=False)
        with file:
            _check_form(file, form, required, source)
            yield Columns(file, stream, source, most_bytes)


@contextmanager
def refusing(source: Source) -> Iterator[None]:
    """Turn whatever Arrow raises for a damaged file into a refusal."""
    try:
        yield
    except _ERRORS as error:
        words = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise source.refusal(f"it is not a readable Parquet file: {words}") from error


def numbers(column: pa.ChunkedArray, name: str, source: Source) -> np.ndarray[Any, Any]:
    """Return a column without nulls as an array.

    Raises:
        InputError: when it has a null.
    """
    if column.null_count:
        raise source.refusal(f"the column {name} has {column.null_count:,} rows without a value")
    return np.asarray(column.to_numpy())


def _check_form(file: pq.ParquetFile, form: Form, required: frozenset[str], source: Source) -> None:
    schema, declared = file.schema_arrow, file.metadata
    names = schema.names
    absent = sorted(required - set(names))
    if absent:
        raise source.refusal(f"it lacks the columns {', '.join(absent)}")
    if len(set(names)) < len(names) or len(names) > _MAX_COLUMNS:
        raise source.refusal("it has duplicate columns, or too many columns")
    for name in names:
        if name in form and (found := _type_of(schema.field(name).type)) != form[name]:
            raise source.refusal(f"the column {name} is of type {str(found)[:60]}, expected {form[name]}")
    rows = sum(declared.row_group(k).num_rows for k in range(declared.num_row_groups))
    if rows != declared.num_rows or rows < 0:
        raise source.refusal(f"it declares {declared.num_rows:,} rows, and {rows:,} in its parts")


def _type_of(found: pa.DataType) -> pa.DataType:
    return found.value_type if pa.types.is_dictionary(found) else found


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))
