"""The scenario: everything a run depends on, complete and frozen.

Keys and units are those of the YAML (`alias`), attributes are integers with the unit in the name.  Unknown keys are
errors.  `Scenario.resolved()` gives the YAML form back, defaults filled in.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from testbed import units
from testbed.scenario.base import Duration, IpVersion, Number, Rate, Size, Spec, Version
from testbed.scenario.fault import FaultSpec
from testbed.scenario.mesh import MeshSpec

BufferPolicyName = Literal[
    "static-min", "static-mean", "static-max", "dynamic-threshold", "reactive", "ewma", "holt", "lstm", "oracle"
]
BalancerPolicyName = Literal[
    "ready-first", "headroom", "two-choices", "least-loaded", "round-robin", "hash", "per-flow"
]
FrameworkName = Literal["os-ken", "ryu"]
TopologyFamily = Literal["single", "cluster", "cascade"]
CongestionControl = Literal["cubic", "bbr", "reno"]
RowKind = Literal["bins", "bursts"]

HEADER_BYTES = 42  # Ethernet, IPv4, UDP
PROBE_BYTES = 32  # the measurement header in each data packet
MIN_PACKET_BYTES = HEADER_BYTES + PROBE_BYTES
MIN_PACKET6_BYTES = MIN_PACKET_BYTES + 20  # the header of IPv6 is so much longer
ETHERNET_BYTES = 1514  # the largest frame of an ordinary link
MAX_PACKET_BYTES = 3500  # the largest that XDP takes whole, in a page beside its headroom; links are made as wide
MAX_DURATION_NS = 24 * 3600 * units.NS_PER_S
MAX_LINK_DELAY_NS = 10 * units.NS_PER_S
MAX_RATE_BPS = 100 * 10**9
MAX_BUFFER_BYTES = 10**9  # of a node: what both engines keep exact
MAX_DRAIN_NS = 3600 * units.NS_PER_S  # a run waits until its queues are empty
MAX_SOURCES = 1_000
MAX_FAULTS = 10_000
MAX_EXPECTATIONS = 1_000
MAX_AFFINITY_IDLE_NS = 18 * 3600 * units.NS_PER_S  # OpenFlow counts idle seconds in 16 bits


class TopologySpec(Spec):
    """Which network: a family and its size."""

    family: TopologyFamily = Field(description="one of the files in topologies/")
    nodes: int = Field(3, ge=1, le=1000, description="buffer nodes behind the balancer")
    clients: int = Field(2, ge=1, le=200, description="hosts that send")
    node_rate_bps: Rate = Field(
        "100Mbit", alias="node_rate", gt=0, le=MAX_RATE_BPS, description="rate at which a node serves"
    )
    link_delay_ns: Duration = Field(
        "0ms", alias="link_delay", le=MAX_LINK_DELAY_NS, description="one-way delay of client and node links"
    )
    second_tier: int = Field(
        0, ge=0, le=1000, description="family cascade: further nodes that take only what the first ones deflect"
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_family(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("family") == "single":
            return {"nodes": 1, "clients": 1, **data}
        if isinstance(data, dict) and data.get("family") == "cascade":
            return {"second_tier": 1, **data}
        return data

    @model_validator(mode="after")
    def _nodes_fit_the_family(self) -> TopologySpec:
        if self.family == "single" and self.nodes != 1:
            raise ValueError(f"family single has one node, not {self.nodes}; use family: cluster")
        return self

    @model_validator(mode="after")
    def _second_tier_fits_the_family(self) -> TopologySpec:
        if self.family == "cascade" and not self.second_tier:
            raise ValueError("family cascade needs a second_tier of at least 1 node")
        if self.family != "cascade" and self.second_tier:
            raise ValueError(f"second_tier is for family cascade, not {self.family}")
        return self

    @property
    def all_nodes(self) -> int:
        """Return how many buffer nodes both tiers have."""
        return self.nodes + self.second_tier


class BufferSpec(Spec):
    """How each node sizes its buffer."""

    policy: BufferPolicyName = "lstm"
    min_bytes: Size = Field("0.5MB", alias="min", gt=0, description="floor; never less is reserved")
    max_bytes: Size = Field("10MB", alias="max", gt=0, description="cap of one node")
    mean_bytes: Size | None = Field(
        None, alias="mean", gt=0, description="size under static-mean; default halfway between min and max"
    )
    pool_bytes: Size | None = Field(
        None,
        alias="pool",
        gt=0,
        le=MAX_BUFFER_BYTES * 2000,
        description="memory that all nodes share; default no bound but each node's max",
    )
    actuation_delay_ns: Duration = Field(
        "0ms", alias="actuation_delay", ge=0, le=100 * units.NS_PER_MS, description="time an expansion takes"
    )
    sample_interval_ns: Duration = Field("10ms", alias="sample_interval", ge=units.NS_PER_MS)
    shrink_hold_ns: Duration = Field(
        "200ms", alias="shrink_hold", ge=0, description="a buffer shrinks when less was enough for so long"
    )
    horizon_ns: Duration | None = Field(
        None, alias="horizon", gt=0, description="look-ahead of a forecast; default actuation_delay + 5 samples"
    )
    margin_ratio: Number = Field(
        1.25, alias="margin", ge=1.0, le=10.0, description="predicted need is multiplied by it"
    )
    precursor_gain: Number = Field(0.25, ge=0.0, le=10.0, description="a predicted expansion grows by severity × this")
    alpha: Number = Field(
        1.0, gt=0.0, le=128.0, description="dynamic-threshold: a node holds at most alpha × free pool"
    )
    ecn_threshold_bytes: Size | None = Field(
        None,
        alias="ecn_threshold",
        gt=0,
        le=MAX_BUFFER_BYTES,
        description="backlog above which packets are ECN-marked; default never",
    )
    deflect: bool = Field(False, description="a full node hands a packet once to a sibling instead of dropping it")

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


class BalancerSpec(Spec):
    """How new flows are spread over the nodes."""

    policy: BalancerPolicyName = "ready-first"
    affinity_idle_ns: Duration = Field(
        "30s",
        alias="affinity_idle",
        ge=units.NS_PER_S,
        le=MAX_AFFINITY_IDLE_NS,
        description="a flow silent for so long may be placed anew",
    )


class ControllerSpec(Spec):
    """Who steers the switch."""

    framework: FrameworkName = Field("os-ken", description="what speaks OpenFlow; ryu needs `make ryu`")
    standby: bool = Field(False, description="a second controller takes over when the first is dead or hangs")


class ParetoSpec(Spec):
    """Pareto durations: heavy tail with shape `alpha` > 1 and the given mean."""

    mean_ns: Duration = Field(alias="mean", gt=0)
    alpha: Number = Field(gt=1.0)


class ExponentialSpec(Spec):
    """Exponential durations."""

    mean_ns: Duration = Field(alias="mean", gt=0)


class DurationDist(Spec):
    """A distribution of durations: exactly one of the keys."""

    constant_ns: Duration | None = Field(None, alias="constant", gt=0)
    exponential: ExponentialSpec | None = None
    pareto: ParetoSpec | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> DurationDist:
        if sum(part is not None for part in (self.constant_ns, self.exponential, self.pareto)) != 1:
            raise ValueError("give exactly one of constant, exponential, pareto")
        return self


class PrecursorSpec(Spec):
    """What announces a burst: for `lead` before it, the source ramps up to `strength` times its peak."""

    lead_ns: Duration = Field(alias="lead", gt=0)
    strength_ratio: Number = Field(alias="strength", ge=0.0, le=1.0)


def _sent_by_a_machine(rate_bps: int) -> int:
    if rate_bps > MAX_RATE_BPS:
        raise ValueError(f"{units.rate_text(rate_bps)} is beyond {units.rate_text(MAX_RATE_BPS)}; lower it")
    return rate_bps


SourceRate = Annotated[Rate, AfterValidator(_sent_by_a_machine)]


class SourceSpec(Spec):
    """What every traffic source has."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")
    client: str = Field(alias="from", description="the host that sends, such as c1")
    flows: int = Field(100, ge=1, le=20_000, description="distinct UDP flows (source ports)")
    packet_bytes: Size = Field("1000B", alias="packet", ge=MIN_PACKET_BYTES, le=MAX_PACKET_BYTES)
    ip: IpVersion = Field(4, description="version of IP; mixed: every second flow is IPv6")

    @model_validator(mode="after")
    def _the_headers_fit(self) -> SourceSpec:
        if self.ip != 4 and self.packet_bytes < MIN_PACKET6_BYTES:
            raise ValueError(f"packet ({self.packet_bytes}B) is less than the {MIN_PACKET6_BYTES}B of IPv6 headers")
        return self


