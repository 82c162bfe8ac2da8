"""What the processes of a trial tell, put into the rows and events that a recorder takes in."""

from __future__ import annotations

from collections import Counter
from typing import Any

from testbed.emulation.processes.channel import Sampled
from testbed.engine import Recorder
from testbed.records.events import values_of
from testbed.records.written import written_sample
from testbed.scenario.network import Network


class Recording:
    """Passes on what is told.  The weight of a node is known from the slots that the balancer last gave it."""

    def __init__(self, recorder: Recorder, network: Network) -> None:
        self._recorder = recorder
        self._names = tuple(node.name for node in network.nodes)
        self._weights: Counter[str] = Counter()

    def sample(self, sampled: Sampled) -> None:
        """Pass on a row of samples, and the policy input that it stands for."""
        row = sampled.row
        self._recorder.append_samples([{**values_of(row), "weight": self._weights.get(row.node)}])
        self._recorder.append_event(row.t_ns, written_sample(sampled.policy, sampled.interval_ns, row))

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
