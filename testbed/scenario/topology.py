"""Which network a scenario has: a family and its size."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from testbed.scenario.base import Duration, Rate, Spec
from testbed.scenario.link_spec import MAX_LINK_DELAY_NS, MAX_RATE_BPS, LinkSpec
from testbed.scenario.tables import TOPOLOGIES, TopologyFamily, options_of

MOST_NODES = 1000
NodeRate = Annotated[Rate, Field(gt=0, le=MAX_RATE_BPS)]
OWNED_KEYS = ("second_tier", "node_rates", "spare")  # have a meaning in the families that declare them, and in no other


def _names_a_family(schema: dict[str, Any]) -> None:
    """Let a scenario give `file` in place of `family`; loading makes one of the other (`loading`)."""
    schema["required"] = [key for key in schema["required"] if key != "family"]
    schema["anyOf"] = [{"required": ["family"]}, {"required": ["file"]}]


class TopologySpec(Spec):
    """Which network: a family and its size."""

    model_config = ConfigDict(json_schema_extra=_names_a_family)

    family: TopologyFamily = Field(description="topology family, built-in or from a plug-in")
    file: str | None = Field(
        None, description="file with Mininet `Topo` classes, instead of a family; relative to the scenario"
    )
    class_name: str | None = Field(None, alias="class", description="class in `file`; not needed if it has only one")
    nodes: int = Field(3, ge=1, le=MOST_NODES, description="buffer nodes behind the balancer")
    clients: int = Field(2, ge=1, le=200, description="hosts that send")
    node_rate_bps: Rate = Field(
        "100Mbit", alias="node_rate", gt=0, le=MAX_RATE_BPS, description="rate at which a node serves"
    )
    node_rates: tuple[NodeRate, ...] | None = Field(
        None, max_length=2000, strict=False, description="rate of each node; replaces `node_rate`"
    )
    link_delay_ns: Duration = Field(
        "0ms", alias="link_delay", le=MAX_LINK_DELAY_NS, description="one-way delay of client and node links"
    )
    second_tier: int = Field(
        0,
        ge=0,
        le=1000,
        description="family `cascade`: number of second-tier nodes; they receive only packets "
        "deflected by first-tier nodes",
    )
    spare: int = Field(
        0,
        ge=0,
        le=1000,
        description="nodes out of service at the start; must cover all nodes that faults and autoscaler may add",
    )
    switch_ports: Literal["auto", "afxdp", "packet", "kernel"] = Field(
        "auto",
        description="kind of the emulated switch's ports: AF_XDP sockets, packet sockets, or `auto` "
        "(AF_XDP where available); `kernel`: the kernel forwards (its module openvswitch), not the switch's process",
    )
    links: dict[str, LinkSpec] = Field(
        {}, description="capacity, queue and delay of single links, by name, such as `s1-s2`; `*` stands for any part"
    )
    options: dict[str, Any] | None = Field(None, description="further keys, declared by the family")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_family(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("family"), str) and data["family"] in TOPOLOGIES:
            row, options = TOPOLOGIES[data["family"]], data.get("options")
            follows = row.sizes(options) if options is None or isinstance(options, dict) else {}
            return {**row.defaults, **follows, **data}
        return data

    @model_validator(mode="after")
    def _sizes_fit_the_family(self) -> TopologySpec:
        row = TOPOLOGIES[self.family]
        for key in OWNED_KEYS:
            if getattr(self, key) and key not in row.keys:
                owners = ", ".join(other.name for other in TOPOLOGIES if key in other.keys)
                raise ValueError(f"{key} is for family {owners}, not {self.family}")
        if refusal := row.refusal(self):
            raise ValueError(refusal)
        return self

    @model_validator(mode="after")
    def _a_class_has_a_file(self) -> TopologySpec:
        if self.file is not None or self.class_name is not None:
            raise ValueError("class is for a file of Mininet Topo classes; write file and class in place of family")
        return self

    @model_validator(mode="after")
    def _options_are_those_of_the_family(self) -> TopologySpec:
        options_of(TOPOLOGIES[self.family], self.options)
        return self

    @model_validator(mode="after")
    def _every_node_has_one_rate(self) -> TopologySpec:
        if self.node_rates is None:
            return self
        if "node_rate_bps" in self.model_fields_set:
            raise ValueError("node_rate and node_rates exclude each other; give one of the two")
        from_the_start = self.nodes + self.second_tier
        if len(self.node_rates) != from_the_start:
            raise ValueError(
                f"node_rates has {len(self.node_rates)} rates for {from_the_start} nodes; give one rate per node"
            )
        return self

    @model_serializer(mode="wrap")
    def _written_with_one_of_both(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the rate for all where each has its own: the written form has to be readable again."""
        written: dict[str, Any] = write(self)
        if self.node_rates is not None:
            written = {key: value for key, value in written.items() if key not in ("node_rate", "node_rate_bps")}
        return written

    @property
    def rates_bps(self) -> tuple[int, ...]:
        """Return the rate at which each node of both tiers serves, in order; one that may be added has `node_rate`."""
        given = self.node_rates or ()
        return (*given, *((self.node_rate_bps,) * (self.all_nodes - len(given))))

    @property
    def site_sizes(self) -> dict[str, tuple[int, int]]:
        """Return how many nodes each site has at the start, and how many more it may have; empty without sites."""
        return TOPOLOGIES[self.family].sites(self)

    @property
    def largest_mesh(self) -> int:
        """Return how many nodes monitor each other at most: those of a site, where there are sites."""
        return max((sum(size) for size in self.site_sizes.values()), default=self.all_nodes)

    @property
    def all_nodes(self) -> int:
        """Return how many buffer nodes both tiers have, those that may be added with them."""
        return self.nodes + self.second_tier + self.spare
