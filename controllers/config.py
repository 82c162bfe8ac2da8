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
        more_ports: further ports of the balancer's switch from which it is as far.
        hangs_at: where it hangs, as `PortChanged` names that port; None: at `port`.
    """

    name: str
    port: int
    mac: str
    ip: str
    ip6: str = ""
    more_ports: tuple[int, ...] = ()
    hangs_at: int | None = None

    @property
    def ports(self) -> tuple[int, ...]:
        """Return all ports towards it."""
        return (self.port, *self.more_ports)

    @property
    def watched_port(self) -> int:
        """Return the port that goes down with its link."""
        return self.port if self.hangs_at is None else self.hangs_at


@dataclass(frozen=True, slots=True)
class Vip:
    """The address clients send to.

    Attributes:
        mac: what ARP for the address is answered with.
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
        dpid: datapath id of the bridge; of other switches that connect only the states of ports are taken in.
        listen_port: TCP port on 127.0.0.1 the switch connects to.
        nodes: in an order that never changes: a node's number in the switch is its place, counted from 1.
        second_tier: nodes that get no flows, only what others deflect to them.
        deflecting: all nodes, when full ones hand packets to siblings; empty when they drop.
        rates_bps: at which `nodes` serve; empty: they count as equal.
        spec: the policy.
        framework: what speaks OpenFlow.
        path_basis: with what the hash begins by which the switch chooses among ports towards a station.
        pause_ns: how long a node that lives may pause between two notifications.
        absent: nodes that may be added and are not there yet.
        mesh: what it takes to hear the nodes on each other; None: the balancer relies on notifications and ports.
        seed: drawn from the scenario's; seeds the policy and the switch's hash.
        now_ns: the run's clock, nanoseconds since its start; must not go back.
        since_ns: when this controller was started, for one that may have been there before: older messages are ignored.
        ring: its keys; every node is a member.
        listening: called when the switch can connect, which tries again a second after it was refused.
        beat: called once a turn of the controller's loop, every `LONGEST_WAIT_NS` at least: shows when it stood still.
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
    _numbers: dict[str, int] = field(init=False, repr=False, compare=False)  # asked for with every slot that moves

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the switch.

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
        """Return who is at a port of the switch."""
        return (*self.clients, *self.nodes, *self.second_tier)

    @property
    def port_sets(self) -> tuple[tuple[int, ...], ...]:
        """Return the sets of several ports that are as good towards a station, each once, in order."""
        return tuple(dict.fromkeys(station.ports for station in self.stations if station.more_ports))

    def number_of(self, node: str) -> int:
        """Return the number of a node in the switch's tables (KeyError when there is no such node)."""
        return self._numbers[node]
