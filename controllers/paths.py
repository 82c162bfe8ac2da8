"""How the balancer's switch reaches a station: through one port, or through one of several equivalent ports.

    station ─ one port ──▶ that port
            └ several ──▶ set → reg4, hash of the 5-tuple → reg3 ──▶ PATHS ──▶ the group of that path of that set

The group of a path lists its own port first and then the other ports of the set, each watched.  While a port is down,
the next live port of the list is used.
"""

from __future__ import annotations

from collections.abc import Iterator

from testbed.controllers.config import BalancerConfig, Station
from testbed.controllers.openflow import (
    Bucket,
    FlowMod,
    GroupMod,
    HashToRegister,
    Message,
    OpenFlowAction,
    Output,
    Resubmit,
    SetField,
    ToGroup,
    match,
)
from testbed.controllers.table_numbers import Table

PATH, PORT_SET = "reg3", "reg4"  # sets count from 1
_FIRST_GROUP = 1 << 16  # lower numbers are used by the groups of nodes
_MOST_PATHS = 64


def towards(config: BalancerConfig, station: Station) -> tuple[OpenFlowAction, ...]:
    """Return the actions that send a packet to a station."""
    if not station.more_ports:
        return (Output(station.port),)
    spread = HashToRegister(PATH, links=len(station.ports), basis=config.path_basis)
    return (SetField(PORT_SET, _number_of(config, station)), spread, Resubmit(Table.PATHS))


def any_of(config: BalancerConfig, station: Station) -> int:
    """Return the group that is live while any of the ports to a station is up."""
    return _group(_number_of(config, station), 0)


def paths(config: BalancerConfig) -> tuple[Message, ...]:
    """Return the groups and the flows of all sets."""
    return tuple(_messages(config))


def _messages(config: BalancerConfig) -> Iterator[Message]:
    for number, ports in enumerate(config.port_sets, start=1):
        for path in range(len(ports)):
            chain = (*ports[path:], *ports[:path])
            yield GroupMod(_group(number, path), tuple(Bucket(port, (Output(port),)) for port in chain))
            chosen = match(**{PORT_SET: number, PATH: path})
            yield FlowMod(Table.PATHS, 1, chosen, (ToGroup(_group(number, path)),))


def _number_of(config: BalancerConfig, station: Station) -> int:
    return config.port_sets.index(station.ports) + 1


def _group(number: int, path: int) -> int:
    return _FIRST_GROUP + number * _MOST_PATHS + path
