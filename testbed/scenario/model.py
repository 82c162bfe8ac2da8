"""The scenario: everything a run depends on, complete and frozen.

Keys and units are those of the YAML (`alias`), attributes are integers with the unit in the name.  Unknown keys are
errors.  `Scenario.resolved()` gives the YAML form back, defaults filled in.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Literal

from pydantic import Field, model_validator

from testbed import units
from testbed.errors import TestbedError
from testbed.scenario.autoscaler import AutoscalerSpec
from testbed.scenario.balancer import BalancerSpec, ControllerSpec
from testbed.scenario.base import Duration, Spec, Version
from testbed.scenario.buffer import BufferSpec, bytes_within
from testbed.scenario.fault import FaultSpec
from testbed.scenario.mesh import MeshSpec
from testbed.scenario.objective import ObjectiveSpec
from testbed.scenario.placement import PlacementSpec
from testbed.scenario.serving import ServeSpec
from testbed.scenario.sources import (
    SourceSpec,
    TcpSpec,
    TrafficSource,
)
from testbed.scenario.tables import BALANCER_POLICIES, TOPOLOGIES, described
from testbed.scenario.topology import TopologySpec

MAX_DURATION_NS = 24 * 3600 * units.NS_PER_S
MAX_SOURCES = 1_000
MAX_PLUGINS = 100
MAX_FAULTS = 10_000
MAX_EXPECTATIONS = 1_000
_NODE_NAME = re.compile(r"n[1-9][0-9]{0,3}")


class Scenario(Spec):
    """One experiment, complete."""

    version: Version = Field(description="version of the file format")
    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,63}$",
        description="name of the scenario; the names of run directories begin with it",
    )
    plugins: tuple[str, ...] = Field(
        (),
        max_length=MAX_PLUGINS,
        strict=False,
        description="plug-in files, which add policies, families, shapes or metrics; paths are "
        "relative to the scenario file",
    )
    seed: int = Field(
        1,
        ge=0,
        lt=2**32,
        description="seed of all random numbers; the same scenario with the same seed has the same planned packets",
    )
    duration_ns: Duration = Field(
        alias="duration", ge=100 * units.NS_PER_MS, le=MAX_DURATION_NS, description="duration of the traffic"
    )
    topology: TopologySpec
    buffer: BufferSpec = Field(default_factory=BufferSpec)
    balancer: BalancerSpec = Field(default_factory=BalancerSpec)
    controller: ControllerSpec = Field(default_factory=ControllerSpec)
    placement: PlacementSpec = Field(default_factory=lambda: PlacementSpec.model_validate({}))
    autoscaler: AutoscalerSpec = Field(default_factory=lambda: AutoscalerSpec.model_validate({}))
    mesh: MeshSpec = Field(default_factory=lambda: MeshSpec.model_validate({}))
    objective: ObjectiveSpec = Field(default_factory=lambda: ObjectiveSpec.model_validate({}))
    agents: Literal["shared", "separate"] = Field(
        "shared",
        description="emulation only. `shared`: one process runs the agents of all nodes, except nodes "
        "that a fault pauses or crashes or that may be added or drained. `separate`: one "
        "process per node",
    )
    traffic: tuple[TrafficSource, ...] = Field(min_length=1, max_length=MAX_SOURCES, strict=False)
    record_packets: bool = Field(
        False,
        description="whether the run writes `packets.parquet` (a row for each planned packet) and `flows.parquet` (a "
        "row for each flow)",
    )
    serve: ServeSpec | None = None
    faults: tuple[FaultSpec, ...] = Field((), max_length=MAX_FAULTS, strict=False)
    expect: tuple[str, ...] = Field(
        (),
        max_length=MAX_EXPECTATIONS,
        strict=False,
        description="conditions on `summary.json`, each of the form `path operator number`",
    )

    @property
    def planned(self) -> tuple[SourceSpec, ...]:
        """Return the sources whose every packet is planned, in order."""
        return tuple(source for source in self.traffic if isinstance(source, SourceSpec))

    @property
    def tcp(self) -> tuple[TcpSpec, ...]:
        """Return the sources of TCP connections, in order."""
        return tuple(source for source in self.traffic if isinstance(source, TcpSpec))

    @property
    def reshapes(self) -> bool:
        """Return whether nodes may be added or drained."""
        return self.autoscaler.scales or any(fault.row.order for fault in self.faults)

    @property
    def unsteady(self) -> bool:
        """Return whether a node may come, go or fail: only then do nodes monitor each other in virtual time."""
        return bool(self.faults) or self.autoscaler.scales

    @model_validator(mode="after")
    def _spare_nodes_are_there(self) -> Scenario:
        """Let the network have the nodes that may be added, as far as `autoscaler.max` allows."""
        topology, most = self.topology, self.autoscaler.max_nodes
        added = [int(f.node[1:]) for f in self.faults if f.kind == "add" and _NODE_NAME.fullmatch(f.node)]
        wanted = max([number for number in added if number <= most] + [most] * self.autoscaler.scales, default=0)
        spare = max(topology.spare, wanted - topology.nodes)
        if spare > topology.spare and "spare" in TOPOLOGIES[topology.family].keys and not topology.site_sizes:
            object.__setattr__(self, "topology", topology.model_copy(update={"spare": spare}))
        return self

    @model_validator(mode="after")
    def _faults_know_links_between_switches(self) -> Scenario:
        """Let each fault of a link know which kind of link that is; a family that fails is found by other checks."""
        if any(fault.link for fault in self.faults):
            with suppress(TestbedError):
                trunks = described(self.topology).trunks
                between = {"-".join(ends) for link in trunks for ends in link.directions}
                for fault in self.faults:
                    fault.aim(between)
        return self

    @model_validator(mode="after")
    def _mesh_fits_the_nodes(self) -> Scenario:
        object.__setattr__(self, "mesh", self.mesh.of_nodes(self.topology.largest_mesh))  # frozen from here on
        return self

    @model_validator(mode="after")
    def _mesh_intervals_fit_the_duration(self) -> Scenario:
        duration, mesh = units.duration_text(self.duration_ns), self.mesh
        if mesh.sync_interval_ns > self.duration_ns:
            every = units.duration_text(mesh.sync_interval_ns)
            raise ValueError(
                f"mesh.sync_interval ({every}) is longer than duration ({duration}): no node would ever send its state"
            )
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
                "traffic is TCP alone; add a source of planned packets, since delay and loss are measured on these"
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
    def _losses_at_the_controller_can_be_distinguished(self) -> Scenario:
        if BALANCER_POLICIES[self.balancer.policy].places_flows and self.tcp:
            raise ValueError(
                f"balancer.policy {self.balancer.policy} and the TCP source {self.tcp[0].name} exclude each other: "
                "losses of TCP and planned packets on the way to the controller cannot be distinguished"
            )
        return self

    @model_validator(mode="after")
    def _pool_holds_every_floor(self) -> Scenario:
        floors = self.topology.largest_mesh * self.buffer.min_bytes  # each site has a pool of its own
        if self.buffer.pool_bytes is not None and self.buffer.pool_bytes < floors:
            pool, least = units.size_text(self.buffer.pool_bytes), units.size_text(floors)
            raise ValueError(f"buffer.pool ({pool}) is less than topology.nodes × buffer.min ({least})")
        return self

    @model_validator(mode="after")
    def _the_delay_target_leaves_every_floor(self) -> Scenario:
        target_ns, floor = self.buffer.delay_target_ns, self.buffer.min_bytes
        slowest = min(self.topology.rates_bps)
        if target_ns is not None and bytes_within(slowest, target_ns) < floor:
            target, rate = units.duration_text(target_ns), units.rate_text(slowest)
            held = units.size_text(bytes_within(slowest, target_ns))
            raise ValueError(
                f"buffer.delay_target ({target}) lets a node of {rate} hold {held}, less than buffer.min "
                f"({units.size_text(floor)}); lower min or raise the target"
            )
        return self

    def resolved(self) -> dict[str, Any]:
        """Return the scenario as YAML data with every default written out."""
        return self.model_dump(by_alias=True, mode="json", exclude_none=True)
