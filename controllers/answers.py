"""What the controller has answered lately: more packets of a flow arrive before its pin is in force.

The switch sends packets of a flow to the controller until it has received the pin and updated its cache.  These packets
go to the same node as the first one.  A second decision of the policy could split the flow, and it would take longer.
"""

from __future__ import annotations

from testbed.records.events import FiveTuple
from testbed.units import NS_PER_S

REMEMBERED_NS = NS_PER_S


class Answers:
    """Flow → node, for `REMEMBERED_NS`."""

    def __init__(self) -> None:
        self._given: dict[FiveTuple, tuple[str, int]] = {}  # the oldest first

    def give(self, flow: FiveTuple, node: str, now_ns: int) -> None:
        """Remember an answer."""
        self._forget_old(now_ns)
        self._given.pop(flow, None)
        self._given[flow] = node, now_ns

    def of(self, flow: FiveTuple, now_ns: int) -> str | None:
        """Return the node at which a flow was placed recently."""
        self._forget_old(now_ns)
        node, _ = self._given.get(flow, (None, 0))
        return node

    def withdraw(self, node: str) -> None:
        """Forget the flows that were placed at a node that no longer serves."""
        self._given = {flow: answer for flow, answer in self._given.items() if answer[0] != node}

    def _forget_old(self, now_ns: int) -> None:
        while self._given:
            oldest = next(iter(self._given))
            if now_ns - self._given[oldest][1] < REMEMBERED_NS:
                return
            del self._given[oldest]
