"""What two runs must have in common for their figures to be compared: all that was set, and what carried it out.

Nothing is chosen here.  What was set is the whole resolved scenario of a run directory, every default written out, so a
key that is added to the scenario is compared from that day on.  What carried it out is the engine, the version of the
testbed and every hash in the manifest (model, BPF programs, traces); two runs differ in it where both have a value.
The machine and its tools are named where they differ, and no reason to keep runs of one experiment apart.

Entries of a list are identified by their names, where they have some, and else by their places; that the names come in
another order is a difference of the list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.results.recorded_run import RecordedRun

_FILE = "scenario.yaml"
_COMMENTS = ("question", "expect", "scenario")  # of the facts, which stand for a scenario that is not there
_OF_EACH_RUN = ("plan", "scenario")  # hashes: the plan follows the seed, the file's may change by a comment
_SURROUNDINGS = ("machine", "openvswitch", "tools", "sysctls")
_SHOWN_CHARS, _NAMED = 60, 3

Tree = Mapping[str, Any]
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One key in which runs differ.

    Attributes:
        key: dotted, as in the scenario, or a name of what carried the runs out.
        values: of each run in order, as text; None where it has none.
    """

    key: str
    values: tuple[str | None, ...]

    def __str__(self) -> str:
        return f"{self.key} differs: {', '.join(dict.fromkeys(map(_or_absent, self.values)))}"

    def told(self, runs: Sequence[str]) -> str:
        """Return the difference in words that say which run has what, where there are more than two."""
        if len(runs) <= 2:
            return str(self)
        having: dict[str, list[str]] = {}
        for value, run in zip(self.values, runs, strict=True):
            having.setdefault(_or_absent(value), []).append(run)
        parts = [f"{value} ({_some(names)})" for value, names in having.items()]
        return f"{self.key} differs: {', '.join(parts)}"


@dataclass(frozen=True)
class Conditions:
    """The conditions of one run.

    Attributes:
        settings: the resolved scenario; the facts of the manifest where the directory holds none.
        resolved: whether it is the scenario.
        carried_out: what carried it out, by name: ``engine``, ``version``, the hashes.
        surroundings: machine and tools, by name.
    """

    settings: Tree
    resolved: bool
    carried_out: Mapping[str, str]
    surroundings: Mapping[str, str]

    def key_of(self, dotted: str) -> str:
        """Return a key of ``--set`` as differences have it: entries of lists by their names, where they have some."""
        at: list[str] = []
        value: Any = self.settings
        for word in dotted.split("."):
            parts = _parts(value) or {}
            by_place = list(parts)[int(word)] if isinstance(value, list) and word.isdecimal() else word
            at.append(by_place)
            value = parts.get(by_place, {})
        return ".".join(at)

    def without(self, *keys: str) -> str:
        """Return what stands for the conditions but for some keys: equal for runs that differ in nothing else."""
        settings = dict(_leaves(self.settings, ()))
        kept = {".".join(key): value for key, value in settings.items() if ".".join(key) not in keys}
        carried_out = {key: value for key, value in self.carried_out.items() if key not in keys}
        return json.dumps([kept, carried_out], sort_keys=True)


NOT_KNOWN = Conditions({}, resolved=False, carried_out={}, surroundings={})


def conditions_of(run: RecordedRun) -> Conditions:
    """Return the conditions of a run.

    Raises:
        InputError: when its scenario or its facts are damaged.
    """
    manifest, resolved = run.manifest, run.source(_FILE).exists()
    facts = {key: value for key, value in run.facts.to_record().items() if key not in (*_COMMENTS, "engine")}
    hashes = {key: str(value) for key, value in manifest.get("hashes", {}).items() if key not in _OF_EACH_RUN}
    project = manifest.get("project", {})
    version = " ".join(str(project[key]) for key in ("version", "git_commit") if key in project)
    around = {f"{part}.{key}": value for part in _SURROUNDINGS for key, value in manifest.get(part, {}).items()}
    return Conditions(
        settings=run.scenario_data() if resolved else facts,
        resolved=resolved,
        carried_out={"engine": run.facts.engine, **hashes, **({"version": version} if version else {})},
        surroundings={key: _text(value) for key, value in around.items()},
    )


def differences_of(runs: Sequence[Conditions]) -> list[Difference]:
    """Return every key in which the settings of some runs differ, and every name of what carried them out."""
    if len({one.resolved for one in runs}) > 1:
        found = [Difference(_FILE, tuple("there" if one.resolved else None for one in runs))]
    else:
        found = list(_differing([one.settings for one in runs], ()))
    return [*found, *_named([one.carried_out for one in runs])]


def settings_differing(found: Tree, wanted: Tree) -> Iterator[str]:
    """Yield the keys in which two resolved scenarios differ."""
    for one in _differing([found, wanted], ()):
        yield one.key


def surroundings_of(runs: Sequence[Conditions]) -> list[Difference]:
    """Return in which names of machine and tools some runs differ."""
    return _named([one.surroundings for one in runs])


def _named(parts: Sequence[Mapping[str, str]]) -> list[Difference]:
    """Return the names in which parts differ; one that a part lacks is not known of it."""
    names = dict.fromkeys(name for part in parts for name in part)
    columns = {name: tuple(part.get(name) for part in parts) for name in names}
    return [Difference(name, values) for name, values in columns.items() if len({*values} - {None}) > 1]


def _or_absent(value: str | None) -> str:
    return "absent" if value is None else value


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


_ABSENT = object()


def _differing(values: Sequence[Any], at: Key) -> Iterator[Difference]:
    """Yield the lowest keys below which not all values are equal."""
    parts = [_parts(value) for value in values]
    if any(part is None for part in parts):
        if len({_text(value) for value in values}) > 1 or len({value is _ABSENT for value in values}) > 1:
            yield Difference(".".join(at), tuple(None if value is _ABSENT else _shown(value) for value in values))
        return
    known = [part for part in parts if part is not None]
    names = dict.fromkeys(name for part in known for name in part)
    orders = {tuple(name for name in part if all(name in other for other in known)) for part in known}
    if len(orders) > 1 and any(isinstance(value, list) for value in values):
        yield Difference(".".join((*at, "order")), tuple(", ".join(part) for part in known))
    for name in names:
        yield from _differing([part.get(name, _ABSENT) for part in known], (*at, name))


def _parts(value: Any) -> Mapping[str, Any] | None:
    """Return what a value consists of, by name; None when it is no container, or an empty one."""
    if isinstance(value, Mapping) and value:
        return {str(key): part for key, part in value.items()}
    if isinstance(value, list) and value:
        names = [part.get("name") if isinstance(part, Mapping) else None for part in value]
        named = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
        return {str(name) if named else str(k): part for k, (name, part) in enumerate(zip(names, value, strict=True))}
    return None


def _leaves(value: Any, at: Key) -> Iterator[tuple[Key, str]]:
    parts = _parts(value)
    if parts is None:
        yield at, _text(value)
        return
    if isinstance(value, list):
        yield (*at, "order"), ", ".join(parts)
    for name, part in parts.items():
        yield from _leaves(part, (*at, name))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is _ABSENT else json.dumps(value, sort_keys=True)


def _shown(value: Any) -> str:
    text = _text(value)
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 1] + "…"
