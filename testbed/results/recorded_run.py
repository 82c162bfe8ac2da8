"""A run directory as a reader sees it: finished, running, or left by a process that was killed.

A run whose manifest says ``running`` is alive only if the process that wrote it is: same process id, same start time
since boot, same boot.  Otherwise it was killed, and the reader says so instead of waiting for it.

A run directory may come from elsewhere.  Every file of it is read by `testbed.files` and has the form of `forms`, or is
refused; a link in it is refused, too, since it could lead to a file of ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import ValidationError

from testbed.errors import InputError
from testbed.files import json_text, parquet, records
from testbed.files.reading import Source
from testbed.records.evidence import Evidence
from testbed.records.facts import RunFacts
from testbed.records.samples import NodeSamples
from testbed.results import forms, packet_file, sample_file
from testbed.results.metrics import paths
from testbed.scenario import document
from testbed.scenario.model import Scenario

SCHEMA_VERSION = 1
MAX_TIME_NS = 2**62
_REMEDY = "give a directory that `testbed run` created"
_STARTTIME_FIELD = 19  # of /proc/<pid>/stat, counted after the name in brackets: proc(5), field 22
_MAX_DOCUMENT_BYTES = 4 * 10**6
_FORMS: Mapping[str, Callable[[], type[records.Form]]] = {
    "summary.json": lambda: forms.summary_form(paths()),
    "fidelity.json": lambda: forms.FidelityForm,
}


@dataclass(frozen=True)
class RecordedRun:
    """Reader of one run directory.

    Attributes:
        path: the directory.
        manifest: ``manifest.json``, of the form `forms.ManifestForm`.
    """

    path: Path
    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> RecordedRun:
        """Return the reader of `path`.

        Raises:
            InputError: when it is no run directory, or of a schema this version does not know.
        """
        source = Source(path / "manifest.json", _REMEDY, f"read run {path}", follow=False)
        if not os.path.isdir(path):
            raise source.refusal("there is no such directory")
        if not source.exists():
            raise source.refusal("it has no manifest.json, so it is not a run directory")
        try:
            manifest = json_text.read(source, _MAX_DOCUMENT_BYTES)
        except InputError as error:
            raise source.refusal(f"its manifest.json cannot be read: {error.happened}") from error
        if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA_VERSION:
            found = manifest.get("schema") if isinstance(manifest, dict) else None
            happened = f"it was written by schema {str(found)[:40]}, this version reads {SCHEMA_VERSION}"
            raise source.refusal(happened, "use the version of the testbed that wrote it")
        records.check(manifest, forms.ManifestForm, source, "manifest.json")
        return cls(path, manifest)

    @property
    def status(self) -> str:
        """Return ``running``, ``completed``, ``interrupted``, ``failed``, or ``killed`` when its process is gone."""
        status = str(self.manifest["status"])
        return "killed" if status == "running" and not is_alive(self.manifest.get("process") or {}) else status

    @cached_property
    def facts(self) -> RunFacts:
        """Return the facts of the scenario.

        Raises:
            InputError: when the manifest holds none.
        """
        try:
            return RunFacts.from_record(self.manifest["facts"])
        except (KeyError, ValidationError) as error:
            happened = "its manifest lacks facts" + (
                f" ({records.words(error, 'facts')})" if isinstance(error, ValidationError) else ""
            )
            raise InputError(f"read run {self.path}", happened, _REMEDY) from error

    @property
    def plan_hash(self) -> str | None:
        """Return the hash of the traffic plan, the proof that two runs saw the same traffic."""
        found = self.manifest.get("hashes", {}).get("plan")
        return None if found is None else str(found)

    def source(self, name: str) -> Source:
        """Return a file of the directory, to be read."""
        return Source(self.path / name, _REMEDY, follow=False)

    def samples(self) -> pa.Table:
        """Return ``samples.parquet``.

        Raises:
            InputError: when it is missing, unreadable, lacks a column or holds what cannot be.
        """
        return sample_file.read_table(self.source("samples.parquet"))

    def samples_by_node(
        self, columns: Collection[str] = sample_file.FORM, *, most_bytes: int | None = parquet.MAX_BYTES
    ) -> dict[str, NodeSamples]:
        """Return ``samples.parquet`` by node: see `sample_file.read_by_node`.

        Raises:
            InputError: as of `samples`.
        """
        return sample_file.read_by_node(self.source("samples.parquet"), columns, most_bytes=most_bytes)

    def packets(self) -> pa.Table:
        """Return ``packets.parquet``, a row for each planned packet.

        Raises:
            InputError: when the run did not record its packets, or the file is damaged.
        """
        return packet_file.read_packets(self.source("packets.parquet"))

    def flows(self) -> pa.Table:
        """Return ``flows.parquet``, a row for each flow; raises as `packets`."""
        return packet_file.read_flows(self.source("flows.parquet"))

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the records of ``events.jsonl``; a last line cut off by a kill is left out.

        Raises:
            InputError: when the file is missing or a line in its middle is no event.
        """
        for _, record, _ in self.numbered_events():
            yield record

    def numbered_events(self) -> Iterator[tuple[int, dict[str, Any], int]]:
        """Yield what `events` does, with the number of the line and its length in bytes; raises likewise."""
        source = self.source("events.jsonl")
        for number, record, n_bytes in json_text.read_lines(source):
            t_ns = record.get("t_ns")
            if type(t_ns) is not int or not 0 <= t_ns <= MAX_TIME_NS:
                raise source.refusal(f"line {number} has no time t_ns")
            if not isinstance(record.get("kind"), str):
                raise source.refusal(f"line {number} has no kind")
            yield number, _named_as_now(record), n_bytes

    def scenario(self) -> Scenario:
        """Return the scenario that was run.

        Raises:
            InputError: when ``scenario.yaml`` is missing, damaged, or none that this version knows.
        """
        source = self.source("scenario.yaml")
        try:
            return Scenario.model_validate(self.scenario_data())
        except ValidationError as error:
            raise source.refusal(records.words(error), "use the version of the testbed that wrote it") from error

    def scenario_data(self) -> dict[str, Any]:
        """Return what ``scenario.yaml`` holds: the scenario as run, every default written out; raises as `scenario`."""
        source = self.source("scenario.yaml")
        return document.parse(source.read(document.MAX_BYTES), str(source.path)).data

    def document(self, name: str) -> dict[str, Any] | None:
        """Return a JSON file such as ``summary.json``, or None when the run did not get as far as writing it.

        Raises:
            InputError: when it is there but no JSON object, or not of the form of that file.
        """
        source = self.source(name)
        if not source.exists():
            return None
        value = json_text.read_object(source, _MAX_DOCUMENT_BYTES)
        if name in _FORMS:
            records.check(value, _FORMS[name](), source)
        return value

    def evidence(self) -> Evidence | None:
        """Return what the engine handed over at the end, None for a run that had no end."""
        source = self.source("evidence.json")
        if not source.exists():
            return None
        record = json_text.read_object(source)
        try:
            return Evidence.from_record(record)
        except ValidationError as error:
            raise source.refusal(f"it is incomplete: {records.words(error)}") from error


# Kinds and fields of records that had another name in earlier versions.
_KINDS_BEFORE = {
    "WitnessHeard": "SuspicionsHeard",
    "SendTestimony": "SendSuspicions",
    "TestimonyChanged": "SuspicionsChanged",
}
_FIELDS_BEFORE = {"witness": "monitor"}


def _named_as_now(record: dict[str, Any]) -> dict[str, Any]:
    kind = _KINDS_BEFORE.get(record["kind"])
    if kind is None:
        return record
    return {_FIELDS_BEFORE.get(name, name): value for name, value in record.items()} | {"kind": kind}


def process_identity() -> dict[str, Any]:
    """Return what identifies this process, even after its id was reused."""
    return {"pid": os.getpid(), "start_ticks": _start_ticks(os.getpid()), "boot": _boot()}


def is_alive(identity: Mapping[str, Any]) -> bool:
    """Return whether the process that `process_identity` described still runs (on this machine, since its boot)."""
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


class RecordedEvents:
    """The records of ``events.jsonl``, re-read on each iteration."""

    def __init__(self, run: RecordedRun) -> None:
        self._run = run

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Read from the first record on."""
        return self._run.events()
