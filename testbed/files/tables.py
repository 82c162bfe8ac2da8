"""Arrow tables written as files: Parquet, in row groups, or CSV."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from testbed.files import writing

_CSV_ROWS = 1 << 14
GROUP_ROWS = 1 << 20  # a request to stop waits for one of them


def write_parquet(
    table: pa.Table, path: Path, *, durable: bool = True, elsewhere: str = "choose another --out"
) -> Path:
    """Write a table and return the path: see `writing.replace`.

    Raises:
        ToolError: when the disk does not take it.
    """

    def into(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, table.schema) as writer:
            for first in range(0, max(table.num_rows, 1), GROUP_ROWS):
                writer.write_table(table.slice(first, GROUP_ROWS), row_group_size=GROUP_ROWS)

    return writing.replace(path, into, durable=durable, elsewhere=elsewhere)


def csv_texts(table: pa.Table) -> Iterator[str]:
    """Yield a table as CSV with a header, in parts of whole lines; null is an empty field."""
    plain = [f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in table.schema]
    whole = table.cast(pa.schema(plain))  # CSV knows no dictionaries
    yield ",".join(table.column_names) + "\n"
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")
    for first in range(0, table.num_rows, _CSV_ROWS):
        part = io.BytesIO()
        pyarrow.csv.write_csv(whole.slice(first, _CSV_ROWS), part, options)
        yield part.getvalue().decode()
