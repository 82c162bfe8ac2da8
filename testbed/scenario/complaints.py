"""From pydantic's errors to lines a person can act on.

A pydantic location such as ``('traffic', 0, 'poisson', 'rate')`` mixes keys with the tags of unions.  `locate` walks
the scenario's models along it, which gives three things: the path as the user wrote it (tags left out), the model
whose keys are valid there, and the field, whose name ends in the unit in which limits are written.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from testbed import units
from testbed.errors import InputError
from testbed.scenario.document import KeyPath, printable
from testbed.scenario.model import Scenario
from testbed.scenario.sources import OWN_SHAPE
from testbed.scenario.tables import TRAFFIC_SHAPES, NameIn

_TEXT_OF_UNIT = {"_ns": units.duration_text, "_bytes": units.size_text, "_bps": units.rate_text}
_EXPECTED_OF_TYPE = {
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "tuple_type": "a list (lines that start with -)",
    "list_type": "a list (lines that start with -)",
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "finite_number": "a finite number",
}
MOST_WORDED = 1_000
_LONGEST_WORD = 100
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong: where, what, and what would be right."""

    path: KeyPath
    happened: str
    remedy: str = ""


def refuse_first(found: Iterable[Complaint]) -> None:
    """Raise the first complaint as an error that names its key; for packages that know no file.

    Raises:
        InputError: when there is a complaint.
    """
    for complaint in found:
        raise InputError(path_text(complaint.path), complaint.happened, complaint.remedy)


class Place(NamedTuple):
    """What `locate` finds: the user's path, the innermost model on the way and the field at its end."""

    path: KeyPath
    model: type[BaseModel] | None
    field_name: str
    field: FieldInfo | None


def keys_of(model: type[BaseModel]) -> dict[str, tuple[str, FieldInfo]]:
    """Return a model's fields by the key the user writes."""
    return {field.alias or name: (name, field) for name, field in model.model_fields.items()}


def models_in(annotation: Any, tag: str = "") -> dict[str, type[BaseModel]]:
    """Return the models an annotation leads to, by union tag ("" where there is none)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {tag: annotation}
    arguments = get_args(annotation)
    tag = next((argument.tag for argument in arguments if isinstance(argument, Tag)), tag)
    found: dict[str, type[BaseModel]] = {}
    for argument in arguments:
        found.update(models_in(argument, tag))
    return found


def locate(location: Iterable[str | int], root: type[BaseModel] = Scenario) -> Place:
    """Walk the models from `root` on along a pydantic location."""
    path: list[str | int] = []
    model: type[BaseModel] | None = root
    choices: dict[str, type[BaseModel]] = {}
    name, field = "", None
    for element in location:
        if field is not None and get_origin(field.annotation) is dict:  # a key that the user made up
            path.append(element)
            name, field = "", None
            continue
        if element in choices and choices.keys() != {""} and path and isinstance(path[-1], int):
            model, choices = choices[str(element)], {}
            continue
        path.append(element)
        if isinstance(element, int) or model is None:
            continue
        name, field = keys_of(model).get(element, ("", None))
        choices = models_in(field.annotation) if field is not None else {}
        model = choices.get("") if choices or field is None else model
    return Place(tuple(path), model, name, field)


def nearest(word: object, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the known word nearest to `word`, or "" when none is near."""
    close = _nearest(word, known)
    return f"did you mean '{close}'?" if close else ""


def _nearest(word: object, known: Iterable[str]) -> str:
    lower = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(str(word)[:_LONGEST_WORD].lower(), lower, n=1, cutoff=0.6)
    return lower[close[0]] if close else ""


def shown(value: Any) -> str:
    """Return a value of the file as a short text."""
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return printable(str(value).lower() if isinstance(value, bool) else repr(value))


def value_at(data: Any, path: KeyPath) -> Any:
    """Return what the file has at `path`, None where it has nothing."""
    for element in path:
        try:
            data = data[element]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def path_text(path: KeyPath) -> str:
    """Return a path as it is written in ``--set``, such as ``traffic.0.rate``."""
    return printable(".".join(str(element) for element in path))


def complaints_of(
    error: ValidationError, data: dict[str, Any], root: type[BaseModel] = Scenario
) -> tuple[list[Complaint], int]:
    """Return what pydantic says of `data`, the first `MOST_WORDED` of it in words, and how many more there are."""
    details = error.errors(include_url=False, include_input=False)
    unknown: dict[tuple[str | int, ...], list[str | int]] = {}
    for detail in details:
        if detail["type"] == "extra_forbidden":
            unknown.setdefault(detail["loc"][:-1], []).append(detail["loc"][-1])
    own = [detail for detail in details if not (_counted_wrong(detail, data, root) or _mistyped(detail, unknown, root))]
    return [complaint_of(detail, data, root) for detail in own[:MOST_WORDED]], max(0, len(own) - MOST_WORDED)


def too_long(data: dict[str, Any], root: type[BaseModel] = Scenario) -> Iterator[Complaint]:
    """Yield lists with more entries than they may have, before each entry is looked at."""
    for key, (_, field) in keys_of(root).items():
        most = next((mark.max_length for mark in field.metadata if hasattr(mark, "max_length")), None)
        given = data.get(key)
        if most is not None and isinstance(given, list) and len(given) > most:
            yield Complaint((key,), f"expected at most {most:,} entries, got {len(given):,}")


