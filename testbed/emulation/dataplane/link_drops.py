"""What the links of the network drop, each frame once.

The kernel counts the drops of a veth pair at its ends: what does not fit into the other end's ring at the sender, what
the receiver cannot take at the receiver.  But a frame that an XDP program sends back (XDP_TX) or on, and that does not
get across, it counts at both ends.  How many those are each end says in its own statistics (ethtool), so they can be
taken off once.

Source: Linux, drivers/net/veth.c, veth_get_stats64() and veth_get_ethtool_stats().
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool

from testbed.emulation.network.mininet import EmulatedNetwork
from testbed.system import kernel

_COUNTED_TWICE = re.compile(r"[rt]x_queue_\d+_xdp_(tx|xmit)_errors")


class InterfaceDrops(NamedTuple):
    """The drops of one interface: all it counts, and those that the other end of its link counts too."""

    counted: int
    twice: int


class LinkDrops:
    """Counts from its making on."""

    def __init__(self, network: EmulatedNetwork) -> None:
        self._network = network
        self._before = self._read()

    def between(self, a: str, b: str) -> int:
        """Return how many frames the link between two hosts or switches has dropped, in either direction."""
        now, before = self._now, self._before
        ends = [self._network.network.interface(*pair) for pair in ((a, b), (b, a))]
        counted, twice = (sum(now[end][k] - before[end][k] for end in ends) for k in (0, 1))
        return counted - twice

    def look(self) -> None:
        """Read every interface; `between` says what was dropped until then."""
        self._now = self._read()

    def _read(self) -> Mapping[str, InterfaceDrops]:
        found = interface_drops()
        for host in self._network.network.hosts:
            with kernel.network_of(self._network.pid(host.name)):
                found.update(interface_drops())
        return found


def interface_drops() -> dict[str, InterfaceDrops]:
    """Return the drops of every interface of the current network namespace, by name."""
    with IPRoute() as netlink:
        stats = {link.get_attr("IFLA_IFNAME"): link.get_attr("IFLA_STATS64") for link in netlink.get_links()}
    return {
        name: InterfaceDrops(of["rx_dropped"] + of["tx_dropped"], _counted_twice(name)) for name, of in stats.items()
    }


def _counted_twice(interface: str) -> int:
    statistics = _statistics(interface)
    return sum(value for name, value in statistics.items() if _COUNTED_TWICE.fullmatch(name))


def _statistics(interface: str) -> dict[str, int]:
    """Return what the interface's driver counts by itself; nothing where it does not (`lo`, bridges)."""
    ethtool = IoctlEthtool(interface)
    try:
        return dict(ethtool.get_statistics())
    except (OSError, EthtoolError):
        return {}
    finally:
        ethtool.close()
