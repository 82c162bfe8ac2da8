"""What every part of a scenario is made of: quantities with units, plain numbers, and a frozen model.

The model refuses unknown keys and takes no value of one type for another: ``true`` and ``1.0`` are no 1, ``"1.5"`` and
``inf`` (texts, in YAML) are no numbers.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetJsonSchemaHandler, PlainSerializer
from pydantic_core import CoreSchema, PydanticKnownError

from testbed import units


def _number(value: Any) -> Any:
    """Return a finite number as a float; pydantic would take texts and booleans, too, and infinity of either kind."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticKnownError("float_type")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise PydanticKnownError("finite_number")
    return number


def _no_lookalike(value: Any) -> Any:
    """Refuse what only equals a whole number, for literals: in Python True == 1 == 1.0."""
    if isinstance(value, bool | float):
        raise PydanticKnownError("literal_error", {"expected": "a whole number"})
    return value


class Written:
    """Marks a quantity: in a scenario, and so in its JSON schema, it is a text with a unit, inside a whole number."""

    def __init__(self, kind: units.Kind) -> None:
        self.kind = kind

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": self.kind.pattern, "examples": [self.kind.example]}


Duration = Annotated[
    int,
    BeforeValidator(units.duration_ns),
    PlainSerializer(units.duration_text, return_type=str),
    Written(units.DURATION),
]
Size = Annotated[
    int, BeforeValidator(units.size_bytes), PlainSerializer(units.size_text, return_type=str), Written(units.SIZE)
]
Rate = Annotated[
    int, BeforeValidator(units.rate_bps), PlainSerializer(units.rate_text, return_type=str), Written(units.RATE)
]
Number = Annotated[float, BeforeValidator(_number)]
Version = Annotated[Literal[1], BeforeValidator(_no_lookalike)]
IpVersion = Annotated[Literal[4, 6, "mixed"], BeforeValidator(_no_lookalike)]


class Spec(BaseModel):
    """Base of every part of a scenario."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)