def _counted_wrong(detail: ErrorDetails, data: dict[str, Any], root: type[BaseModel]) -> bool:
    """Return whether a list is called too short since pydantic counts only the entries that are right."""
    if detail["type"] != "too_short":
        return False
    given = value_at(data, locate(detail["loc"], root).path)
    return hasattr(given, "__len__") and len(given) >= detail["ctx"]["min_length"]


def _mistyped(
    detail: ErrorDetails, unknown: Mapping[tuple[str | int, ...], Sequence[str | int]], root: type[BaseModel]
) -> bool:
    """Return whether a key is missing because it is present under a misspelled name."""
    words = unknown.get(detail["loc"][:-1], ()) if detail["type"] == "missing" else ()
    model = locate(detail["loc"][:-1], root).model if words else None
    known = keys_of(model) if model else {}
    return any(_nearest(word, known) == detail["loc"][-1] for word in words)


def complaint_of(error: ErrorDetails, data: dict[str, Any], root: type[BaseModel] = Scenario) -> Complaint:
    """Return one of pydantic's errors about `data`, validated as `root`, in the user's words."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(error["loc"], root)
    if kind == "union_tag_invalid":
        return _unknown_tag(error, data, root)
    place = locate(error["loc"], root)
    value = value_at(data, place.path)
    if kind == "missing":
        return Complaint(place.path, "this key is missing", _example(place))
    if kind == "literal_error":
        return _unknown_word(place, value)
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return Complaint(place.path, f"expected {words} {_limit_text(place, context[key])}, got {shown(value)}")
    if kind in _EXPECTED_OF_TYPE:
        return Complaint(place.path, f"expected {_EXPECTED_OF_TYPE[kind]}, got {shown(value)}")
    if kind == "string_pattern_mismatch":
        return Complaint(place.path, f"expected {_pattern_text(context['pattern'])}, got {shown(value)}")
    if kind == "too_short":
        return Complaint(place.path, f"expected at least {context['min_length']} entry, got {context['actual_length']}")
    return Complaint(place.path, error["msg"].removeprefix("Value error, ").replace("Input should be", "expected"))


def _pattern_text(pattern: str) -> str:
    """Return the rule for names in words; patterns of another form as they are."""
    name = re.fullmatch(r"\^\[a-z\]\[a-z0-9_-\]\{0,(\d+)\}\$", pattern)
    if name is None:
        return f"a text that matches {pattern}"
    return f"a lower-case letter, then up to {name.group(1)} of a-z, 0-9, '-' and '_'"


def _unknown_key(location: tuple[str | int, ...], root: type[BaseModel]) -> Complaint:
    key, around = location[-1], locate(location[:-1], root)
    known = list(keys_of(around.model)) if around.model else []
    return Complaint((*around.path, key), "unknown key", nearest(key, known) or f"known keys: {', '.join(known)}")


def _unknown_tag(error: ErrorDetails, data: dict[str, Any], root: type[BaseModel]) -> Complaint:
    """An item of a union whose deciding key has an unknown value: name that key, not the union."""
    place = locate(error["loc"], root)
    tag = error["ctx"]["tag"]
    item = value_at(data, place.path)
    key = next((key for key, value in item.items() if value == tag), None) if isinstance(item, dict) else None
    if key is None:
        return Complaint(place.path, f"expected a mapping of keys to values, got {shown(item)}")
    models = models_in(place.field.annotation).items() if place.field else ()
    own = [row.name for row in TRAFFIC_SHAPES if not TRAFFIC_SHAPES.is_ours(row.name)]
    words = [word for word, model in models if key in keys_of(model) and word != OWN_SHAPE] + own
    return _choice((*place.path, key), tag, words)


def _unknown_word(place: Place, value: Any) -> Complaint:
    return _choice(place.path, value, list(words_of(place.field)))


def words_of(field: FieldInfo | None) -> Iterator[Any]:
    """Yield the words of a literal or the names of a table, also where the field may be left out (`… | None`)."""
    if field is not None:
        yield from _words_in((*field.metadata, field.annotation))


def _words_in(marks: Iterable[Any]) -> Iterator[Any]:
    for mark in marks:
        if isinstance(mark, NameIn):
            yield from mark.allowed
        elif get_origin(mark) is Literal:
            yield from get_args(mark)
        else:
            yield from _words_in(get_args(mark))


def _choice(path: KeyPath, value: Any, words: list[Any]) -> Complaint:
    texts = [str(word) for word in words]
    listing = texts[0] if len(texts) == 1 else f"one of {', '.join(texts)}"
    remedy = "write it without quotes" if value in texts and value not in words else nearest(value, texts)
    return Complaint(path, f"expected {listing}, got {shown(value)}", remedy)


def _limit_text(place: Place, limit: Any) -> str:
    for suffix, text in _TEXT_OF_UNIT.items():
        if place.field_name.endswith(suffix):
            return text(int(limit)) if limit else "0"
    return str(limit)


def _example(place: Place) -> str:
    """Return how a missing key may be written."""
    key = place.path[-1] if place.path else ""
    examples = {"_ns": "20s", "_bytes": "1000B", "_bps": "60Mbit"}
    value = next((text for suffix, text in examples.items() if place.field_name.endswith(suffix)), "…")
    value = str(next(words_of(place.field), value))
    return f"add `{key}: {value}`"
