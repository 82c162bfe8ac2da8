"""The run directory, written while the trial runs.

What a killed run leaves is what reached the file system, so everything is written as it happens:

- ``manifest.json`` first, with status ``running`` and the identity of the writing process; atomically again at the end.
- ``events.jsonl`` in batches, at most 0.5 s old, each a single write that ends with a newline; a batch the disk did
  not take is cut back to the last whole line.
- ``samples.parquet`` as a whole file again and again (a Parquet file without its footer is unreadable), written beside
  and renamed over.  A rewrite costs as much as all rows so far, so the next one waits for at least 1 s and 20 times the
  cost of the last: at most 5 % of the writer's time however long the run.

Rows are sorted by time in the last rewrite and the file carries no clock, so equal runs give equal bytes.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from testbed.errors import InputError, ToolError
from testbed.results import recorded_run
from testbed.results.samples import COLUMNS, SCHEMA, in_order, table_of
from testbed.units import NS_PER_MS, NS_PER_S

FinalStatus = Literal["completed", "interrupted", "failed"]

SCHEMA_VERSION = 1
EVENT_AGE_NS = 500 * NS_PER_MS
EVENT_BATCH_BYTES = 256 * 1024  # a batch is held in memory until it is this large or old
CHECKPOINT_PERIOD_NS = NS_PER_S
CHECKPOINT_SHARE = 20  # a rewrite may take one part in so many of the time
ROW_GROUP_ROWS = 1 << 17
MANY_TABLES = 256  # more pieces than this are joined, or a long run spends its time on their seams

Rows = Sequence[Mapping[str, Any]]


class RunDirectory:
    """Writer of one run directory; `create` makes it, `finish` completes it, `open` reads any.

    No file stays open between calls, so there is nothing to close.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], clock_ns: Callable[[], int]) -> None:
        self.path = path
        self.manifest = manifest
        self._clock_ns = clock_ns
        self._event_lines: list[bytes] = []
        self._event_bytes = 0
        self._events_due_ns = clock_ns() + EVENT_AGE_NS
        self._tables: list[pa.Table] = []
        self._rows: list[Mapping[str, Any]] = []
        self._checkpointed_rows = 0
        self._finished = False
        self._checkpoint_due_ns = clock_ns() + CHECKPOINT_PERIOD_NS

    @classmethod
    def create(
        cls, path: Path, manifest: Mapping[str, Any], *, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> RunDirectory:
        """Make the directory, write its manifest with status ``running`` and return the writer.

        `manifest` is what `provenance.collect` gave; the status, the schema and the process are added here.

        Raises:
            InputError: when the directory exists or cannot be made.
            ToolError: when the manifest cannot be written.
        """
        if os.path.lexists(path):
            raise InputError("--out", f"{path} exists already", "name a new directory, or remove that one")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except OSError as error:
            raise InputError("--out", f"cannot make {path}: {error.strerror}", "name a writable place") from error
        (path / "logs").mkdir()
        full = {"schema": SCHEMA_VERSION, "status": "running", **manifest, "process": recorded_run.process_identity()}
        run = cls(path, full, clock_ns)
        run.write_json("manifest.json", full)
        run.write_text("events.jsonl", "")
        run._write_samples(SCHEMA.empty_table())
        return run

    @staticmethod
    def open(path: Path) -> recorded_run.RecordedRun:
        """Return a reader of a run directory: see `recorded_run.RecordedRun.open`."""
        return recorded_run.RecordedRun.open(path)

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the directory atomically and return its path; bytes that are no text become escapes.

        Raises:
            ToolError: when it cannot be written; a former version of the file stays as it was.
        """
        target = self.path / name
        _replace(target, lambda beside: beside.write_text(text, encoding="utf-8", errors="backslashreplace"))
        return target

    def write_json(self, name: str, value: Any) -> Path:
        """Write a value as indented JSON, atomically, and return the path (NaN is refused)."""
        return self.write_text(name, json.dumps(value, indent=2, allow_nan=False) + "\n")

    def append_samples(self, rows: Rows) -> None:
        """Take in sample rows: mappings with the required columns of `samples.COLUMNS` and any of the others."""
        self._rows.extend(rows)

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """Take in sample rows as columns of equal length, for engines that hold arrays over nodes."""
        self._gather_rows()
        self._tables.append(table_of(columns))

    def append_event(self, t_ns: int, record: Mapping[str, Any]) -> None:
        """Take in one record for ``events.jsonl``: at most 0.5 s later it is in the file if `checkpoint` is called."""
        line = json.dumps({"t_ns": t_ns, **record}, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        self._event_lines.append(line)
        self._event_bytes += len(line)
        if self._event_bytes >= EVENT_BATCH_BYTES or self._clock_ns() >= self._events_due_ns:
            self._flush_events()

    def append_events(self, batch: Iterable[tuple[int, Mapping[str, Any]]]) -> None:
        """Take in records in the order given."""
        for t_ns, record in batch:
            self.append_event(t_ns, record)

    def checkpoint(self) -> bool:
        """Write what is due; cheap to call often.  Tells whether ``samples.parquet`` was rewritten.

        Raises:
            ToolError: when the disk does not take it; what was written before stays readable.
        """
        began_ns = self._clock_ns()
        if began_ns >= min(self._events_due_ns, self._checkpoint_due_ns):
            self._flush_events()  # before the samples: what they show shall have its decisions beside it
        if began_ns < self._checkpoint_due_ns:
            return False
        table = self._table()
        if table.num_rows > self._checkpointed_rows:
            self._write_samples(table)
            self._checkpointed_rows = table.num_rows
        now_ns = self._clock_ns()
        self._checkpoint_due_ns = now_ns + max(CHECKPOINT_PERIOD_NS, CHECKPOINT_SHARE * (now_ns - began_ns))
        return True

    def samples(self) -> pa.Table:
        """Return all rows taken in so far, ordered by time."""
        return self.open(self.path).samples() if self._finished else in_order(self._table())

    def finish(self, status: FinalStatus, **additions: Any) -> None:
        """Write everything that is left and the manifest with its final status; a second call corrects the first.

        `additions` are further keys of the manifest, such as ``ended_utc``.

        Raises:
            ToolError: when the disk does not take it.
        """
        self.manifest.update(additions, status=status)
        try:
            self._flush_events()
            if not self._finished:
                self._write_samples(self.samples())
                self._tables, self._finished = [], True  # who reads on has the file, and the memory
        except ToolError:
            self.manifest["status"] = "failed"
            raise
        finally:
            self.write_json("manifest.json", self.manifest)

    def _gather_rows(self) -> None:
        if self._rows:
            rows, self._rows = self._rows, []
            unknown = set().union(*rows) - set(COLUMNS)
            if unknown:
                raise KeyError(f"unknown columns {sorted(unknown)}")
            self._tables.append(table_of({name: _column(rows, name) for name in COLUMNS}))

    def _table(self) -> pa.Table:
        self._gather_rows()
        if len(self._tables) > MANY_TABLES:
            self._tables = [pa.concat_tables(self._tables).combine_chunks()]
        return pa.concat_tables(self._tables) if self._tables else SCHEMA.empty_table()

    def _write_samples(self, table: pa.Table) -> None:
        _replace(
            self.path / "samples.parquet",
            lambda beside: _write_in_groups(table, beside),
        )

    def _flush_events(self) -> None:
        data = b"".join(self._event_lines)
        self._event_lines, self._event_bytes = [], 0
        self._events_due_ns = self._clock_ns() + EVENT_AGE_NS
        if data:
            _attempt(self.path / "events.jsonl", lambda target: _append_whole(target, data))


def _write_in_groups(table: pa.Table, path: Path) -> None:
    """Write row group by row group: the bytes do not depend on how the rows came, and only one group is copied.

    The file is opened here: Arrow takes a name with a colon for a URI, and refuses one that is no text.
    """
    with (
        path.open("wb") as file,
        pq.ParquetWriter(file, table.schema, compression="zstd", store_schema=False) as writer,
    ):
        for first in range(0, max(table.num_rows, 1), ROW_GROUP_ROWS):
            writer.write_table(table.slice(first, ROW_GROUP_ROWS).combine_chunks(), row_group_size=ROW_GROUP_ROWS)


def _column(rows: Rows, name: str) -> list[Any] | None:
    values = [row.get(name) for row in rows]
    return values if any(value is not None for value in values) else None


def _append_whole(target: Path, data: bytes) -> None:
    """Append `data`, or as many whole lines of it as the disk takes before it raises."""
    with target.open("ab", buffering=0) as file:
        start, written = file.tell(), 0
        try:
            while written < len(data):
                written += file.write(data[written:])
        except OSError:
            file.truncate(start + data.rfind(b"\n", 0, written) + 1)
            raise


def _replace(target: Path, write: Callable[[Path], Any]) -> None:
    beside = target.with_name(f".{target.name}.new")

    def write_and_rename(_: Path) -> None:
        try:
            write(beside)
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    _attempt(target, write_and_rename)


def _attempt(target: Path, action: Callable[[Path], Any]) -> Any:
    try:
        return action(target)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        remedy = "make room on the disk or choose another --out" if full else "look after the disk and the directory"
        raise ToolError(
            f"write {target.name}",
            error.strerror or str(error),
            f"{remedy}. What was written before stays readable: {target.parent}",
        ) from error
