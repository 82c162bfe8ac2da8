"""A cluster outside the emulation, as its file describes it: one file for all its pods, a ConfigMap in Kubernetes.

What a scenario has in common with it (`buffer`, `mesh`, `balancer`, `autoscaler`, `controller`) has the same keys and
the same meaning.  The rest says where the members are.

Members are known by number: node ``n3`` is number 3, the ordinal of its pod in a StatefulSet.  All addresses inside the
tunnels follow from the number (`tunnels`), so that nothing has to be agreed on.
"""

from __future__ import annotations

import ipaddress
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from testbed.errors import InputError
from testbed.files.reading import Source
from testbed.policies.membership import BALANCER
from testbed.scenario import document, loading
from testbed.scenario.autoscaler import AutoscalerSpec
from testbed.scenario.balancer import BalancerSpec, ControllerSpec
from testbed.scenario.base import Rate, Spec, Version
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.mesh import MeshSpec
from testbed.wire.mesh_messages import ORCHESTRATOR
from testbed.wire.sealing import KEY_BYTES, Keyring, RunSecret

MAX_MEMBERS = 200  # their addresses in the tunnels differ in one byte
LEAST_SECRET_BYTES = 32
_MAX_SECRET_BYTES = 4096
_Listed = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
_ENDING_NUMBER = re.compile(r"(?:^|\D)(\d{1,4})$")


class ClusterSpec(Spec):
    """A cluster as its file has it."""

    version: Version
    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,62}$", description="its name; clusters of different names ignore each other"
    )
    nodes: int = Field(ge=1, le=MAX_MEMBERS, description="the most nodes there may be: n0, n1, …")
    node_host: str | None = Field(None, description="where a node is found: a DNS name that contains `{number}`")
    node_hosts: Annotated[tuple[str, ...] | None, _Listed] = Field(
        None, description="or a host for each node, in order"
    )
    balancer_host: str = Field(min_length=1, description="where the balancer is found")
    backend_host: str = Field(min_length=1, description="where the backend is found")
    rate: Rate = Field(gt=0, description="rate at which a node serves")
    vip: str = Field("198.18.0.10", description="the address that the backend answers from, inside the tunnels")
    ports: Annotated[tuple[int, ...], _Listed] = Field(
        min_length=1, max_length=64, description="UDP and TCP ports of the service"
    )
    secret: str = Field(min_length=1, description="file with at least 32 random bytes, the same for all members")
    buffer: BufferSpec = Field(default_factory=lambda: BufferSpec.model_validate({}))
    mesh: MeshSpec = Field(default_factory=lambda: MeshSpec.model_validate({}))
    balancer: BalancerSpec = Field(default_factory=lambda: BalancerSpec.model_validate({}))
    controller: ControllerSpec = Field(default_factory=lambda: ControllerSpec.model_validate({"standby": True}))
    autoscaler: AutoscalerSpec = Field(default_factory=lambda: AutoscalerSpec.model_validate({}))

    @field_validator("vip")
    @classmethod
    def _vip_is_an_address(cls, value: str) -> str:
        try:
            return str(ipaddress.IPv4Address(value))
        except ValueError:
            raise ValueError(f"vip {value!r} is no IPv4 address") from None

    @field_validator("ports")
    @classmethod
    def _ports_exist(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if wrong := [port for port in value if not 1 <= port <= 65535]:
            raise ValueError(f"{wrong[0]} is no port; give 1 to 65535")
        return value

    @model_validator(mode="after")
    def _nodes_are_found_in_one_way(self) -> ClusterSpec:
        if (self.node_host is None) == (self.node_hosts is None):
            raise ValueError("give either node_host or node_hosts")
        if self.node_host is not None and "{number}" not in self.node_host:
            raise ValueError("node_host does not contain {number}, so all nodes would be one")
        if self.node_hosts is not None and len(self.node_hosts) != self.nodes:
            raise ValueError(f"node_hosts has {len(self.node_hosts)} entries for {self.nodes} nodes")
        return self

    @model_validator(mode="after")
    def _what_needs_one_machine_is_off(self) -> ClusterSpec:
        if self.buffer.deflect:
            raise ValueError("buffer.deflect needs all nodes at one switch; set it to false")
        if self.buffer.pool_bytes is not None:
            raise ValueError("buffer.pool is memory that nodes of one machine share; remove it")
        if self.balancer.policy == "per-flow":
            raise ValueError("balancer policy per-flow is for comparison only: the controller would carry the traffic")
        if self.mesh.gossips:
            raise ValueError("mesh.dissemination gossip is simulated only; remove it")
        if self.buffer.policy == "oracle" or self.autoscaler.policy == "oracle":
            raise ValueError("policy oracle reads the planned traffic, and here none is planned; choose another")
        return self


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster and where its file is."""

    spec: ClusterSpec
    path: Path

    @property
    def nodes(self) -> tuple[str, ...]:
        """Return the names of all nodes there may be."""
        return tuple(f"n{number}" for number in range(self.spec.nodes))

    @property
    def run_id(self) -> int:
        """Return the 32-bit mark of the cluster's messages."""
        return zlib.crc32(self.spec.name.encode())

    def host_of(self, node: str) -> str:
        """Return where a node is found."""
        number = self.nodes.index(node)
        return self.spec.node_hosts[number] if self.spec.node_hosts else str(self.spec.node_host).format(number=number)

    @property
    def mesh(self) -> MeshSpec:
        """Return the mesh, with the defaults of its size."""
        return self.spec.mesh.of_nodes(self.spec.nodes)

    def ring(self, owner: str) -> Keyring:
        """Return the keys of one member; the secret is read for it and forgotten.

        Raises:
            InputError: the file of the secret is missing or too short.
        """
        source = Source(self.path.parent / self.spec.secret, "make one: `head -c 32 /dev/urandom > FILE`")
        content = source.read(_MAX_SECRET_BYTES)
        if len(content) < LEAST_SECRET_BYTES:
            raise source.refusal(f"it has {len(content)} bytes, fewer than {LEAST_SECRET_BYTES}")
        secret = RunSecret(blake2b(content, digest_size=KEY_BYTES, person=b"testbed cluster").digest())
        ring = secret.ring(owner, self.run_id, (*self.nodes, BALANCER, ORCHESTRATOR))
        secret.forget()
        return ring


def load(path: Path) -> Cluster:
    """Read and check a cluster's file.

    Raises:
        InputError: names file and line.
    """
    parsed = document.parse(document.read_bytes(path), str(path))
    return Cluster(loading.as_model(parsed, ClusterSpec), path)


def node_of(cluster: Cluster, given: str, environment: Mapping[str, str]) -> str:
    """Return which node this is: as `given`, else by the number that the name of the pod ends in.

    Raises:
        InputError: it is none of the cluster's.
    """
    name = (
        given
        or environment.get("TESTBED_NODE", "")
        or environment.get("POD_NAME", "")
        or environment.get("HOSTNAME", "")
    )
    found = _ENDING_NUMBER.search(name)
    node = name if name in cluster.nodes else f"n{int(found[1])}" if found else ""
    if node not in cluster.nodes:
        remedy = f"give --name, or set TESTBED_NODE to n0 … n{cluster.spec.nodes - 1}"
        raise InputError("find out which node this is", f"{name!r} names none of the cluster's", remedy)
    return node


def described(spec: ClusterSpec) -> dict[str, Any]:
    """Return the labels that metrics have of a cluster."""
    return {"cluster": spec.name, "policy": spec.buffer.policy}
