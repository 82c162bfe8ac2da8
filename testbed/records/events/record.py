"""What all records have in common: one declaration, from which everything else about them is derived.

A record is a frozen dataclass that is made by keywords.  Each field says in its annotation what it means, and in which
unit where its name does not:

    arrived_bytes: Annotated[Ints, Doc("data bytes that reached the buffer in the interval")]
    flows: Annotated[int, Doc("flows that were delivered behind the node last", "flows")]

From that follow the written form, how it is read back, the fields of datagrams, the columns of samples, and the
reference page (`docs/reference/records.md`).  `flaws` says what a declaration lacks.

A record is an `Event` (input of a policy), an `Action` (output of one) or a `LogEntry` (what happened beside the
policies; nothing is fed with it).  A class of one of these groups is registered by being there.
"""

from __future__ import annotations

import dataclasses
import enum
import operator
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
FiveTuple = tuple[str, str, int, int, int]  # source, destination, protocol, source port, destination port

UNITS: Mapping[str, str] = {
    "bytes": "bytes",
    "pkts": "packets",
    "ns": "ns",
    "us": "us",
    "ms": "ms",
    "s": "s",
    "bps": "bit/s",
    "ratio": "0..1",
}
"""The unit that the last word of a name stands for."""

_NAMES: dict[type[Any], tuple[str, ...]] = {}  # what was asked for before
_FIELDS: dict[type[Any], tuple[Field, ...]] = {}
_GETTERS: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {}
_GROUPS: set[type] = set()  # whose subclasses are registered
_PLAIN = frozenset({int, float, str, bool, type(None)})
_R = TypeVar("_R", bound="Record")


class Doc(NamedTuple):
    """What a field means, and its unit; empty: the last word of its name."""

    meaning: str
    unit: str = ""


class Field(NamedTuple):
    """One field of a record as declared.

    Attributes:
        name: of the field.
        type: its type, without documentation.
        doc: what it means; None: the declaration does not say.
        default: what holds in a written form without the field, which is of a time before it was there; `MISSING`: the
            field is in every written form.
    """

    name: str
    type: Any
    doc: Doc | None
    default: Any

    @property
    def has_default(self) -> bool:
        """Return whether a written form may be without the field."""
        return self.default is not dataclasses.MISSING

    @property
    def unit(self) -> str:
        """Return the unit; empty when neither declaration nor name says it."""
        stated = self.doc.unit if self.doc else ""
        return stated or UNITS.get(self.name.rpartition("_")[2], "")

    @property
    def meaning(self) -> str:
        """Return what it means; empty when the declaration does not say."""
        return self.doc.meaning if self.doc else ""


class Short(enum.Enum):
    """How a record of very many rows is written (`records.written`), and so how a replay restores it."""

    NEVER = "in full"
    SAMPLES = "only the number of rows is stored; replay reads the rows of `samples.parquet` with this `t_ns`"
    DIGEST = "only the number of rows and a SHA-256 are stored; replay recomputes the record and compares"


