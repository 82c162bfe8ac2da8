"""The interface of a fault: how it begins and ends, which packets it loses, and which system changes it explains.

The class `Act` in the file with the name of the kind (``crash.py``) implements it; `FaultAct` has the defaults.
"""

from __future__ import annotations

import os
import signal
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed.emulation.dataplane.node_buffers import NodeBuffers
from testbed.emulation.inventory.difference import Difference
from testbed.emulation.network.mininet import EmulatedNetwork
from testbed.emulation.processes.trial_process import TrialProcess
from testbed.errors import ToolError
from testbed.scenario.fault import FaultSpec
from testbed.scenario.network import Network
from testbed.traffic.numbers import Words

_SEEN_WITHIN_S = 1.0

Measured = dict[str, Any]


@dataclass(slots=True)
class LossCounters:
    """Losses of the acts, counted where they occur.

    Attributes:
        ended: names of processes that a fault has killed.
        discarded_pkts: frames discarded with the queue of a crashed node, by node; planned or not.
        discarded_planned_pkts: the planned packets among them, of the crashes that are over.
    """

    ended: set[str] = field(default_factory=set)
    discarded_pkts: Counter[str] = field(default_factory=Counter)
    discarded_planned_pkts: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class FaultContext:
    """What faults act on.

    Attributes:
        network: the running network.
        buffers: of every node.
        seed_of: derives the seed of a named stream.
        processes: every process of the trial that a fault may hit, by name.
        release: returns the memory of a node to the pool.
        revive: restarts the processes of a node and returns them, running.
        failed: takes in that a fault has ended the processes of a node.
        runs: tells whether a node is not out of service by order.
        counters: the losses of the acts.
    """

    network: EmulatedNetwork
    buffers: NodeBuffers
    seed_of: Callable[[str], int]
    processes: dict[str, TrialProcess]
    release: Callable[[str], None]
    revive: Callable[[str], list[TrialProcess]]
    failed: Callable[[str], None] = lambda _node: None
    runs: Callable[[str], bool] = lambda _node: True
    counters: LossCounters = field(default_factory=LossCounters)

    def alive(self, *names: str) -> list[TrialProcess]:
        """Return the processes of these names that no fault has ended."""
        return [self.processes[name] for name in names if name in self.processes and name not in self.counters.ended]

    def processes_of(self, node: str) -> list[TrialProcess]:
        """Return the processes of a node that no fault has ended."""
        return self.alive(f"agent {node}", f"mesh {node}")

    def end(self, *names: str) -> None:
        """Kill processes, and see them end."""
        processes = self.alive(*names)
        for process in processes:
            self.counters.ended.add(process.name)
            os.kill(process.pid, signal.SIGKILL)
        for process in processes:
            see(f"killing {process.name}", process.ended)


class FaultAct(ABC):
    """The act of one kind of fault.

    `begin` and `end` return what was measured, to be recorded, and raise `ToolError` when it is not seen to happen.
    """

    def __init__(self, context: FaultContext, specs: Sequence[FaultSpec]) -> None:
        """Get ready for the faults of this kind; before traffic."""
        self.context, self.specs = context, specs

    @abstractmethod
    def begin(self, spec: FaultSpec) -> Measured | None:
        """Break what the fault says."""

    def end(self, spec: FaultSpec) -> Measured | None:  # noqa: B027 (some faults end by themselves)
        """Heal it."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Count what is not counted yet; called when the queues are drained."""

    def lost_packets(self, node: str) -> int:
        """Return how many planned packets faults of this kind have lost at the node so far, without the present one."""
        return 0

    def swallowed(self) -> dict[str, Words]:
        """Return which packets failed links have dropped, by node."""
        return {}

    def cut_off(self) -> dict[str, Words]:
        """Return which packets links between switches have lost while they were down, by link."""
        return {}

    def cut_pkts(self) -> dict[str, int]:
        """Return how often that was."""
        return {}

    def swallowed_frames(self) -> int:
        """Return how many frames of any kind failed links have dropped."""
        return 0

    @staticmethod
    def covers(found: Difference, spec: FaultSpec, network: Network) -> bool:
        """Return whether a change that the inventory found is one that the fault orders."""
        return False


def is_control(found: Difference, node: str, *words: str) -> bool:
    """Return whether what was found is one of these words of the control map of a node's buffer."""
    return (found.namespace, found.kind, found.thing) == (node, "buffer", "control") and found.what in words


def see(attempted: str, happened: Callable[[], bool]) -> None:
    """Wait until it is seen to have happened.

    Raises:
        ToolError: it is not.
    """
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while not happened():
        if time.monotonic() > deadline:
            raise ToolError(attempted, f"no effect was observed within {_SEEN_WITHIN_S:g} s", "read logs/trial.log")
        time.sleep(0.0002)
