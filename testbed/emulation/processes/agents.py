"""The process that runs agents: of all nodes that share one, or of a node with its own processes (`scenario.apart`).

One loop serves the cohorts in the order in which they are due.  It sleeps until an absolute time, so a cohort that
takes long delays only the next one.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from operator import attrgetter

from testbed.emulation.processes.agent import Agent
from testbed.emulation.processes.agent_parts import AgentParts
from testbed.emulation.processes.channel import RecordWriter
from testbed.emulation.processes.pool_lock import open_lock
from testbed.emulation.processes.trial_process import Stopped, TrialConnection
from testbed.system import kernel

SHARED_AGENTS = "agents"  # the process that runs the agents of all nodes without a process of their own
REAL_TIME_PRIORITY = 10
_COLLECT_TURNS = 1000  # what a loop leaves is freed by counting; cycles come from errors alone
_due_ns = attrgetter("due_ns")


class Agents:
    """The body of a process of the trial that runs the agents of some nodes."""

    def __init__(self, cohorts: Sequence[AgentParts]) -> None:
        self._cohorts = cohorts

    def __call__(self, trial: TrialConnection, records: RecordWriter) -> None:
        """Be the agents until SIGTERM."""
        stopped, pool_lock = Stopped(), open_lock()
        agents = [Agent(parts, records, pool_lock) for parts in self._cohorts]
        kernel.sharpen_timers()
        kernel.run_in_real_time(REAL_TIME_PRIORITY)
        t0_ns = trial.ready()
        for agent in agents:
            agent.begin(t0_ns)
        gc.disable()  # the collector runs between two samples, never between a sample and its decision
        turns = 0
        while not stopped:
            _turn(agents)
            trial.sign()
            turns += 1
            if turns % _COLLECT_TURNS == 0:
                gc.collect(0)
        for agent in agents:
            agent.hand_over()


def _turn(agents: Sequence[Agent]) -> None:
    """Let the agent that is due next do what is due, at its time."""
    agent = min(agents, key=_due_ns)
    due_ns = agent.due_ns
    kernel.sleep_until(due_ns)
    agent.wake(due_ns)