class PoissonSpec(SourceSpec):
    """Poisson arrivals at a mean rate."""

    shape: Literal["poisson"]
    rate_bps: SourceRate = Field(alias="rate", gt=0)


class ConstantSpec(SourceSpec):
    """Equally spaced packets."""

    shape: Literal["constant"]
    rate_bps: SourceRate = Field(alias="rate", gt=0)


class OnOffSpec(SourceSpec):
    """Bursts: on periods at `peak`, off periods silent."""

    shape: Literal["on-off"]
    on: DurationDist
    off: DurationDist
    peak_bps: SourceRate = Field(alias="peak", gt=0)
    burst_flows: int = Field(
        20, ge=1, le=20_000, description="flows a burst uses; each burst takes the next ones, so they are new"
    )
    precursor: PrecursorSpec | None = None

    @model_validator(mode="after")
    def _a_burst_has_flows_enough(self) -> OnOffSpec:
        if self.burst_flows > self.flows:
            raise ValueError(
                f"a burst uses {self.burst_flows} flows, the source has {self.flows}; raise flows or lower burst_flows"
            )
        return self


class TraceSpec(SourceSpec):
    """Replay of a recorded trace: CSV ``time_s,bytes``, ``.npz`` with ``bytes_per_bin`` and ``bin_s``, or a pcap."""

    trace: str = Field(description="path, relative to the scenario file")
    rows: RowKind | None = Field(
        None, description="what the rows of a CSV are; without it, what their times suggest, and that is said"
    )
    bin_ns: Duration | None = Field(
        None, alias="bin", gt=0, description="length of a CSV's bins, rows without bytes may be left out"
    )
    rate_scale: Number = Field(1.0, gt=0, le=1e6, description="multiplies the bytes")
    stretch: Number = Field(1.0, gt=0, le=1e6, description="multiplies the times")

    @model_validator(mode="after")
    def _bins_have_a_length(self) -> TraceSpec:
        if self.rows == "bursts" and self.bin_ns is not None:
            raise ValueError("rows: bursts have no bin; leave out one of the two")
        return self


