"""How `serve` runs a scenario without an end: in windows, with the rate of the hour."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from testbed import units
from testbed.scenario.base import Duration, Number, Spec

DAY_S = 86_400
MAX_WINDOW_NS = 24 * 3600 * units.NS_PER_S

Factor = Annotated[Number, Field(gt=0.0, le=100.0)]


class ServeSpec(Spec):
    """How a trial without an end is divided; the other verbs ignore it."""

    window_ns: Duration = Field(
        "1h",
        alias="window",
        ge=5 * units.NS_PER_S,
        le=MAX_WINDOW_NS,
        description="duration of the traffic in each window; every window has its own verdict; replaces `duration`",
    )
    keep: int = Field(
        48, ge=1, le=100_000, description="number of windows whose run directories are kept (the newest ones)"
    )
    day: tuple[Factor, ...] = Field(
        (1.0,),
        min_length=1,
        max_length=1440,
        strict=False,
        description="day profile: factors applied to the planned rates in equal parts of the day, from 00:00 UTC on",
    )

    def factor(self, utc_s: float) -> float:
        """Return the factor of the rates at a time, in seconds since 1970-01-01 00:00 UTC."""
        return self.day[int(utc_s % DAY_S / DAY_S * len(self.day))]
