"""A node's link to the switch that a fault takes down: every planned packet that this loses is known.

    cut ─ frames sent before have arrived ─ the node's end goes down ─ … ─ it comes up ─ the cut is removed

Frames that are sent on the link while it is cut are dropped, and each planned packet is recorded (``bpf/link.bpf.c``).
Frames sent before are still in the ring of the node's end, and would be freed without being counted.  So that end goes
down only after its program has seen all of them.
"""

from __future__ import annotations

import time

from testbed.emulation.dataplane.link_meter import LinkMeter
from testbed.emulation.dataplane.node_buffers import NodeBuffers
from testbed.emulation.network.mininet import EmulatedNetwork, NodeLink
from testbed.traffic.numbers import Words

_LOOK_S = 0.0002
_QUIET_LOOKS = 25  # nothing has arrived for 5 ms: what is missing was lost before
_MOST_LOOKS = 250


class FailingLink:
    """Counts from its making on, which is before traffic."""

    def __init__(self, network: EmulatedNetwork, buffers: NodeBuffers, node: str) -> None:
        self._end = NodeLink(network, node)
        interface = network.network.switch_port(node)
        self._meter = LinkMeter(interface, buffers.run_id, buffers.numbers)
        self._program = buffers.programs[node]
        self._seen_before = self._program.seen_pkts()

    def down(self) -> None:
        """Cut it, and take the node's end down, as the switch is to see."""
        self._meter.cut(True)
        self._wait_for_what_is_on_its_way()
        self._end.down()

    def up(self) -> None:
        """Take the node's end up again."""
        self._end.up()

    def restore(self) -> None:
        """Let frames pass again, once the end is up."""
        self._meter.cut(False)

    def lost_pkts(self) -> int:
        """Return how many planned packets it was given while it was cut."""
        return self._meter.cut_planned_pkts()

    def swallowed_frames(self) -> int:
        """Return how many frames of any kind that were."""
        return self._meter.cut_pkts()

    def swallowed(self) -> Words:
        """Return which ones."""
        return self._meter.swallowed()

    def _wait_for_what_is_on_its_way(self) -> None:
        seen, quiet = self._seen(), 0
        for _ in range(_MOST_LOOKS):
            if seen >= self._meter.passed_pkts() or quiet == _QUIET_LOOKS:
                return
            time.sleep(_LOOK_S)
            before, seen = seen, self._seen()
            quiet = quiet + 1 if seen == before else 0

    def _seen(self) -> int:
        return self._program.seen_pkts() - self._seen_before
