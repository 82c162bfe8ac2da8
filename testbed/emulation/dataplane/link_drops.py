"""The drops of the network's links, each frame counted once.

The kernel counts the drops of a veth pair at its ends: at the sender what does not fit into the ring of the other end,
at the receiver what it cannot accept.  But a frame that an XDP program returns (XDP_TX) or forwards, and that is lost
on the way to the other end, is counted at both ends.  The statistics of each end (ethtool) say how many these are, so
they can be subtracted once.

At a switch port with an AF_XDP socket, the receiving end also counts frames that the socket could not take, because its
ring was full or all its buffers were filled (``rx_queue_…_drops``).  These frames were lost by the switch, not by the
link.

Source: Linux, drivers/net/veth.c, veth_get_stats64() and veth_get_ethtool_stats().
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool

from testbed.emulation.network.mininet import EmulatedNetwork
from testbed.system import kernel

_COUNTED_TWICE = re.compile(r"[rt]x_queue_\d+_xdp_(tx|xmit)_errors")

_UNRECEIVED = re.compile(r"rx_queue_\d+_drops")


class InterfaceDrops(NamedTuple):
    """The drops of one interface.

    Attributes:
        counted: all it counts.
        twice: those that the other end of its link counts, too.
        unreceived: those of frames that came across the link, and which nobody took here.
    """

    counted: int
    twice: int
    unreceived: int


class LinkDrops:
    """Counts from its making on."""

    def __init__(self, network: EmulatedNetwork, afxdp: Collection[str] = ()) -> None:
        """Begin; `afxdp` are the interfaces whose frames go to AF_XDP sockets."""
        self._network, self._afxdp = network, afxdp
        self._before = self._now = self._read()

    def between(self, a: str, b: str) -> int:
        """Return how many frames the link between two hosts or switches has dropped, in either direction."""
        ends = [self._network.network.interface(*pair) for pair in ((a, b), (b, a))]
        since = [self._since(end) for end in ends]
        return sum(drops.counted - drops.twice for drops in since) - self._at_sockets(ends)

    def at_sockets(self) -> int:
        """Return how many frames found no room in the switch's AF_XDP sockets."""
        return self._at_sockets(self._afxdp)

    def _at_sockets(self, interfaces: Collection[str]) -> int:
        return sum(self._since(name).unreceived for name in interfaces if name in self._afxdp)

    def _since(self, interface: str) -> InterfaceDrops:
        now, before = self._now[interface], self._before[interface]
        return InterfaceDrops(*(new - old for new, old in zip(now, before, strict=True)))

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
    return {name: InterfaceDrops(of["rx_dropped"] + of["tx_dropped"], *_by_driver(name)) for name, of in stats.items()}


def _by_driver(interface: str) -> tuple[int, int]:
    """Return the drops of an interface that count twice, and those of frames that nobody took."""
    statistics = _statistics(interface).items()
    twice, unreceived = (
        sum(value for name, value in statistics if pattern.fullmatch(name)) for pattern in (_COUNTED_TWICE, _UNRECEIVED)
    )
    return twice, unreceived


def _statistics(interface: str) -> dict[str, int]:
    """Return what the interface's driver counts by itself; nothing where it does not (`lo`, bridges)."""
    ethtool = IoctlEthtool(interface)
    try:
        return dict(ethtool.get_statistics())
    except (OSError, EthtoolError):
        return {}
    finally:
        ethtool.close()
