"""Traffic sources, as a scenario writes them: planned packets of a shape or a trace, and TCP connections."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from testbed import units
from testbed.scenario.base import Duration, IpVersion, Number, Rate, Size, Spec
from testbed.scenario.link_spec import LARGEST_FRAME_BYTES, MAX_RATE_BPS
from testbed.scenario.tables import TRAFFIC_SHAPES, OwnShape, options_of

CongestionControl = Literal["cubic", "bbr", "reno"]
RowKind = Literal["bins", "bursts"]

OWN_SHAPE = "of a plug-in"  # the kind of every source with such a shape
HEADER_BYTES = 42  # Ethernet, IPv4, UDP
PROBE_BYTES = 32  # the measurement header in each data packet
MIN_PACKET_BYTES = HEADER_BYTES + PROBE_BYTES
MIN_PACKET6_BYTES = MIN_PACKET_BYTES + 20  # the header of IPv6 is so much longer
ETHERNET_BYTES = 1514  # the largest frame of an ordinary link
MAX_PACKET_BYTES = LARGEST_FRAME_BYTES


_ONE_OF = "give exactly one of constant, exponential, pareto"
_CONSTANT = f"constant duration; {_ONE_OF}"
_MEAN = f"mean of the distribution; {_ONE_OF}"


class ParetoSpec(Spec):
    """Pareto durations: heavy tail with shape `alpha` > 1 and the given mean."""

    mean_ns: Duration = Field(alias="mean", gt=0, description=_MEAN)
    alpha: Number = Field(
        gt=1.0, description="shape parameter of the Pareto distribution; the closer to 1, the heavier the tail"
    )


class ExponentialSpec(Spec):
    """Exponential durations."""

    mean_ns: Duration = Field(alias="mean", gt=0, description=_MEAN)


class DurationDist(Spec):
    """A distribution of durations: exactly one of the keys."""

    constant_ns: Duration | None = Field(None, alias="constant", gt=0, description=_CONSTANT)
    exponential: ExponentialSpec | None = None
    pareto: ParetoSpec | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> DurationDist:
        if sum(part is not None for part in (self.constant_ns, self.exponential, self.pareto)) != 1:
            raise ValueError("give exactly one of constant, exponential, pareto")
        return self


class PrecursorSpec(Spec):
    """What announces a burst: for `lead` before it, the source ramps up to `strength` times its peak."""

    lead_ns: Duration = Field(
        alias="lead", gt=0, description="time from the start of the precursor to the start of the burst"
    )
    strength_ratio: Number = Field(
        alias="strength", ge=0.0, le=1.0, description="maximum rate of the precursor, as a fraction of `peak`"
    )


def _sent_by_a_machine(rate_bps: int) -> int:
    if rate_bps > MAX_RATE_BPS:
        raise ValueError(f"{units.rate_text(rate_bps)} is beyond {units.rate_text(MAX_RATE_BPS)}; lower it")
    return rate_bps


SourceRate = Annotated[Rate, AfterValidator(_sent_by_a_machine)]


class SourceSpec(Spec):
    """What every traffic source has."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="unique name of the source")
    client: str = Field(alias="from", description="the host that sends, such as c1")
    flows: int = Field(100, ge=1, le=20_000, description="distinct UDP flows (source ports)")
    packet_bytes: Size = Field(
        "1000B", alias="packet", ge=MIN_PACKET_BYTES, le=MAX_PACKET_BYTES, description="length of every frame"
    )
    ip: IpVersion = Field(4, description="IP version; `mixed`: every second flow uses IPv6")

    @model_validator(mode="after")
    def _the_headers_fit(self) -> SourceSpec:
        if self.ip != 4 and self.packet_bytes < MIN_PACKET6_BYTES:
            raise ValueError(f"packet ({self.packet_bytes}B) is less than the {MIN_PACKET6_BYTES}B of IPv6 headers")
        return self


class PoissonSpec(SourceSpec):
    """Poisson arrivals at a mean rate."""

    shape: Literal["poisson"] = Field(description="selects this kind of source")
    rate_bps: SourceRate = Field(alias="rate", gt=0, description="mean rate")


class ConstantSpec(SourceSpec):
    """Equally spaced packets."""

    shape: Literal["constant"] = Field(description="selects this kind of source")
    rate_bps: SourceRate = Field(alias="rate", gt=0, description="mean rate")


class OnOffSpec(SourceSpec):
    """Bursts: on periods at `peak`, off periods silent."""

    shape: Literal["on-off"] = Field(description="selects this kind of source")
    on: DurationDist
    off: DurationDist
    peak_bps: SourceRate = Field(alias="peak", gt=0, description="sending rate during on periods")
    burst_flows: int = Field(
        20,
        ge=1,
        le=20_000,
        description="number of flows per burst; each burst uses the next flows, so they are new until all were used",
    )
    precursor: PrecursorSpec | None = None

    @model_validator(mode="after")
    def _a_burst_has_flows_enough(self) -> OnOffSpec:
        if self.burst_flows > self.flows:
            raise ValueError(
                f"a burst uses {self.burst_flows} flows, the source has {self.flows}; raise flows or lower burst_flows"
            )
        return self


