"""Plain data of a stated form: what a reader may rely on once it has the record.

The form is a class with annotations, checked by pydantic in its strict mode: ``"5"`` and ``true`` are no integers.
What the class does not name is let through, since a later version may write more.
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from functools import lru_cache
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from testbed.files.reading import Source

_T = TypeVar("_T")

# A figure beyond these is damage; within them, sums and squares of a million stay finite.
FIGURE_BOUND = 1e24
Figure = Annotated[float, Field(ge=-FIGURE_BOUND, le=FIGURE_BOUND)]
Count = Annotated[int, Field(ge=0, lt=2**62)]
Positive = Annotated[int, Field(gt=0, lt=2**62)]
Name = Annotated[str, Field(max_length=200)]
Text = Annotated[str, Field(max_length=20_000)]


class Form(BaseModel):
    """Base of forms."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


def check(value: Any, form: type[Form], source: Source, where: str = "") -> None:
    """Refuse a value that has not the form.

    Args:
        value: plain data.
        form: what it must have.
        source: the file it is of, for errors.
        where: the place in the file; empty: all of it.

    Raises:
        InputError: names the place and what is wrong there.
    """
    try:
        form.model_validate(value)
    except ValidationError as error:
        raise source.refusal(words(error, where)) from error


def made(value: Any, cls: type[_T]) -> _T:
    """Return a dataclass made of plain data, with all that is annotated in it: dataclasses, tuples, other types.

    What no field is named for is left out; a field with a default may be missing.

    Raises:
        pydantic.ValidationError: see `words`.
    """
    # As JSON again, since a list is no tuple and an object no dataclass to pydantic's strict mode unless JSON says so.
    found: _T = _adapter(cast(Hashable, cls)).validate_json(json.dumps(value), strict=True)
    return found


@lru_cache(maxsize=64)
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def words(error: ValidationError, where: str = "") -> str:
    """Return the first complaint of pydantic: the place in the data, and what is wrong there."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join([where, *map(str, first["loc"])] if where else map(str, first["loc"]))
    message = first["msg"][:1].lower() + first["msg"][1:]
    return f"{place[:200]}: {message[:300]}" if place else message[:300]
