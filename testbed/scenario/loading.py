"""From a scenario file to a checked, frozen `Scenario`, or to the lines that say what is wrong with it.

bytes ── document ──▶ data and lines ── overrides ──▶ data ── pydantic ──▶ Scenario ── cross checks ──▶ loaded
                                                          └─ complaints ──▶ InputError, at most five lines
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from testbed.errors import InputError
from testbed.scenario import complaints, document, overrides, topo_class
from testbed.scenario import plugins as plugged
from testbed.scenario.autoscaler_checks import autoscaler_checks
from testbed.scenario.complaints import Complaint
from testbed.scenario.document import Document, KeyPath
from testbed.scenario.fault_checks import fault_checks
from testbed.scenario.model import MAX_PLUGINS, Scenario
from testbed.scenario.overrides import Override, Setting
from testbed.scenario.salvage import Remains
from testbed.scenario.site_checks import site_checks
from testbed.scenario.sources import TraceSpec
from testbed.scenario.topology_checks import topology_checks
from testbed.scenario.traffic_checks import traffic_checks

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
        """Return ``file:line: key.path`` (or the option that set it) for errors found by checks of other packages."""
        return _where(path, self.parsed, self.changed)

    def refuse(self, found: Sequence[Complaint]) -> None:
        """Raise the complaints of other packages, if any, as one error."""
        refuse(found, self.parsed, self.changed)


def load(
    path: str | Path,
    settings: Sequence[str | Setting] = (),
    seed: int | None = None,
    plugins: Sequence[Path] = (),
) -> LoadedScenario:
    """Read, override, check and return a scenario.

    Args:
        path: the YAML file.
        settings: ``key.path=value`` each, as of ``--set``; later ones win.
        seed: replaces the scenario's seed.
        plugins: files beside those that the scenario names.

    Raises:
        InputError: on anything wrong with the file, its content or the settings; the message has at most five lines.
    """
    return loaded(read(path), settings, seed, plugins)


@dataclass(frozen=True, slots=True)
class ScenarioFile:
    """A file that has been read, to be loaded under one setting after the other."""

    path: Path
    content: bytes
    parsed: Document


def read(path: str | Path) -> ScenarioFile:
    """Return what a scenario file holds.

    Raises:
        InputError: when it cannot be read, is no YAML mapping, or holds a sweep.
    """
    path = Path(path)
    content = document.read_bytes(path)
    parsed = document.parse(content, str(path))
    if is_sweep(parsed):
        happened, remedy = "this is a sweep, not a scenario", f"use `python -m testbed sweep {path}`"
        raise InputError(_where(("scenario",), parsed, ()), happened, remedy)
    return ScenarioFile(path, content, parsed)


def loaded(
    file: ScenarioFile,
    settings: Sequence[str | Setting] = (),
    seed: int | None = None,
    plugins: Sequence[Path] = (),
) -> LoadedScenario:
    """Override, check and return the scenario in a file; see `load`."""
    data, changed = _given(file, settings, seed, plugins)
    scenario = _checked(data, file.parsed, changed)
    refuse([*_across(scenario, file.path.parent)], file.parsed, changed)
    return _made(scenario, file, data, changed)


def refuse_all(
    file: ScenarioFile,
    settings: Sequence[str | Setting],
    plugins: Sequence[Path],
    later: Callable[[LoadedScenario], Iterable[Complaint]],
) -> None:
    """Raise everything that is wrong with a file, in all stages; `later` gives what checks of other rooms find.

    Raises:
        ScenarioRefused: something is.
    """
    data, changed = _given(file, settings, None, plugins)
    try:
        _checked(data, file.parsed, changed)
        first, more = list[Complaint](), 0
    except ScenarioRefused as error:
        first, more = list(error.complaints), error.more
    rest = Remains(data, first)
    found = [*first, *rest.found]
    if rest.scenario is not None:
        made = _made(rest.scenario, file, data, changed)
        found += rest.told([*_across(rest.scenario, file.path.parent), *later(made)])
    refuse(list(dict.fromkeys(found)), file.parsed, changed, more)


def _given(
    file: ScenarioFile, settings: Sequence[str | Setting], seed: int | None, plugins: Sequence[Path]
) -> tuple[dict[str, Any], list[Override]]:
    """Return a file's data under the settings, its plug-ins executed, and where the settings went."""
    data = copy.deepcopy(file.parsed.data)  # aliases of the file shall not let one override change two places
    changed = overrides.apply(data, settings)
    if seed is not None:
        data["seed"] = seed
        changed.append(Override(f"--seed {seed}", ("seed",)))
    named = _plugins(data, file.path.parent, file.parsed, changed)
    if plugins:
        data["plugins"] = [*named, *(str(plugged.load(added).path) for added in plugins)]
    return data, changed


def _across(scenario: Scenario, folder: Path) -> Iterator[Complaint]:
    """Yield contradictions between the parts of a scenario, and files that it names and that do not exist."""
    yield from topology_checks(scenario)
    yield from traffic_checks(scenario)
    yield from _missing_files(scenario, folder)
    yield from fault_checks(scenario)
    yield from autoscaler_checks(scenario)
    yield from site_checks(scenario)


def _made(scenario: Scenario, file: ScenarioFile, data: dict[str, Any], changed: Sequence[Override]) -> LoadedScenario:
    question, sha256 = question_of(file.content.decode("utf-8-sig")), hashlib.sha256(file.content).hexdigest()
    return LoadedScenario(scenario, question, file.path, sha256, data, file.parsed, tuple(changed))


