"""What the switches received but did not send, in frames of any traffic: one daemon runs and counts all switches.

    a full packet socket      `dropped`, by the kernel's own count for each socket (`link_drops` for AF_XDP sockets)
    no path in its tables     `unrouted`: the action of the flow entry was to drop; without fragments to the VIP and
                              packets sent by kernels of hosts, which flow entries of the pipeline count separately
    a port refused it         `refused`: the switch received the frame and selected a port, which did not accept it

The switch does not count the last kind.  It logs "error sending Ethernet packet … temporarily unavailable", a few times
a second, and discards the batch.  All ports send through one socket.  When the frames that wait in their rings fill its
buffer (on a busy machine this can happen), it accepts no more.  In an AF_XDP socket, frames stay in its ring until the
next frame to the same port, if the kernel has dropped others before them (a link that is full or down).  So `refused`
is computed: the received frames minus those that the interfaces of the ports received (sent, or dropped there), those
dropped by a cut link, those without a path, and those that the controller never returned.  The daemon sums the frames
without a path only once a second, so this count is read only if frames are missing, after waiting for the next sum.

**The datapath of the kernel** counts the packets of new flows that found the queue to the switch full (`dropped`).  It
has no count of what the flows of its tables dropped, so neither of the other two is known.

Source: Open vSwitch 3.1, lib/netdev-linux.c (netdev_linux_send), lib/dpif-netdev.c (pmd-stats-show, drop counters),
lib/dpctl.c (show: lookups); Linux, net/openvswitch/datapath.c (n_lost).
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from pyroute2 import IPRoute

from testbed.controllers.pipeline import ANSWERED_COOKIE, FRAGMENT_COOKIE, KERNEL_COOKIE
from testbed.emulation.network.open_vswitch import OpenVSwitch

_RECEIVED = re.compile(r"packets received: (\d+)")
_LOST = re.compile(r"lookups: hit:\d+ missed:\d+ lost:(\d+)")
_ADDED_UP_S = 1.2
_DROPPED_BY_ACTION = re.compile(r"^drop_action\w*.*total: (\d+)", re.MULTILINE)


class SwitchLoss(NamedTuple):
    """What the switch lost, see the head of this file; None where this Open vSwitch does not tell.

    Attributes:
        dropped_pkts, unrouted_pkts, refused_pkts: frames.
        asked_pkts, unanswered_pkts: packets handed to the controller, and those that did not come back.
        fragments_pkts: fragments to the VIP, which the pipeline drops; not part of `unrouted_pkts`.
        kernels_pkts: frames that hosts' kernels sent by themselves and the pipeline dropped; not part of it either.
    """

    dropped_pkts: int
    unrouted_pkts: int | None
    refused_pkts: int | None
    asked_pkts: int
    unanswered_pkts: int
    fragments_pkts: int
    kernels_pkts: int


class _Counts(NamedTuple):
    received: int
    given: int


class SwitchCounts:
    """Counts from its making on."""

    def __init__(
        self, switch: OpenVSwitch, bridges: Sequence[str], ports: Sequence[str], *, in_kernel: bool = False
    ) -> None:
        """Begin; of `bridges` the first is the balancer's, `ports` are those of all, in this network namespace."""
        self._switch, self._bridges, self._ports, self._in_kernel = switch, bridges, ports, in_kernel
        self._bridge, self._full_sockets_pkts = bridges[0], 0
        self._dropped_before = self._dropped()
        switch.settle_counts()
        self._discarded_before = self._discarded()  # set-up sends some of these
        self._before, self._unrouted_before = self._read(), self._unrouted()

    def loss(self, swallowed_pkts: int) -> SwitchLoss:
        """Return what was lost since; call it once, when no packet is in transit.

        Args:
            swallowed_pkts: frames that ports were given and a cut link swallowed.
        """
        asked = self._switch.packet_ins(self._bridge)
        unanswered = asked - self._switch.matched_pkts(self._bridge, ANSWERED_COOKIE)
        discarded = [now - before for now, before in zip(self._discarded(), self._discarded_before, strict=True)]
        unrouted, refused = self._unrouted_and_refused(swallowed_pkts + unanswered)
        if unrouted is not None:
            unrouted = max(0, unrouted - sum(discarded))
        return SwitchLoss(self._dropped() - self._dropped_before, unrouted, refused, asked, unanswered, *discarded)

    def _dropped(self) -> int:
        """Return the frames that found no room on their way to the switch, since it was asked first."""
        if self._in_kernel:
            return sum(int(count) for count in _LOST.findall(self._switch.ask("dpctl/show")))
        self._full_sockets_pkts += self._switch.dropped_pkts()
        return self._full_sockets_pkts

    def _unrouted_and_refused(self, known_pkts: int) -> tuple[int | None, int | None]:
        now, before = self._read(), self._before
        if now is None or before is None:
            return None, None
        missing = now.received - before.received - (now.given - before.given) - known_pkts
        if missing <= 0:
            return 0, 0
        time.sleep(_ADDED_UP_S)
        # What is added up late, of before and after, is not of what is missing.
        unrouted = min(missing, self._unrouted() - self._unrouted_before)
        return unrouted, missing - unrouted

    def _discarded(self) -> tuple[int, int]:
        """Return the fragments and the kernels' own frames that their flows have discarded up to now."""
        fragments = self._switch.matched_pkts(self._bridge, FRAGMENT_COOKIE, settled=False)
        kernels = (self._switch.matched_pkts(bridge, KERNEL_COOKIE, settled=False) for bridge in self._bridges)
        return fragments, sum(kernels)

    def _read(self) -> _Counts | None:
        if self._in_kernel:
            return None
        received = [int(count) for count in _RECEIVED.findall(self._switch.ask("dpif-netdev/pmd-stats-show"))]
        if not received:
            return None
        return _Counts(sum(received), self._given())

    def _unrouted(self) -> int:
        return sum(int(count) for count in _DROPPED_BY_ACTION.findall(self._switch.ask("coverage/show")))

    def _given(self) -> int:
        with IPRoute() as netlink:
            stats = {link.get_attr("IFLA_IFNAME"): link.get_attr("IFLA_STATS64") for link in netlink.get_links()}
        return sum(stats[port]["tx_packets"] + stats[port]["tx_dropped"] for port in self._ports)
