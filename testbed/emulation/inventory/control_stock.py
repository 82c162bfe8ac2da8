"""The settings of the buffers besides their limits: ECN, crash, loss and classes, in memory that root can write.

Only faults of the scenario change them.  The agent sets the limit (`emulation.dataplane.limit_watch`) and the sibling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from testbed.emulation.dataplane.xdp import NodeProgram
from testbed.emulation.dataplane.xdp_abi import NODE_CONTROL
from testbed.emulation.inventory.difference import Difference

_OF_THE_AGENT = ("limit_bytes", "sibling")
_WORDS = [name for name in NODE_CONTROL.names or () if name not in _OF_THE_AGENT]


class ControlStock:
    """The control words of every node's program, from the first look on: a run that begins sets its start in them."""

    def __init__(self, programs: Mapping[str, NodeProgram]) -> None:
        self._programs = programs
        self._seen: dict[str, bytes] = {}
        self._found: list[Difference] = []

    def look(self, now_ns: int) -> list[Difference]:
        """Process what has changed since the last look, and return all that has changed so far."""
        for node, program in self._programs.items():
            before, self._seen[node] = self._seen.get(node), program.control()
            if before is not None and before != self._seen[node]:
                self._found += _between(node, before, self._seen[node], now_ns)
        return self._found


def _between(node: str, before: bytes, after: bytes, now_ns: int) -> Iterator[Difference]:
    old, new = (np.frombuffer(content, NODE_CONTROL)[0] for content in (before, after))
    for name in _WORDS:
        if np.any(old[name] != new[name]):
            yield Difference(node, "buffer", "control", name, str(old[name]), str(new[name]), now_ns)
