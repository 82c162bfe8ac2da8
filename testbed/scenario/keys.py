"""Every key of a scenario, as its models declare it: path, values, default, meaning; for documents and completion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from testbed import units
from testbed.scenario.base import Written
from testbed.scenario.complaints import keys_of, models_in, words_of
from testbed.scenario.model import Scenario

_BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
_TEXTS = {"_ns": units.duration_text, "_bytes": units.size_text, "_bps": units.rate_text}
_NAMES = {dict: "mapping", bool: "true or false", int: "whole number", float: "number", str: "text"}


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        path: with dots; ``[]`` for the entries of a list, and the kind of entry behind it.
        takes: what its value is.
        default: how a scenario would write it; ``required`` where there is none, empty for nothing.
        bounds: what the value is held to.
        words: the only values it may have, if they are few.
        doc: what it means.
    """

    path: str
    takes: str
    default: str
    bounds: str
    words: tuple[Any, ...]
    doc: str


def keys() -> Iterator[Key]:
    """Yield every key, in the order of the models."""
    yield from _of_model(Scenario, "")


def _of_model(model: type[BaseModel], before: str) -> Iterator[Key]:
    for key, (name, field) in keys_of(model).items():
        path = f"{before}{key}"
        models = models_in(field.annotation)
        if not models:
            yield _key(path, name, field)
        elif "" in models:
            many = "[]" if _is_list(field.annotation) else ""
            yield from _of_model(models[""], f"{path}{many}.")
        else:
            for kind, inner in models.items():
                yield from _of_model(inner, f"{path}[{kind}].")


def _is_list(annotation: Any) -> bool:
    return "tuple" in str(annotation)


def _key(path: str, name: str, field: FieldInfo) -> Key:
    words = tuple(words_of(field))
    doc = (field.description or "").replace("|", "\\|")
    return Key(path, _takes(field, words), _default(name, field), _bounds(name, field), words, doc)


def _takes(field: FieldInfo, words: tuple[Any, ...]) -> str:
    if words:
        return " or ".join(map(str, words)) if len(words) < 4 else "a name, see choices"
    marks = [
        *field.metadata,
        *(mark for part in get_args(field.annotation) for mark in getattr(part, "__metadata__", ())),
    ]
    kind = next((mark.kind for mark in marks if isinstance(mark, Written)), None)
    if kind is not None:
        return f"{kind.name} (`{kind.example}`)"
    text = str(field.annotation)
    if _is_list(field.annotation):
        return "list"
    return next((words for kind, words in _NAMES.items() if kind.__name__ in text), "mapping")


def _default(name: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value is PydanticUndefined or value == ():
        return ""
    suffix = next((text for end, text in _TEXTS.items() if name.endswith(end)), None)
    shown = suffix(value) if suffix is not None and isinstance(value, int) else value
    if isinstance(shown, tuple):
        return f"[{', '.join(map(str, shown))}]"
    return str(shown).lower() if isinstance(shown, bool) else str(shown)


def _bounds(name: str, field: FieldInfo) -> str:
    text = next((text for end, text in _TEXTS.items() if name.endswith(end)), str)
    found = (
        f"{sign} {text(getattr(mark, bound)) if getattr(mark, bound) else 0}"
        for mark in field.metadata
        for bound, sign in _BOUNDS
        if getattr(mark, bound, None) is not None
    )
    return ", ".join(found)