class WaveSpec(SourceSpec):
    """Demand that swells and ebbs periodically, such as that of a day, or of a flash crowd that comes again.

    Waves travel where sources in different regions have the same `period` and different times `peak_at`.
    """

    shape: Literal["wave"] = Field(description="selects this kind of source")
    low_bps: SourceRate = Field("0Mbit", alias="low", validate_default=True, description="rate between two waves")
    peak_bps: SourceRate = Field(alias="peak", gt=0, description="rate at the top of a wave")
    period_ns: Duration = Field(alias="period", gt=0, description="time from one wave to the next")
    width_ns: Duration | None = Field(
        None, alias="width", gt=0, description="length of a wave, from low to low; default `period`"
    )
    peak_at_ns: Duration = Field("0ms", alias="peak_at", description="time of the top of the first wave")
    flow_life_ns: Duration = Field("1s", alias="flow_life", gt=0, description="time for which a flow sends")
    concurrent: int = Field(50, ge=1, le=20_000, description="number of flows that send at the same time")

    @model_validator(mode="after")
    def _a_wave_fits_its_period(self) -> WaveSpec:
        if self.width_ns is not None and self.width_ns > self.period_ns:
            raise ValueError("width is longer than period; shorten it, or leave it out")
        if self.low_bps > self.peak_bps:
            raise ValueError("low is more than peak; exchange them")
        if self.concurrent > self.flows:
            raise ValueError(
                f"concurrent ({self.concurrent}) is more than flows ({self.flows}); raise flows or lower concurrent"
            )
        return self


class TraceSpec(SourceSpec):
    """Replay of a recorded trace: CSV ``time_s,bytes``, ``.npz`` with ``bytes_per_bin`` and ``bin_s``, or a pcap."""

    trace: str = Field(description="trace file; the path is relative to the scenario file")
    rows: RowKind | None = Field(
        None, description="content of the rows of a CSV file; default: inferred from the timestamps and reported"
    )
    bin_ns: Duration | None = Field(
        None, alias="bin", gt=0, description="bin length of a CSV file with `rows: bins`; empty bins may be omitted"
    )
    rate_scale: Number = Field(1.0, gt=0, le=1e6, description="multiplies the bytes")
    stretch: Number = Field(1.0, gt=0, le=1e6, description="multiplies the times")
    replay: Literal["bytes", "packets"] = Field(
        "bytes",
        description="only for captures: replay the bytes over time, or each packet with its size, five-tuple and gap",
    )

    @model_validator(mode="before")
    @classmethod
    def _a_packet_of_a_capture_is_an_ordinary_frame(cls, data: Any) -> Any:
        """Take `packet` for the longest frame where sizes are those of the capture."""
        if isinstance(data, dict) and data.get("replay") == "packets":
            return {"packet": f"{ETHERNET_BYTES}B", **data}
        return data

    @model_validator(mode="after")
    def _packets_keep_their_bytes(self) -> TraceSpec:
        if self.replay == "packets" and self.rate_scale != 1.0:
            raise ValueError("rate_scale changes sizes, which replay: packets keeps; use stretch, or replay: bytes")
        if self.replay == "packets" and (self.rows is not None or self.bin_ns is not None):
            raise ValueError("rows and bin are for CSV, and replay: packets is for captures; remove them")
        return self

    @model_validator(mode="after")
    def _bins_have_a_length(self) -> TraceSpec:
        if self.rows == "bursts" and self.bin_ns is not None:
            raise ValueError("rows: bursts have no bin; leave out one of the two")
        return self


class OwnShapeSpec(SourceSpec):
    """Packets of a shape that a plug-in declares, at a mean rate."""

    shape: OwnShape = Field(description="a shape that a plug-in declares")
    rate_bps: SourceRate = Field(alias="rate", gt=0, description="mean rate")
    options: dict[str, Any] | None = Field(None, description="further keys, declared by the shape")

    @model_validator(mode="after")
    def _options_are_those_of_the_shape(self) -> OwnShapeSpec:
        options_of(TRAFFIC_SHAPES[self.shape], self.options)
        return self


class TcpSpec(Spec):
    """Long-lived TCP connections that send as much as congestion control lets them, from start to end of the run.

    They are not planned packets: what they send depends on what the network does.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="unique name of the source")
    client: str = Field(alias="from", description="the host that sends, such as c1")
    shape: Literal["tcp"] = Field(description="selects this kind of source")
    congestion: CongestionControl = Field("cubic", description="congestion control of the sender")
    streams: int = Field(
        1, ge=1, le=64, description="number of connections; the balancer assigns each connection separately"
    )
    ip: IpVersion = Field(4, description="IP version; `mixed`: every second connection uses IPv6")


def _source_kind(data: Any) -> str:
    shape = data.get("shape") if isinstance(data, dict) else getattr(data, "shape", None)
    if isinstance(shape, str) and shape in TRAFFIC_SHAPES and not TRAFFIC_SHAPES.is_ours(shape):
        return OWN_SHAPE
    return str(shape) if shape is not None else "trace"


TrafficSource = Annotated[
    Annotated[PoissonSpec, Tag("poisson")]
    | Annotated[ConstantSpec, Tag("constant")]
    | Annotated[OnOffSpec, Tag("on-off")]
    | Annotated[WaveSpec, Tag("wave")]
    | Annotated[TraceSpec, Tag("trace")]
    | Annotated[TcpSpec, Tag("tcp")]
    | Annotated[OwnShapeSpec, Tag(OWN_SHAPE)],
    Discriminator(_source_kind),
]
