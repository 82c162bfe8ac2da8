"""How each node sizes its buffer, as a scenario writes it."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from testbed import units
from testbed.scenario.base import Duration, Number, Size, Spec
from testbed.scenario.tables import BUFFER_POLICIES, BufferPolicyName, options_of

MAX_BUFFER_BYTES = 10**9  # of a node: what both engines keep exact


def bytes_within(rate_bps: int, duration_ns: int) -> int:
    """Return the whole bytes that a node of this rate serves in this time."""
    return rate_bps * duration_ns // (8 * units.NS_PER_S)


class BufferSpec(Spec):
    """How each node sizes its buffer."""

    policy: BufferPolicyName = Field("lstm", description="the policy that sizes the buffers")
    model: str | None = Field(
        None,
        max_length=4096,
        description="model file of lstm (.npz) or onnx, relative to the scenario; default: the shipped model",
    )
    min_bytes: Size = Field("0.5MB", alias="min", gt=0, description="minimum limit of a node")
    max_bytes: Size = Field("10MB", alias="max", gt=0, description="maximum limit of a node")
    mean_bytes: Size | None = Field(
        None, alias="mean", gt=0, description="size under static-mean; default halfway between min and max"
    )
    delay_target_ns: Duration | None = Field(
        None,
        alias="delay_target",
        gt=0,
        le=60 * units.NS_PER_S,
        description="maximum queueing delay: no limit exceeds rate × this value; by default only "
        "`max` bounds the limits",
    )
    pool_bytes: Size | None = Field(
        None,
        alias="pool",
        gt=0,
        le=MAX_BUFFER_BYTES * 2000,
        description="memory that all nodes share; by default it is unlimited, and only `max` bounds each node",
    )
    actuation_delay_ns: Duration = Field(
        "0ms",
        alias="actuation_delay",
        ge=0,
        le=100 * units.NS_PER_MS,
        description="delay until an increased limit takes effect",
    )
    sample_interval_ns: Duration = Field(
        "10ms",
        alias="sample_interval",
        ge=units.NS_PER_MS,
        description="time between two samples of a node, and the period of its control loop",
    )
    shrink_hold_ns: Duration = Field(
        "200ms",
        alias="shrink_hold",
        ge=0,
        description="a limit is reduced only after a smaller limit has been sufficient for this time",
    )
    horizon_ns: Duration | None = Field(
        None,
        alias="horizon",
        gt=0,
        description="horizon of the forecast; default `actuation_delay` + 5 × `sample_interval`",
    )
    margin_ratio: Number = Field(
        1.25,
        alias="margin",
        ge=1.0,
        le=10.0,
        description="safety factor: the predicted buffer need is multiplied by this value",
    )
    precursor_gain: Number = Field(
        0.25,
        ge=0.0,
        le=10.0,
        description="the predicted increase of the limit is multiplied by 1 + `precursor_gain` × severity",
    )
    peers: bool = Field(
        True, description="whether burst precursors that other nodes report count, too, at half the weight of its own"
    )
    alpha: Number = Field(
        1.0,
        gt=0.0,
        le=128.0,
        description="`dynamic-threshold`, `abm`: factor of the free pool memory in a node's threshold",
    )
    ecn_threshold_bytes: Size | None = Field(
        None,
        alias="ecn_threshold",
        gt=0,
        le=MAX_BUFFER_BYTES,
        description="backlog above which packets are ECN-marked; default never",
    )
    deflect: bool = Field(False, description="a full node forwards a packet once to a sibling instead of dropping it")
    options: dict[str, Any] | None = Field(None, description="further keys, declared by the policy")

    @field_validator("max_bytes")
    @classmethod
    def _a_node_has_so_much(cls, value: int) -> int:
        if value > MAX_BUFFER_BYTES:
            most = units.size_text(MAX_BUFFER_BYTES)
            raise ValueError(f"{units.size_text(value)} is more than the {most} of a node; lower it")
        return value

    @model_validator(mode="after")
    def _sizes_in_order(self) -> BufferSpec:
        low, high = units.size_text(self.min_bytes), units.size_text(self.max_bytes)
        if self.min_bytes > self.max_bytes:
            raise ValueError(f"min ({low}) is greater than max ({high})")
        if self.mean_bytes is not None and not self.min_bytes <= self.mean_bytes <= self.max_bytes:
            raise ValueError(f"mean ({units.size_text(self.mean_bytes)}) is not between min ({low}) and max ({high})")
        if self.pool_bytes is not None and self.pool_bytes < self.min_bytes:
            raise ValueError(f"pool ({units.size_text(self.pool_bytes)}) does not hold one node's min ({low})")
        return self

    @model_validator(mode="after")
    def _memory_lent_is_not_in_use(self) -> BufferSpec:
        if BUFFER_POLICIES[self.policy].sheds and self.pool_bytes is not None:
            raise ValueError(
                f"pool and policy {self.policy} exclude each other: it sets limits below the backlog, and the pool "
                "would grant memory that is still in use; remove pool"
            )
        return self

    @model_validator(mode="after")
    def _a_model_is_named_where_none_is_shipped(self) -> BufferSpec:
        if BUFFER_POLICIES[self.policy].needs_model and self.model is None:
            raise ValueError(f"policy {self.policy} needs a model; add `model: FILE`, relative to the scenario")
        return self

    @property
    def reads(self) -> str | None:
        """Return the model file of the scenario's that the policy reads, None where it reads none."""
        return self.model if BUFFER_POLICIES[self.policy].reads_model else None

    @model_validator(mode="after")
    def _options_are_those_of_the_policy(self) -> BufferSpec:
        options_of(BUFFER_POLICIES[self.policy], self.options)
        return self
