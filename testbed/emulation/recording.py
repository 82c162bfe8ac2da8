"""What the processes of a trial tell, put into the rows and events that a recorder takes in."""

from __future__ import annotations

from collections import Counter
from typing import Any

from testbed.emulation.processes.channel import SampleRow
from testbed.engine import Recorder
from testbed.scenario.network import Network

_INPUT = (
    "arrived_bytes", "arrived_pkts", "dropped_bytes", "dropped_pkts", "backlog_bytes", "limit_bytes", "new_flows",
    "gap_max_ns", "peak_1ms_bytes",
)  # fmt: skip


class Recording:
    """Passes on what is told.  The weight of a node is known from the slots that the balancer last gave it."""

    def __init__(self, recorder: Recorder, network: Network) -> None:
        self._recorder = recorder
        self._names = tuple(node.name for node in network.nodes)
        self._weights: Counter[str] = Counter()

    def sample(self, row: SampleRow) -> None:
        """Pass on a row of samples, and the policy input that it stands for."""
        columns = dict(row.columns, weight=self._weights.get(row.columns["node"]))
        self._recorder.append_samples([columns])
        self._recorder.append_event(columns["t_ns"], _input_of(row.policy, row.interval_ns, columns))

    def event(self, t_ns: int, record: dict[str, Any]) -> None:
        """Pass on an event."""
        if "slots" in record:
            self._weights = Counter(record["slots"])
            self._weights.update(dict.fromkeys(self._names, 0))
        self._recorder.append_event(t_ns, record)

    def waiting(self, what: str, for_ns: int) -> None:
        """Pass on what a trial without traffic waits for."""
        self._recorder.waiting(what, for_ns)

    def tick(self) -> None:
        """Let the recorder write what is due."""
        self._recorder.checkpoint()


def _input_of(policy: str, interval_ns: int, columns: dict[str, Any]) -> dict[str, Any]:
    """Return the `TrafficSampled` record of one node that a row of samples stands for."""
    head = {"policy": policy, "direction": "in", "kind": "TrafficSampled", "nodes": [columns["node"]]}
    return {**head, "interval_ns": interval_ns, **{name: [columns[name]] for name in _INPUT}}
