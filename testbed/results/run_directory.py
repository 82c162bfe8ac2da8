"""The run directory, written while the trial runs.

What a killed run leaves is what reached the file system, so everything is written as it happens:

- ``manifest.json`` first, with status ``running`` and the identity of the writing process; atomically again at the end.
- ``events.jsonl`` in batches, at most 0.5 s old, each a single write that ends with a newline; a batch the disk did
  not take is cut back to the last whole line.
- ``samples.parquet`` as a whole file again and again (a Parquet file without its footer is unreadable), written beside
  and renamed over (`sample_writer`).  The next one waits for at least 1 s and 20 times the cost of the last: at most
  5 % of the writer's time however long the run.

Rows are sorted by time in the last rewrite and the file carries no clock, so equal runs give equal bytes.

What a power cut leaves matters at the end alone: a run that it cuts off is made again.  So the disk is waited for when
the run is over, once for all that was written on the way, and only then does the manifest say what became of it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from testbed.errors import InputError, ToolError
from testbed.files import writing
from testbed.results import recorded_run
from testbed.results.sample_writer import SampleWriter
from testbed.units import NS_PER_MS, NS_PER_S

FinalStatus = Literal["completed", "interrupted", "failed"]

EVENT_AGE_NS = 500 * NS_PER_MS
EVENT_BATCH_BYTES = 256 * 1024  # a batch is held in memory until it is this large or old
CHECKPOINT_PERIOD_NS = NS_PER_S
CHECKPOINT_SHARE = 20  # a rewrite may take one part in so many of the time

_LINE = json.JSONEncoder(separators=(",", ":"), allow_nan=False)

_WRITTEN_ON_THE_WAY = ("scenario.yaml", "plan.parquet", "events.jsonl", "samples.parquet")
_WRITTEN_ON_DEMAND = ("packets.parquet", "flows.parquet")


class RunDirectory:
    """Writer of one run directory; `create` makes it, `finish` completes it, `open` reads any.

    No file of it stays open between calls, so there is nothing to close.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], clock_ns: Callable[[], int]) -> None:
        self.path = path
        self.manifest = manifest
        self._clock_ns = clock_ns
        self._event_lines: list[bytes] = []
        self._event_bytes = 0
        self._events_due_ns = clock_ns() + EVENT_AGE_NS
        self._samples = SampleWriter(path / "samples.parquet", self._elsewhere)
        self._finished = False
        self._on_disk = "running"  # the status that the manifest in the directory has
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
            raise InputError("--out", f"{path} exists already", "choose a new directory, or remove that one")
        _make(path)
        full = {
            "schema": recorded_run.SCHEMA_VERSION,
            "status": "running",
            **manifest,
            "process": recorded_run.process_identity(),
        }
        run = cls(path, full, clock_ns)
        try:
            run.write_json("manifest.json", full, durable=False)
            writing.folder(path / "logs", elsewhere=run._elsewhere)
            run.write_text("events.jsonl", "", durable=False)
            run._samples.write()
        except BaseException as error:
            with suppress(ToolError):  # of two failures the first one is reported
                run.finish("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
            raise
        return run

    @staticmethod
    def open(path: Path) -> recorded_run.RecordedRun:
        """Return a reader of a run directory: see `recorded_run.RecordedRun.open`."""
        return recorded_run.RecordedRun.open(path)

    def write_text(self, name: str, text: str | bytes, *, durable: bool = True) -> Path:
        """Write a file of the directory and return its path: see `writing.replace`.

        Raises:
            ToolError: when it cannot be written; a former version of the file stays as it was.
        """
        return writing.replace(self.path / name, text, durable=durable, elsewhere=self._elsewhere)

    def write_json(self, name: str, value: Any, *, durable: bool = True, indent: int | None = 2) -> Path:
        """Write a value as JSON and return the path (NaN is refused); raises as `write_text`."""
        target = self.path / name
        return writing.replace_json(target, value, durable=durable, indent=indent, elsewhere=self._elsewhere)

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """Process sample rows as columns of equal length, for engines that hold arrays over nodes."""
        self._samples.append_columns(columns)

    def append_event(self, t_ns: int, record: Mapping[str, Any]) -> None:
        """Process one record for ``events.jsonl``: at most 0.5 s later it is in the file if `checkpoint` is called."""
        line = _LINE.encode({"t_ns": t_ns, **record}).encode() + b"\n"
        self._event_lines.append(line)
        self._event_bytes += len(line)
        if self._event_bytes >= EVENT_BATCH_BYTES or self._clock_ns() >= self._events_due_ns:
            self._flush_events()

    def checkpoint(self) -> bool:
        """Write what is due; cheap to call often.  Returns whether ``samples.parquet`` was rewritten.

        Raises:
            ToolError: when the disk does not take it; what was written before stays readable.
        """
        began_ns = self._clock_ns()
        if began_ns >= min(self._events_due_ns, self._checkpoint_due_ns):
            self._flush_events()  # before the samples: what they show shall have its decisions beside it
        if began_ns < self._checkpoint_due_ns:
            return False
        self._samples.write()
        now_ns = self._clock_ns()
        self._checkpoint_due_ns = now_ns + max(CHECKPOINT_PERIOD_NS, CHECKPOINT_SHARE * (now_ns - began_ns))
        return True

    def samples(self) -> pa.Table:
        """Return all rows taken in so far, ordered by time."""
        if not self._finished:
            self._samples.write()
        return self.open(self.path).samples()

    def finish(self, status: FinalStatus, **additions: Any) -> None:
        """Write everything that is left and the manifest with its final status; a second call corrects the first.

        `additions` are further keys of the manifest, such as ``ended_utc``.

        Raises:
            ToolError: when the disk does not take it.
        """
        self.manifest.update(additions, status=status)
        try:
            self.settle()
        except ToolError:
            self.manifest["status"] = "failed"
            raise
        finally:
            self._write_end()

    @property
    def _elsewhere(self) -> str:
        return f"choose another --out. What was written before remains readable: {self.path}"

    def _write_end(self) -> None:
        try:
            self.write_json("manifest.json", self.manifest)
            self._on_disk = str(self.manifest["status"])
        except ToolError:
            self._mark_failed()
            raise

    def _mark_failed(self) -> None:
        """Give the manifest that is there another status, on a disk that takes no new file."""
        old, new = (f'"status": "{status}"'.encode() for status in (self._on_disk, "failed"))
        writing.overwrite(self.path / "manifest.json", old, new.ljust(len(old)))

    def settle(self) -> None:
        """Write everything that was taken in; nothing more is to come but documents, and the final status.

        Raises:
            ToolError: when the disk does not take it.
        """
        self._flush_events()
        if not self._finished:
            self._samples.settle()
            self._finished = True
        there = (name for name in _WRITTEN_ON_DEMAND if (self.path / name).exists())
        writing.sync(self.path / name for name in (*_WRITTEN_ON_THE_WAY, *there))

    def _flush_events(self) -> None:
        data = b"".join(self._event_lines)
        self._event_lines, self._event_bytes = [], 0
        self._events_due_ns = self._clock_ns() + EVENT_AGE_NS
        if data:
            writing.append_lines(self.path / "events.jsonl", data, elsewhere=self._elsewhere)


def _make(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir()
    except OSError as error:
        if writing.is_full(error):
            raise writing.refusal(path, error, "choose another --out") from error
        raise InputError("--out", f"cannot make {path}: {error.strerror}", "choose a writable directory") from error
