"""A fault as the scenario writes it: when, what breaks or heals, and the keys that belong to it.

That its target exists is checked in ``fault_checks.py``; what happens when is unrolled in ``fault_timeline.py``.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from testbed import units
from testbed.scenario.base import Duration, Number, Spec

FaultKind = Literal["crash", "restart", "link_down", "link_up", "flap", "loss", "partition", "kill", "pause", "cpu_hog"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
HEALS: dict[FaultKind, FaultKind] = {"restart": "crash", "link_up": "link_down"}
_WITHOUT_END: tuple[FaultKind, ...] = ("kill", *HEALS)
_NEEDS: dict[FaultKind, dict[str, str]] = {  # further keys, each with what it may look like
    "pause": {"for": "30ms"},
    "flap": {"for": "4s", "period": "400ms"},
    "cpu_hog": {"for": "2s"},
    "loss": {"ratio": "0.01"},
}


class FaultSpec(Spec):
    """Something that breaks, or heals, at a time: exactly one of the keys says what."""

    at_ns: Duration = Field(alias="at", ge=0)
    crash: str | None = Field(None, description="a node that falls silent; its links stay up")
    restart: str | None = Field(None, description="a crashed node that starts anew")
    link_down: str | None = Field(None, description="a link between switch and node, such as s1-n2")
    link_up: str | None = Field(None, description="a link that is down and comes up again")
    flap: str | None = Field(None, description="a link that goes down and up again, once a period")
    loss: str | None = Field(None, description="a link on which packets to the node are lost at random")
    partition: tuple[Annotated[tuple[str, ...], Field(strict=False)], ...] | None = Field(
        None, strict=False, description="groups of nodes whose mesh messages do not reach each other"
    )
    kill: Literal["controller", "controllers"] | None = Field(
        None, description="the controller that steers is killed, or all there are"
    )
    pause: str | None = Field(None, description="a node whose processes are stopped")
    cpu_hog: int | None = Field(None, ge=1, le=64, description="how many processes burn CPU beside the trial")
    for_ns: Duration | None = Field(None, alias="for", gt=0, description="how long it lasts; without it, for good")
    period_ns: Duration | None = Field(
        None, alias="period", ge=2 * units.NS_PER_MS, description="of a flap: down for its first half, up for the other"
    )
    ratio: Number | None = Field(None, gt=0.0, le=1.0, description="of a loss: share of the packets")

    @model_validator(mode="after")
    def _one_kind_with_its_keys(self) -> FaultSpec:
        given = [kind for kind in FAULT_KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(FAULT_KINDS)}")
        needed = _NEEDS.get(self.kind, {})
        allowed = {*needed, *(() if self.kind in _WITHOUT_END else ("for",))}
        for key, value in {"for": self.for_ns, "period": self.period_ns, "ratio": self.ratio}.items():
            if value is None and key in needed:
                raise ValueError(f"{self.kind} needs {key}; add {key}: {needed[key]}")
            if value is not None and key not in allowed:
                raise ValueError(f"{self.kind} takes no {key}; leave it out")
        return self

    @property
    def kind(self) -> FaultKind:
        """Return what breaks."""
        return next(kind for kind in FAULT_KINDS if getattr(self, kind) is not None)

    @property
    def link(self) -> str | None:
        """Return the link it hits; None for a fault of something else."""
        return self.link_down or self.link_up or self.flap or self.loss

    @property
    def hits_a_node(self) -> bool:
        """Tell whether it is aimed at a node or its link."""
        return self.kind not in ("partition", "kill", "cpu_hog")

    @property
    def node(self) -> str:
        """Return the node it hits; empty for a partition, the controller and the machine."""
        return self.crash or self.restart or self.pause or (self.link or "").removeprefix("s1-")
