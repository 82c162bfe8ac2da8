"""From a scenario file to a checked, frozen `Scenario`, or to the lines that say what is wrong with it.

bytes ── document ──▶ data and lines ── overrides ──▶ data ── pydantic ──▶ Scenario ── cross checks ──▶ loaded
                                                          └─ complaints ──▶ InputError, at most five lines
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from testbed.errors import InputError
from testbed.spec import complaints, document, overrides
from testbed.spec.complaints import Complaint
from testbed.spec.document import Document, KeyPath
from testbed.spec.fault_checks import fault_checks
from testbed.spec.overrides import Override, Setting
from testbed.spec.scenario import Scenario, TraceSpec

MAX_LINES = 4


@dataclass(frozen=True, slots=True)
class LoadedScenario:
    """A scenario and where it came from.

    Attributes:
        scenario: complete and checked.
        question: the comment block that opens the file, without its ``#`` marks.
        path: the file.
        sha256: of the file's bytes, before overrides.
        raw: the file's data with the overrides in it, defaults not filled in.
        parsed, changed: the lines and the overrides, for `where`.
    """

    scenario: Scenario
    question: str
    path: Path
    sha256: str
    raw: dict[str, Any]
    parsed: Document = field(repr=False)
    changed: tuple[Override, ...] = field(repr=False)

    def where(self, *path: str | int) -> str:
        """Return ``file:line: key.path`` (or the option that set it) for errors found by checks of other rooms."""
        return _where(path, self.parsed, self.changed)


def load(path: str | Path, settings: Sequence[str | Setting] = (), seed: int | None = None) -> LoadedScenario:
    """Read, override, check and return a scenario.

    Args:
        path: the YAML file.
        settings: ``key.path=value`` each, as of ``--set``; later ones win.
        seed: replaces the scenario's seed.

    Raises:
        InputError: on anything wrong with the file, its content or the settings; the message has at most five lines.
    """
    path = Path(path)
    content = document.read_bytes(path)
    parsed = document.parse(content, str(path))
    if is_sweep(parsed):
        happened, remedy = "this is a sweep, not a scenario", f"use `python -m testbed sweep {path}`"
        raise InputError(_where(("scenario",), parsed, ()), happened, remedy)
    data = copy.deepcopy(parsed.data)  # aliases of the file shall not let one override change two places
    changed = overrides.apply(data, settings)
    if seed is not None:
        data["seed"] = seed
        changed.append(Override(f"--seed {seed}", ("seed",)))
    scenario = _checked(data, parsed, changed)
    refuse([*_cross_checks(scenario, path.parent), *fault_checks(scenario)], parsed, changed)
    question = question_of(content.decode("utf-8-sig"))
    return LoadedScenario(scenario, question, path, hashlib.sha256(content).hexdigest(), data, parsed, tuple(changed))


def is_sweep(parsed: Document) -> bool:
    """Tell a sweep from a scenario: it names the one it runs."""
    return "scenario" in parsed.data and not parsed.data.keys() & {"topology", "traffic"}


def names_a_sweep(path: Path) -> bool:
    """Tell whether a file holds a sweep.

    Raises:
        InputError: when it cannot be read or is no YAML mapping.
    """
    return is_sweep(document.parse(document.read_bytes(path), str(path)))


def schema() -> dict[str, Any]:
    """Return the JSON schema of a scenario file, for editors.

    Quantities with units are strings there; their grammar is the description's.
    """
    return Scenario.model_json_schema(by_alias=True, mode="validation")


def question_of(text: str) -> str:
    """Return the comment block that opens a scenario: the question it asks; "" when there is none."""
    lines = []
    for line in text.strip().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
    return "\n".join(lines).strip()


def _checked(data: dict[str, Any], parsed: Document, changed: Sequence[Override]) -> Scenario:
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        kindless = list(_sources_without_kind(data))
        details = [complaints.complaint_of(detail, data) for detail in error.errors(include_url=False)]
        apart = {complaint.path for complaint in kindless}
        refuse([*kindless, *(c for c in details if c.path[:2] not in apart)], parsed, changed)
        raise


def _sources_without_kind(data: dict[str, Any]) -> Iterator[Complaint]:
    """Yield traffic that says neither `shape` nor `trace`: all else about it would be a guess."""
    sources = data.get("traffic")
    for index, source in enumerate(sources if isinstance(sources, list) else ()):
        if isinstance(source, dict) and not source.keys() & {"shape", "trace"}:
            near = next(
                (
                    f"; '{document.printable(key)}' may be meant for it"
                    for key in source
                    if complaints.nearest(key, ["shape"])
                ),
                "",
            )
            yield Complaint(("traffic", index), f"neither shape nor trace is given{near}", "such as `shape: poisson`")


def _cross_checks(scenario: Scenario, folder: Path) -> Iterator[Complaint]:
    """Yield what no part of the scenario can see alone."""
    clients = [f"c{number}" for number in range(1, scenario.topology.clients + 1)]
    first_use: dict[str, int] = {}
    for index, source in enumerate(scenario.traffic):
        at: KeyPath = ("traffic", index)
        if source.client not in clients:
            known = clients[0] if len(clients) == 1 else f"c1 to {clients[-1]}"
            yield Complaint(
                (*at, "from"), f"there is no client {complaints.shown(source.client)}", f"the topology has {known}"
            )
        if source.name in first_use:
            earlier = f"traffic.{first_use[source.name]}"
            yield Complaint((*at, "name"), f"'{source.name}' is also the name of {earlier}", "give each its own")
        first_use.setdefault(source.name, index)
        if isinstance(source, TraceSpec) and not os.path.isfile(folder / source.trace):
            yield Complaint(
                (*at, "trace"),
                f"there is no file {document.printable(str(folder / source.trace))}",
                "paths start at the scenario",
            )


def refuse(found: Sequence[Complaint], parsed: Document, changed: Sequence[Override] = ()) -> None:
    """Raise the complaints, if any, as one error: the first four, and how many more there are."""
    if not found:
        return
    ordered = sorted(found, key=lambda complaint: parsed.line(complaint.path))
    heads = [(_where(complaint.path, parsed, changed), complaint) for complaint in ordered[:MAX_LINES]]
    lines = [f"{where}: {_words(complaint)}" for where, complaint in heads[1:]]
    if len(ordered) > MAX_LINES:
        lines.append(f"and {len(ordered) - MAX_LINES} more")
    where, first = heads[0]
    if lines:
        raise InputError(where, "\n".join([_words(first), *lines]))
    raise InputError(where, first.happened, first.remedy)


def _words(complaint: Complaint) -> str:
    return complaint.happened + (f"; {complaint.remedy}" if complaint.remedy else "")


def _where(path: KeyPath, parsed: Document, changed: Sequence[Override]) -> str:
    """Return ``file:line: key.path``, or the option that put the value there."""
    key = complaints.path_text(path)
    for override in reversed(changed):
        shorter = min(len(path), len(override.path))
        if shorter and path[:shorter] == override.path[:shorter]:
            return f"{override.text}: {key}"
    return f"{parsed.name}:{parsed.line(path)}: {key}" if key else f"{parsed.name}:1"
