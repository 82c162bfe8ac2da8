"""A run directory as a reader sees it: finished, running, or left by a process that was killed.

A run whose manifest says ``running`` is alive only if the process that wrote it is: same process id, same start time
since boot, same boot.  Otherwise it was killed, and the reader says so instead of waiting for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from testbed.errors import InputError
from testbed.results.evidence import Evidence
from testbed.results.facts import RunFacts
from testbed.results.samples import REQUIRED, NodeSamples, by_node, by_node_from

SCHEMA_VERSION = 1
_REMEDY = "name a directory that `testbed run` made"
_STARTTIME_FIELD = 19  # of /proc/<pid>/stat, counted after the name in brackets: proc(5), field 22


@dataclass(frozen=True)
class RecordedRun:
    """Reader of one run directory.

    Attributes:
        path: the directory.
        manifest: ``manifest.json``.
    """

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> RecordedRun:
        """Return the reader of `path`.

        Raises:
            InputError: when it is no run directory, or of a schema this version does not know.
        """
        attempted = f"read run {path}"
        if not path.is_dir():
            raise InputError(attempted, "there is no such directory", _REMEDY)
        try:
            manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(attempted, "it has no manifest.json, so it is no run directory", _REMEDY) from None
        except (OSError, ValueError) as error:
            raise InputError(attempted, f"its manifest.json cannot be read: {error}", _REMEDY) from error
        if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA_VERSION or "status" not in manifest:
            found = manifest.get("schema") if isinstance(manifest, dict) else None
            happened = f"its manifest.json has schema {found!r}, this version reads {SCHEMA_VERSION}"
            raise InputError(attempted, happened, "use the version of the testbed that wrote it")
        return cls(path, manifest)

    @property
    def status(self) -> str:
        """Return ``running``, ``completed``, ``interrupted``, ``failed``, or ``killed`` when its process is gone."""
        status = str(self.manifest["status"])
        return "killed" if status == "running" and not is_alive(self.manifest.get("process", {})) else status

    @cached_property
    def facts(self) -> RunFacts:
        """Return the facts of the scenario.

        Raises:
            InputError: when the manifest holds none.
        """
        try:
            return RunFacts.from_record(self.manifest["facts"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"read run {self.path}", f"its manifest lacks facts ({error})", _REMEDY) from error

    @property
    def plan_hash(self) -> str | None:
        """Return the hash of the traffic plan, the proof that two runs saw the same traffic."""
        found = self.manifest.get("hashes", {}).get("plan")
        return None if found is None else str(found)

    def samples(self) -> pa.Table:
        """Return ``samples.parquet``.

        Raises:
            InputError: when it is missing, unreadable or lacks a column.
        """
        attempted = f"read {self.path / 'samples.parquet'}"
        try:
            with (self.path / "samples.parquet").open("rb") as file:  # Arrow takes a name with a colon for a URI
                table = pq.read_table(file)
        except FileNotFoundError:
            raise InputError(attempted, "there is no such file", _REMEDY) from None
        except (OSError, pa.ArrowException) as error:
            raise InputError(attempted, f"it is no readable Parquet file: {error}", _REMEDY) from error
        absent = REQUIRED - set(table.column_names)
        if absent:
            raise InputError(attempted, f"it lacks the columns {', '.join(sorted(absent))}", _REMEDY)
        return table

    def samples_by_node(self) -> dict[str, NodeSamples]:
        """Return ``samples.parquet`` by node, read column by column; a column the file lacks counts as null.

        Raises:
            InputError: as of `samples`.
        """
        try:
            with (self.path / "samples.parquet").open("rb") as opened, pq.ParquetFile(opened) as file:
                if (there := set(file.schema_arrow.names)) >= REQUIRED:
                    nulls = pa.chunked_array([pa.nulls(file.metadata.num_rows, pa.int64())])
                    return by_node_from(lambda name: file.read([name]).column(0) if name in there else nulls)
        except (OSError, pa.ArrowException):
            pass
        return by_node(self.samples())  # says what is wrong with the file

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the records of ``events.jsonl``; a last line cut off by a kill is left out.

        Raises:
            InputError: when the file is missing or a line in its middle is no JSON.
        """
        path = self.path / "events.jsonl"
        try:
            with path.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    if not line.endswith("\n"):
                        return
                    yield _event(path, number, line)
        except OSError as error:
            raise InputError(f"read {path}", str(error.strerror), _REMEDY) from error

    def document(self, name: str) -> dict[str, Any] | None:
        """Return a JSON file such as ``summary.json``, or None when the run did not get as far as writing it.

        Raises:
            InputError: when it is there but no JSON object.
        """
        path = self.path / name
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"read {path}", f"it is no readable JSON: {error}", _REMEDY) from error
        if not isinstance(value, dict):
            raise InputError(f"read {path}", "it holds no JSON object", _REMEDY)
        return value

    def evidence(self) -> Evidence | None:
        """Return what the engine handed over at the end, None for a run that had no end."""
        record = self.document("evidence.json")
        try:
            return None if record is None else Evidence.from_record(record)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"read {self.path / 'evidence.json'}", f"it is incomplete: {error}", _REMEDY) from error


def _event(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InputError(f"read {path}", f"line {number} is no JSON: {error}", _REMEDY) from error
    if not isinstance(record, dict):
        raise InputError(f"read {path}", f"line {number} is no JSON object", _REMEDY)
    return record


def process_identity() -> dict[str, Any]:
    """Return what tells this process from any other, also after its id is given out anew."""
    return {"pid": os.getpid(), "start_ticks": _start_ticks(os.getpid()), "boot": _boot()}


def is_alive(identity: Mapping[str, Any]) -> bool:
    """Tell whether the process that `process_identity` described still runs (on this machine, since its boot)."""
    pid = identity.get("pid")
    if not isinstance(pid, int) or identity.get("boot") != _boot():
        return False
    return _start_ticks(pid) is not None and _start_ticks(pid) == identity.get("start_ticks")


def _start_ticks(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[_STARTTIME_FIELD])


def _boot() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return None
