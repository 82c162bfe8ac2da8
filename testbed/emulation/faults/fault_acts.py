"""Injects and removes the faults of a trial; class `Act` in the file with the name of a kind implements the kind.

The failure detector is not informed of faults or of their end.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache

from testbed.emulation.faults.act import FaultAct, FaultContext, Measured
from testbed.scenario.fault import FaultSpec
from testbed.traffic.numbers import Words


@cache
def act_of(kind: str) -> type[FaultAct]:
    """Return the act of a kind of fault (ModuleNotFoundError when there is none)."""
    found: type[FaultAct] = importlib.import_module(f"testbed.emulation.faults.{kind}").Act
    return found


class Acts:
    """Begins and ends faults, and adds up what they cost."""

    def __init__(self, context: FaultContext, specs: Iterable[FaultSpec]) -> None:
        """Get ready for these faults; before traffic, as counting begins on the links they take down."""
        by_act: dict[str, list[FaultSpec]] = {}
        for spec in specs:
            if not spec.row.heals and not spec.row.order:
                by_act.setdefault(spec.row.act, []).append(spec)
        self._acts = {kind: act_of(kind)(context, chosen) for kind, chosen in by_act.items()}

    def begin(self, spec: FaultSpec) -> Measured:
        """Break what the fault says."""
        return self._acts[spec.row.act].begin(spec) or {}

    def end(self, spec: FaultSpec) -> Measured:
        """Heal it."""
        return self._acts[spec.row.act].end(spec) or {}

    def close(self) -> None:
        """Count what is not counted yet; call it when the queues are drained."""
        for act in self._acts.values():
            act.close()

    def lost_packets(self, spec: FaultSpec) -> int:
        """Return how many planned packets faults of that kind and node have cost so far, the present one excepted."""
        return self._acts[spec.row.act].lost_packets(spec.node)

    def link_pkts(self, node: str) -> int:
        """Return how many planned packets a link that fails has swallowed while it was down; 0 for other links."""
        return self._acts["link_down"].lost_packets(node) if "link_down" in self._acts else 0

    def swallowed_frames(self) -> int:
        """Return how many frames of any kind went nowhere on links that were down."""
        return sum(act.swallowed_frames() for act in self._acts.values())

    def swallowed_by_links(self) -> dict[str, Words]:
        """Return which packets those are, of each link that fails, by node."""
        return {node: words for act in self._acts.values() for node, words in act.swallowed().items()}

    def cut_off(self) -> dict[str, Words]:
        """Return which packets links between switches have lost while they were down, by link."""
        return {link: words for act in self._acts.values() for link, words in act.cut_off().items()}

    def cut_pkts(self) -> dict[str, int]:
        """Return how many planned packets that is, one that came twice counted twice."""
        return {link: pkts for act in self._acts.values() for link, pkts in act.cut_pkts().items()}
