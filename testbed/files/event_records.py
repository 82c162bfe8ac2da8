"""Events and actions from their written form: what `Record.to_record` wrote, whoever has had it since.

A field is read by what its annotation says, so a record that is added is read without a line here.  What concerns many
nodes has a row for each of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import numpy as np

from testbed.records.events import FiveTuple, Floats, Ints, Record, fields_of

_Value = TypeVar("_Value")


def from_record(record: Mapping[str, Any]) -> Record:
    """Return the event or action that `to_record` wrote; fields that are not its own (``t_ns``…) are left out.

    Raises:
        ValueError: when the kind is unknown, a field is missing, or a value is not what the field takes.
    """
    cls = Record.kinds.get(record["kind"])
    if cls is None:
        raise ValueError(f"a record of unknown kind {record['kind']}")
    values = {}
    for name, read, has_default in _readers_of(cls):
        if name in record:
            values[name] = read(record[name])
        elif not has_default:  # else it was written before the field existed: its default holds
            raise ValueError(f"a record of kind {record['kind']} without {name}")
    _check_rows(values, {name for name, _, has_default in _readers_of(cls) if has_default})
    return cls(**values)


def _readers_of(kind: type[Record]) -> list[tuple[str, Callable[[Any], Any], bool]]:
    """Return the fields of a record: name, what reads its written form, whether it has a default."""
    return [(field.name, READERS[field.type], field.has_default) for field in fields_of(kind)]


def _check_rows(values: dict[str, Any], may_be_empty: set[str]) -> None:
    """Refuse columns that have not a row for each of the nodes, and nodes that are named twice."""
    nodes = values.get("nodes")
    if nodes is None:
        return
    if len(set(nodes)) < len(nodes):
        raise ValueError("a record that names a node twice")
    for name, value in values.items():
        column = isinstance(value, np.ndarray) or name == "siblings"
        if column and len(value) != len(nodes) and (len(value) or name not in may_be_empty):
            raise ValueError(f"{len(nodes)} nodes, but {len(value)} values of {name}")


def _array(value: Any, kinds: str, dtype: type[np.generic]) -> Any:
    found = np.asarray(value) if isinstance(value, list) else None
    if found is None or (found.size and found.dtype.kind not in kinds):
        raise ValueError("a column that is not a list of numbers")
    if not bool(np.all(np.abs(found) <= _MAX_VALUE)):
        raise ValueError("a number out of range")
    return found.astype(dtype)


def _ints(value: Any) -> Ints:
    return cast(Ints, _array(value, "i", np.int64))


def _floats(value: Any) -> Floats:
    return cast(Floats, _array(value, "if", np.float64))


def _whole(value: Any) -> int:
    if type(value) is not int or not -_MAX_VALUE <= value <= _MAX_VALUE:
        raise ValueError("a value that is not an integer in the allowed range")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_NAME_CHARS:
        raise ValueError("a value that is not a name")
    return value


def _list(value: Any, read: Callable[[Any], _Value]) -> tuple[_Value, ...]:
    if not isinstance(value, list):
        raise ValueError("a value that is not a list")
    return tuple(map(read, value))


def _five_tuple(value: Any) -> FiveTuple:
    if not isinstance(value, list) or len(value) != len(_FIVE):
        raise ValueError("a flow that is not a 5-tuple")
    return cast(FiveTuple, tuple(read(part) for read, part in zip(_FIVE, value, strict=True)))


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not -_MAX_VALUE <= value <= _MAX_VALUE:
        raise ValueError("a value that is not a number in the allowed range")
    return float(value)


def _counts(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise ValueError("counts that are not an object")
    return {_name(key): _whole(count) for key, count in value.items()}


def _or_none(read: Callable[[Any], _Value]) -> Callable[[Any], _Value | None]:
    return lambda value: None if value is None else read(value)


_MAX_VALUE = 2**62
_MAX_NAME_CHARS = 200
_FIVE = (_name, _name, _whole, _whole, _whole)
_PLAIN: dict[Any, Callable[[Any], Any]] = {
    int: _whole,
    float: _number,
    str: _name,
    dict[str, int]: _counts,
    tuple[str, ...]: functools.partial(_list, read=_name),
    tuple[int, ...]: functools.partial(_list, read=_whole),
}
READERS: dict[Any, Callable[[Any], Any]] = {
    **_PLAIN,
    **{kind | None: _or_none(read) for kind, read in _PLAIN.items()},
    Ints: _ints,
    Floats: _floats,
    FiveTuple: _five_tuple,
}
"""What reads the written form of a field, by its type: a type that is not here cannot be declared."""