def is_sweep(parsed: Document) -> bool:
    """Tell a sweep from a scenario: it names the one it runs."""
    return "scenario" in parsed.data and not parsed.data.keys() & {"topology", "traffic"}


def names_a_sweep(path: Path) -> bool:
    """Return whether a file holds a sweep.

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
    refuse(list(complaints.too_long(data)), parsed, changed)
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        kindless = list(_sources_without_kind(data))
        found, more = complaints.complaints_of(error, data)
        apart = {complaint.path for complaint in kindless}
        refuse([*kindless, *(c for c in found if c.path[:2] not in apart)], parsed, changed, more)
        raise


def code_named(data: dict[str, Any]) -> tuple[list[str], str | None]:
    """Return the files of code that a scenario names, whatever their suffix: plug-ins, and that of its topology."""
    given = data.get("plugins")
    texts = [text for text in given[:MAX_PLUGINS] if isinstance(text, str)] if isinstance(given, list) else []
    return texts, topo_class.file_of(data)


def _plugins(data: dict[str, Any], folder: Path, parsed: Document, changed: Sequence[Override]) -> list[str]:
    """Execute the plug-ins that a scenario names, before its names are looked up; return their paths as given."""
    plugged.load_installed()
    texts, topo = code_named(data)
    named = [*texts, *([topo] if topo is not None else [])]
    done = 0
    try:
        for done, _ in enumerate(plugged.load_named(folder, named), 1):  # noqa: B007 (which one fails is its number)
            pass
    except InputError as error:
        at: KeyPath = ("plugins", done) if done < len(texts) else ("topology", "file")
        refuse([Complaint(at, f"{error.attempted}: {error.happened}", error.remedy)], parsed, changed)
    if topo is not None:
        refuse([*topo_class.name_family(data, folder / topo)], parsed, changed)
        data["plugins"] = named
    return named


def _sources_without_kind(data: dict[str, Any]) -> Iterator[Complaint]:
    """Yield traffic that says neither `shape` nor `trace`: all else about it would be a guess."""
    sources = data.get("traffic")
    for index, source in enumerate(sources if isinstance(sources, list) else ()):
        if isinstance(source, dict) and not source.keys() & {"shape", "trace"}:
            near = next(
                (
                    f"; did you mean '{document.printable(key)}' as one of them?"
                    for key in source
                    if complaints.nearest(key, ["shape"])
                ),
                "",
            )
            yield Complaint(("traffic", index), f"neither shape nor trace is given{near}", "such as `shape: poisson`")


def _missing_files(scenario: Scenario, folder: Path) -> Iterator[Complaint]:
    for index, source in enumerate(scenario.traffic):
        if isinstance(source, TraceSpec) and not os.path.isfile(folder / source.trace):
            missing = document.printable(str(folder / source.trace))
            yield Complaint(
                ("traffic", index, "trace"), f"there is no file {missing}", "paths are relative to the scenario file"
            )
    model = scenario.buffer.reads
    if model is not None and not os.path.exists(folder / model):
        missing = document.printable(str(folder / model))
        yield Complaint(("buffer", "model"), f"there is no file {missing}", "paths are relative to the scenario file")


class ScenarioRefused(InputError):
    """A scenario or sweep is wrong: the first complaints as a message, and all of them for `validate --all`.

    Attributes:
        lines: a line for each complaint, in the order of the file.
        complaints: the same, before they were put into words.
        more: how many there are beyond these.
    """

    def __init__(self, lines: Sequence[str], more: int, complaints: Sequence[Complaint] = ()) -> None:
        """Show the first `MAX_LINES`, and say how many others there are."""
        self.lines, self.more, self.complaints = tuple(lines), more, tuple(complaints)
        hidden = len(lines) - MAX_LINES + more
        shown = [*lines[:MAX_LINES], *([f"and {hidden:,} more"] if hidden > 0 else [])]
        where, _, first = shown[0].partition(": ")
        super().__init__(where, "\n".join([first, *shown[1:]]))


Model = TypeVar("Model", bound=BaseModel)


def as_model(parsed: Document, model: type[Model]) -> Model:
    """Return the content of a file as a model.

    Raises:
        ScenarioRefused: the model does not take it; names file and line of each reason.
    """
    try:
        return model.model_validate(parsed.data)
    except ValidationError as error:
        found, more = complaints.complaints_of(error, parsed.data, model)
        refuse(found, parsed, (), more)
        raise


def refuse(found: Sequence[Complaint], parsed: Document, changed: Sequence[Override] = (), more: int = 0) -> None:
    """Raise the complaints, if any, as one error, in the order of the file; `more` are not worded.

    Raises:
        ScenarioRefused: there are some.
    """
    if found:
        ordered = sorted(found, key=lambda complaint: parsed.line(complaint.path))
        raise ScenarioRefused([_line(complaint, parsed, changed) for complaint in ordered], more, ordered)


def _line(complaint: Complaint, parsed: Document, changed: Sequence[Override]) -> str:
    remedy = f"; {complaint.remedy}" if complaint.remedy else ""
    return f"{_where(complaint.path, parsed, changed)}: {complaint.happened}{remedy}"


def _where(path: KeyPath, parsed: Document, changed: Sequence[Override]) -> str:
    """Return ``file:line: key.path``, or the option that put the value there."""
    key = complaints.path_text(path)
    for override in reversed(changed):
        shorter = min(len(path), len(override.path))
        if shorter and path[:shorter] == override.path[:shorter]:
            return f"{override.text}: {key}"
    return f"{parsed.name}:{parsed.line(path)}: {key}" if key else f"{parsed.name}:1"