class Record:
    """Base of all records.

    Attributes:
        kinds: every registered record by the name of its class.
        short: how it is written when it has very many rows.
        sent_as: for an event in short, the output of a policy that it is: a record of the same fields.
    """

    __slots__ = ()
    kinds: ClassVar[dict[str, type[Record]]] = {}
    short: ClassVar[Short] = Short.DIGEST
    sent_as: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        """Register the subclass under its name (a slotted dataclass is made twice: the last one counts)."""
        if any(base in _GROUPS for base in cls.__mro__[1:]):
            Record.kinds[cls.__name__] = cls

    def to_record(self) -> dict[str, Any]:
        """Return ``{"kind": class name, field: plain value, ...}``; arrays become lists."""
        kind = type(self)
        values = map(plain, getter_of(kind)(self))
        return {"kind": kind.__name__, **dict(zip(names_of(kind), values, strict=True))}

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by the values alone: a row of samples crosses from process to process a hundred times a second."""
        return _restored, (type(self), getter_of(type(self))(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.to_record() == other.to_record()

    def __hash__(self) -> int:
        return hash(repr(self.to_record()))


class Event(Record):
    """A fact of the past, input of a policy."""

    __slots__ = ()


class Action(Record):
    """A command, output of a policy; the engine carries it out."""

    __slots__ = ()


class LogEntry(Record):
    """What happened beside the policies; a replay passes over it."""

    __slots__ = ()
    short: ClassVar[Short] = Short.NEVER


_GROUPS |= {Event, Action, LogEntry}


def recast(record: Record, kind: type[_R]) -> _R:
    """Return a record of another kind with the same fields, such as what was sent as what arrives.

    Raises:
        TypeError: when the kinds differ in their fields.
    """
    return kind(**values_of(record))


def values_of(record: Record) -> dict[str, Any]:
    """Return the fields of a record by name."""
    return {name: getattr(record, name) for name in names_of(type(record))}


def names_of(kind: type[Record]) -> tuple[str, ...]:
    """Return the names of the fields in the order of their declaration."""
    names = _NAMES.get(kind)
    if names is None:
        names = _NAMES[kind] = tuple(field.name for field in dataclasses.fields(cast(Any, kind)))
    return names


def fields_of(kind: type[Record]) -> tuple[Field, ...]:
    """Return the fields in the order of their declaration."""
    fields = _FIELDS.get(kind)
    if fields is None:
        fields = _FIELDS[kind] = _declared(kind)
    return fields


def _declared(kind: type[Record]) -> tuple[Field, ...]:
    types = typing.get_type_hints(kind, include_extras=True)
    fields = []
    for field in dataclasses.fields(cast(Any, kind)):
        declared, doc = types[field.name], None
        if typing.get_origin(declared) is Annotated:
            doc = next((extra for extra in declared.__metadata__ if isinstance(extra, Doc)), None)
            declared = declared.__origin__
        made = field.default_factory
        default = field.default if made is dataclasses.MISSING else made()
        fields.append(Field(name=field.name, type=declared, doc=doc, default=default))
    return tuple(fields)


def columns_of(kind: type[Record]) -> tuple[str, ...]:
    """Return the names of the fields that have a number for each row, in the order of their declaration."""
    return tuple(field.name for field in fields_of(kind) if field.type in (Ints, Floats))


def flaws(kind: type[Record]) -> list[str]:
    """Return what the declaration of a record lacks, a line each."""
    declared: Any = kind
    found: list[str] = []
    if not getattr(getattr(kind, "__dataclass_params__", None), "frozen", False):
        return [f"{kind.__name__} is no frozen dataclass"]
    if not all(field.kw_only for field in dataclasses.fields(declared)):
        found.append(f"{kind.__name__} can be made by position")
    if not (kind.__doc__ or "").strip() or str(kind.__doc__).startswith(f"{kind.__name__}("):  # made by dataclasses
        found.append(f"{kind.__name__} has no docstring")
    for field in fields_of(kind):
        found += [f"{kind.__name__}.{field.name} does not say what it means"] * (not field.meaning)
        found += [f"{kind.__name__}.{field.name} does not say its unit"] * (not field.unit)
    if issubclass(kind, Event) and kind.short is Short.DIGEST and {"nodes", "slots"} & set(names_of(kind)):
        sent = Record.kinds.get(kind.sent_as)
        if sent is None or names_of(sent) != names_of(kind):
            found.append(f"{kind.__name__} cannot be replayed: in short, it is no output of a policy")
    return found


def getter_of(kind: type[Record]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what takes the values of all fields out of a record; an `attrgetter` takes a third of a loop's time."""
    getter = _GETTERS.get(kind)
    if getter is None:
        names = names_of(kind)
        many = len(names) > 1  # of one name alone it returns no tuple
        getter = operator.attrgetter(*names) if many else lambda record: tuple(getattr(record, name) for name in names)
        _GETTERS[kind] = getter
    return getter


def _restored(kind: type[_R], values: tuple[Any, ...]) -> _R:
    record = object.__new__(kind)
    for name, value in zip(names_of(kind), values, strict=True):
        object.__setattr__(record, name, value)
    return record


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple):
        return [item if type(item) in _PLAIN else plain(item) for item in value]
    return value
