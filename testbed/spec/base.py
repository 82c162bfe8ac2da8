"""What every part of a scenario is made of: quantities with units, and a frozen model that refuses unknown keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from testbed import units

Duration = Annotated[int, BeforeValidator(units.duration_ns), PlainSerializer(units.duration_text, return_type=str)]
Size = Annotated[int, BeforeValidator(units.size_bytes), PlainSerializer(units.size_text, return_type=str)]
Rate = Annotated[int, BeforeValidator(units.rate_bps), PlainSerializer(units.rate_text, return_type=str)]


class Spec(BaseModel):
    """Base of every part of a scenario."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)