class TcpSpec(Spec):
    """Long-lived TCP connections that send as much as congestion control lets them, from start to end of the run.

    They are not planned packets: what they send depends on what the network does.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")
    client: str = Field(alias="from", description="the host that sends, such as c1")
    shape: Literal["tcp"]
    congestion: CongestionControl = Field("cubic", description="congestion control of the sender")
    streams: int = Field(1, ge=1, le=64, description="connections, each placed by the balancer on its own")
    ip: IpVersion = Field(4, description="version of IP; mixed: every second connection is IPv6")


def _source_kind(data: Any) -> str:
    shape = data.get("shape") if isinstance(data, dict) else getattr(data, "shape", None)
    return str(shape) if shape is not None else "trace"


TrafficSource = Annotated[
    Annotated[PoissonSpec, Tag("poisson")]
    | Annotated[ConstantSpec, Tag("constant")]
    | Annotated[OnOffSpec, Tag("on-off")]
    | Annotated[TraceSpec, Tag("trace")]
    | Annotated[TcpSpec, Tag("tcp")],
    Discriminator(_source_kind),
]


class Scenario(Spec):
    """One experiment, complete."""

    version: Version
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")
    seed: int = Field(1, ge=0, lt=2**32)
    duration_ns: Duration = Field(alias="duration", ge=100 * units.NS_PER_MS, le=MAX_DURATION_NS)
    topology: TopologySpec
    buffer: BufferSpec = Field(default_factory=BufferSpec)
    balancer: BalancerSpec = Field(default_factory=BalancerSpec)
    controller: ControllerSpec = Field(default_factory=ControllerSpec)
    mesh: MeshSpec = Field(default_factory=lambda: MeshSpec.model_validate({}))
    traffic: tuple[TrafficSource, ...] = Field(min_length=1, max_length=MAX_SOURCES, strict=False)
    faults: tuple[FaultSpec, ...] = Field((), max_length=MAX_FAULTS, strict=False)
    expect: tuple[str, ...] = Field((), max_length=MAX_EXPECTATIONS, strict=False)

    @property
    def planned(self) -> tuple[SourceSpec, ...]:
        """Return the sources whose every packet is planned, in order."""
        return tuple(source for source in self.traffic if isinstance(source, SourceSpec))

    @property
    def tcp(self) -> tuple[TcpSpec, ...]:
        """Return the sources of TCP connections, in order."""
        return tuple(source for source in self.traffic if isinstance(source, TcpSpec))

    @model_validator(mode="after")
    def _the_mesh_has_time_to_speak(self) -> Scenario:
        duration, mesh = units.duration_text(self.duration_ns), self.mesh
        if mesh.sync_interval_ns > self.duration_ns:
            every = units.duration_text(mesh.sync_interval_ns)
            raise ValueError(f"mesh.sync_interval ({every}) is longer than duration ({duration}): no node would speak")
        if mesh.silence_ns > self.duration_ns:
            silence = units.duration_text(mesh.silence_ns)
            raise ValueError(
                f"mesh.heartbeat × mesh.misses, {silence} with half a heartbeat, is longer than duration ({duration}): "
                "no silent node would be noticed"
            )
        return self

    @model_validator(mode="after")
    def _something_is_planned(self) -> Scenario:
        if not self.planned:
            raise ValueError(
                "traffic is TCP alone; add a source of planned packets, which delay and loss are measured by"
            )
        return self

    @model_validator(mode="after")
    def _deflection_has_somewhere_to_go(self) -> Scenario:
        if self.topology.second_tier and not self.buffer.deflect:
            raise ValueError("the second tier receives only what the first deflects; add buffer.deflect: true")
        if self.buffer.deflect and self.topology.all_nodes == 1:
            raise ValueError("buffer.deflect needs a second node; this topology has one")
        if self.buffer.deflect and self.topology.link_delay_ns:
            raise ValueError("buffer.deflect excludes topology.link_delay: a deflected packet would skip the delay")
        if self.buffer.deflect and self.tcp:
            raise ValueError(
                f"buffer.deflect and the TCP source {self.tcp[0].name} exclude each other: a deflected segment would "
                "reach a backend that does not hold its connection"
            )
        return self

    @model_validator(mode="after")
    def _packets_at_the_controller_can_be_told_apart(self) -> Scenario:
        if self.balancer.policy == "per-flow" and self.tcp:
            raise ValueError(
                f"balancer.policy per-flow and the TCP source {self.tcp[0].name} exclude each other: what is lost on "
                "the way to the controller could not be told apart"
            )
        return self

    @model_validator(mode="after")
    def _queues_empty_in_time(self) -> Scenario:
        largest, rate_bps = self.buffer.max_bytes, self.topology.node_rate_bps
        drain_ns = largest * 8 * units.NS_PER_S // rate_bps
        if drain_ns > MAX_DRAIN_NS:
            raise ValueError(
                f"buffer.max ({units.size_text(largest)}) takes {drain_ns / units.NS_PER_S:,.0f} s to empty at "
                f"topology.node_rate ({units.rate_text(rate_bps)}), and a run waits for its queues, "
                f"{MAX_DRAIN_NS // units.NS_PER_S:,} s at most; lower the one or raise the other"
            )
        return self

    @model_validator(mode="after")
    def _pool_holds_every_floor(self) -> Scenario:
        floors = self.topology.all_nodes * self.buffer.min_bytes
        if self.buffer.pool_bytes is not None and self.buffer.pool_bytes < floors:
            pool, least = units.size_text(self.buffer.pool_bytes), units.size_text(floors)
            raise ValueError(f"buffer.pool ({pool}) is less than topology.nodes × buffer.min ({least})")
        return self

    def resolved(self) -> dict[str, Any]:
        """Return the scenario as YAML data with every default written out."""
        return self.model_dump(by_alias=True, mode="json", exclude_none=True)
