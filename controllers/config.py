"""What the balancer process is given before it starts: addresses, ports and the policy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from testbed.controllers.liveness import MeshAccess
from testbed.errors import InputError
from testbed.policies.readiness import KEEPALIVE_NS
from testbed.scenario.balancer import BalancerSpec, FrameworkName
from testbed.scenario.network import Host
from testbed.wire.sealing import LONG_AGO_NS, Keyring

MAX_NODES = 2000


@dataclass(frozen=True, slots=True)
class Station:
    """A client or node at a port of the switch.

    Attributes:
        name: as in the topology, such as ``n1``.
        port: OpenFlow port of the balancer's switch towards it.
        mac, ip, ip6: addresses of the host's end; `ip6` may be empty.
        more_ports: further ports of the balancer's switch with equally short paths to it.
        hangs_at: the switch port to which it is connected, as `PortChanged` names it; None: `port`.
        gateway: whether all other addresses are behind it: what the VIP answers to them goes there.
    """

    name: str
    port: int
    mac: str
    ip: str
    ip6: str = ""
    more_ports: tuple[int, ...] = ()
    hangs_at: int | None = None
    gateway: bool = False

    @property
    def ports(self) -> tuple[int, ...]:
        """Return all ports that lead to the station."""
        return (self.port, *self.more_ports)

    @property
    def watched_port(self) -> int:
        """Return the port that goes down with the link of the station."""
        return self.port if self.hangs_at is None else self.hangs_at


@dataclass(frozen=True, slots=True)
class Vip:
    """The address clients send to.

    Attributes:
        mac: the answer to ARP requests for the address.
        ports: UDP and TCP destination ports that are balanced; empty means all.
    """

    ip: str
    mac: str
    ip6: str = ""
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class BalancerConfig:
    """Everything `load_balancer.serve` needs.

    Attributes:
        dpid: datapath id of the balancer's switch; from other switches only port states are used.
        listen_port: TCP port on 127.0.0.1 the switch connects to.
        nodes: in a fixed order: the number of a node in the switch is its position, counted from 1.
        second_tier: nodes that get no flows, only deflected packets.
        deflecting: all nodes, if full nodes hand packets to siblings; empty if they drop.
        rates_bps: service rates of `nodes`; empty: all are equal.
        spec: the policy.
        framework: name of the OpenFlow framework.
        path_basis: initial value of the hash by which the switch selects one of several ports to a station.
        pause_ns: longest time between two notifications of a live node.
        absent: nodes that may be added later.
        mesh: what is needed to receive the monitors' reports; None: only notifications and port states are used.
        seed: derived from the scenario's seed; used for the policy and the hash of the switch.
        now_ns: the run's clock, nanoseconds since its start; monotonic.
        since_ns: start time of this controller if it replaces an earlier one: older messages are ignored.
        ring: its keys; contains every node.
        listening: called when the switch can connect (after a refused attempt the switch waits for a second).
        beat: called in each iteration of the controller's loop, at least every `LONGEST_WAIT_NS`; detects stalls.
    """

    dpid: int
    listen_port: int
    vip: Vip
    clients: tuple[Station, ...]
    nodes: tuple[Station, ...]
    spec: BalancerSpec
    rates_bps: tuple[int, ...] = ()
    second_tier: tuple[Station, ...] = ()
    deflecting: tuple[Host, ...] = ()
    framework: FrameworkName = "os-ken"
    path_basis: int = 0
    pause_ns: int = KEEPALIVE_NS
    absent: tuple[str, ...] = ()
    mesh: MeshAccess | None = None
    seed: int = 0
    now_ns: Callable[[], int] = time.monotonic_ns
    since_ns: int = LONG_AGO_NS
    ring: Keyring = field(kw_only=True, repr=False)
    listening: Callable[[], None] = lambda: None
    beat: Callable[[], None] = lambda: None
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)  # looked up for every slot that moves

    def __post_init__(self) -> None:
        """Refuse values that would cause an error later, in the switch.

        Raises:
            InputError: no node, too many, or a name, port or address that is used twice.
        """
        object.__setattr__(self, "_numbers", {node.name: number for number, node in enumerate(self.nodes, start=1)})
        if not 1 <= len(self.nodes) <= MAX_NODES:
            raise InputError("configuring the balancer", f"{len(self.nodes)} nodes", f"give 1 to {MAX_NODES}")
        stations = self.stations
        for attribute in ("name", "watched_port", "mac", "ip"):
            seen = [getattr(station, attribute) for station in stations]
            twice = sorted({str(value) for value in seen if seen.count(value) > 1})
            if twice:
                what = attribute.replace("watched_", "")
                raise InputError("configuring the balancer", f"{what} {', '.join(twice)} is used twice")

    @property
    def stations(self) -> tuple[Station, ...]:
        """Return all stations at ports of the switch."""
        return (*self.clients, *self.nodes, *self.second_tier)

    @property
    def port_sets(self) -> tuple[tuple[int, ...], ...]:
        """Return the sets of equivalent ports to a station, each set once, in order."""
        return tuple(dict.fromkeys(station.ports for station in self.stations if station.more_ports))

    def number_of(self, node: str) -> int:
        """Return the number of a node in the switch's tables (KeyError if there is no such node)."""
        return self._numbers[node]
