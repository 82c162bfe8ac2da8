"""Turns the messages of a trial's processes into the rows and events that a recorder accepts."""

from __future__ import annotations

from collections import Counter
from typing import Any

from testbed.emulation.processes.sample_block import SampleBlock
from testbed.engine import Recorder
from testbed.records.written import written
from testbed.scenario.network import Network


class Recording:
    """Passes on the records.  The weight of a node is known from the slots that the balancer last gave it."""

    def __init__(self, recorder: Recorder, network: Network) -> None:
        self._recorder = recorder
        self._names = tuple(node.name for node in network.nodes)
        self._weights: Counter[str] = Counter()

    def samples(self, block: SampleBlock) -> None:
        """Pass on rows of samples, and the policy inputs that they stand for."""
        weights = [self._weights.get(node) for node in block.nodes] * len(block.times_ns)
        self._recorder.append_columns({**block.columns(), "weight": weights})
        for t_ns, event in block.events():
            self._recorder.append_event(t_ns, written(event, block.policy, "in"))

    def event(self, t_ns: int, line: dict[str, Any]) -> None:
        """Pass on an event."""
        if slots := line.get("slots"):  # of SetSlots and BalancerReady
            self._weights = Counter(slots)
            self._weights.update(dict.fromkeys(self._names, 0))
        self._recorder.append_event(t_ns, line)

    def waiting(self, what: str, for_ns: int) -> None:
        """Pass on what a trial without traffic waits for."""
        self._recorder.waiting(what, for_ns)

    def tick(self) -> None:
        """Let the recorder write what is due."""
        self._recorder.checkpoint()
