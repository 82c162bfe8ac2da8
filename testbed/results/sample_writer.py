"""``samples.parquet`` during the run: readable at any time, and no more rows in memory than a few row groups.

Rows come nearly in the order of time.  As soon as there are two row groups of them the earlier one is *sealed*: it is
encoded once and lies in an anonymous file, which is gone with this process.  To write the file is to copy that one, as
bytes, and to add what is not sealed yet and a footer (`row_groups`); the new file is renamed over the former one.  So
neither memory nor the time for encoding grows with the run, only what is copied does.

At the end all rows are in the order of time.  One that came later than a sealed row of a later time (from a process
that was stopped for minutes) makes the writer sort all of them once more.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from testbed.files import row_groups, writing
from testbed.files.reading import Source
from testbed.files.row_groups import MAGIC, RowGroup
from testbed.records.samples import SCHEMA, in_order, table_of
from testbed.results import sample_file

ROW_GROUP_ROWS = 1 << 16
MANY_TABLES = 256  # more pieces than this are joined, or a long run spends its time on their seams


class SampleWriter:
    """Takes in rows and writes them into one file.

    Args:
        path: of the file.
        elsewhere: what else than making room helps on a full disk.
    """

    def __init__(self, path: Path, elsewhere: str) -> None:
        self._path, self._elsewhere = path, elsewhere
        self._tables: list[pa.Table] = []
        self._waiting_rows = 0  # in the tables
        self._sealed: list[RowGroup] = []
        self._sealed_file: BinaryIO | None = None
        self._sealed_bytes = len(MAGIC)
        self._sealed_ns = 0  # the latest time that is sealed
        self._ordered = True
        self._written_rows = -1

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return sum(group.rows for group in self._sealed) + self._waiting_rows

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """Process rows as columns of equal length."""
        self._add(table_of(columns))

    def write(self) -> None:
        """Put all rows into the file, unless they are there already.

        Raises:
            ToolError: when the disk does not take them; the former file stays.
        """
        if self.rows == self._written_rows:
            return
        writing.replace(self._path, self._into, durable=False, elsewhere=self._elsewhere)
        self._written_rows = self.rows

    def settle(self) -> None:
        """Put all rows into the file in the order of time, in row groups of equal size; there are no more to come.

        Raises:
            ToolError: when the disk does not take them.
        """
        self._note_order(self._waiting())
        if not self._ordered:
            self._sort_all()
        self._seal(1)
        self._written_rows = -1
        self.write()
        self._forget_sealed()

    def _add(self, table: pa.Table) -> None:
        self._tables.append(table)
        self._waiting_rows += table.num_rows
        if len(self._tables) > MANY_TABLES:
            self._tables = [pa.concat_tables(self._tables).combine_chunks()]
        self._seal(2 * ROW_GROUP_ROWS)

    def _waiting(self) -> pa.Table:
        return in_order(pa.concat_tables(self._tables)) if self._tables else SCHEMA.empty_table()

    def _seal(self, least_rows: int) -> None:
        """Seal row groups as long as so many rows wait."""
        while self._waiting_rows >= least_rows:
            table = self._waiting()
            self._note_order(table)
            self._seal_group(table.slice(0, ROW_GROUP_ROWS))
            rest = table.slice(ROW_GROUP_ROWS).combine_chunks()
            self._tables, self._waiting_rows = [rest], rest.num_rows

    def _seal_group(self, table: pa.Table) -> None:
        content, group = row_groups.row_group(table, self._sealed_bytes)
        with writing.attempting(self._path, self._elsewhere):
            if self._sealed_file is None:
                self._sealed_file = tempfile.TemporaryFile(dir=self._path.parent, buffering=0)  # noqa: SIM115
                weakref.finalize(self, self._sealed_file.close)
                self._sealed_file.write(MAGIC)
            self._sealed_file.seek(self._sealed_bytes)
            _write_all(self._sealed_file, content)
        self._sealed.append(group)
        self._sealed_bytes += len(content)
        self._sealed_ns = table.column("t_ns")[-1].as_py()

    def _note_order(self, table: pa.Table) -> None:
        self._ordered = self._ordered and (not table.num_rows or table.column("t_ns")[0].as_py() >= self._sealed_ns)

    def _sort_all(self) -> None:
        self._written_rows = -1
        self.write()
        if self.rows > sample_file.MAX_ROWS:
            return  # nobody reads that many
        table = sample_file.read_table(Source(self._path, "make room in memory"))
        self._forget_sealed()
        self._tables, self._waiting_rows, self._ordered = [table], table.num_rows, True

    def _forget_sealed(self) -> None:
        if self._sealed_file is not None:
            self._sealed_file.close()
        self._sealed, self._sealed_file, self._sealed_bytes, self._sealed_ns = [], None, len(MAGIC), 0

    def _into(self, file: BinaryIO) -> None:
        groups = list(self._sealed)
        if self._sealed_file is None:
            file.write(MAGIC)
        else:
            self._sealed_file.seek(0)
            shutil.copyfileobj(self._sealed_file, file, 1 << 20)
        if self._waiting_rows:
            content, group = row_groups.row_group(self._waiting(), self._sealed_bytes)
            file.write(content)
            groups.append(group)
        file.write(row_groups.footer(SCHEMA, groups))


def _write_all(file: BinaryIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
