"""When to kill: the phases of a trial, known from outside by its processes and the counters of its clients.

A phase begins with something that can be seen (a process that is there, or gone; packets that were sent); the signal is
sent an instant later that is newly drawn each time, within what the phase lasts at least.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from pathlib import Path
from signal import SIGTERM
from typing import Any

from testbed.bench import kill_cells as of
from testbed.bench.running_trial import SUPERVISOR, RunningTrial
from testbed.emulation.sandbox import GUARD
from testbed.errors import ToolError
from testbed.system import waiting
from testbed.units import NS_PER_S

SCENARIO: dict[str, Any] = {
    "name": "kill-matrix",
    "duration": "1200ms",
    "topology": {"family": "cluster", "nodes": 2, "clients": 2, "node_rate": "10Mbit"},
    "buffer": {"policy": "static-mean", "min": "0.5MB", "max": "1MB"},
    "controller": {"standby": True},
    "traffic": [
        {"name": "base", "from": "c1", "shape": "constant", "rate": "4Mbit", "flows": 20, "packet": "1000B"},
        # Queues that are full at the end: there is half a second to drain.
        {
            "name": "burst", "from": "c2", "shape": "on-off", "on": {"constant": "150ms"}, "off": {"constant": "150ms"},
            "peak": "40Mbit", "flows": 40, "packet": "1000B",
        },
    ],
    "faults": [{"at": "400ms", "crash": "n2", "for": "400ms"}],
}  # fmt: skip
_FAULT_MS = (430.0, 780.0)
_TRAFFIC_MS = (20.0, 380.0)
_BEFORE_THE_END_MS = 850.0
_PAUSE_S = {of.START: 0.9, of.SET_UP: 0.3, of.READY: 0.05, of.DRAIN: 0.3, of.ENDING: 0.03, of.WRITING: 0.25}
_LAST_MEMBER = "mesh"
_SENDERS = ("sender c1", "sender c2")
_WITHIN_S, _LOOK_S = 60.0, 0.003


def wait_for(trial: RunningTrial, cell: of.Cell, rng: random.Random) -> int:
    """Wait for a moment of the cell's phase and return the victim's process.

    Raises:
        ToolError: the trial ended, or had no such process, before.
    """
    if cell.phase == of.START:
        _until_signals_are_taken(trial)
    elif cell.phase == of.SET_UP:
        _seen(trial, cell.victim)
    elif cell.phase == of.READY:
        _seen(trial, _LAST_MEMBER)
    elif cell.phase in (of.TRAFFIC, of.FAULT):
        trial.wait_until_ms(rng.uniform(*(_TRAFFIC_MS if cell.phase == of.TRAFFIC else _FAULT_MS)))
    else:
        return _after_traffic(trial, cell, rng)
    pid = _seen(trial, cell.victim)
    time.sleep(rng.uniform(0, _PAUSE_S.get(cell.phase, 0)))
    return pid


def _after_traffic(trial: RunningTrial, cell: of.Cell, rng: random.Random) -> int:
    """Wait for the end of processes that were there during the traffic."""
    trial.wait_until_ms(_BEFORE_THE_END_MS)
    pids = trial.pids()
    ends = {of.DRAIN: _SENDERS, of.ENDING: ("agents",), of.WRITING: (GUARD,)}[cell.phase]
    for name in ends:
        _until_gone(pids.get(name))
    time.sleep(rng.uniform(0, _PAUSE_S[cell.phase]))
    if cell.victim not in pids:
        raise ToolError(f"waiting for {cell.victim}", "it has ended before")
    return pids[cell.victim]


def _until_gone(pid: int | None) -> None:
    if pid is None:
        return
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            waiting.readable([descriptor], int(_WITHIN_S * NS_PER_S))
        finally:
            os.close(descriptor)


def _until_signals_are_taken(trial: RunningTrial) -> None:
    """Wait until the command has handlers; before that it is Python's interpreter that starts."""
    status = Path(f"/proc/{trial.pids()[SUPERVISOR]}/status")
    while trial.under_way():
        with suppress(OSError):
            caught = next(line for line in status.read_text(encoding="utf-8").splitlines() if "SigCgt" in line)
            if int(caught.split()[1], 16) >> (SIGTERM - 1) & 1:
                return
        time.sleep(_LOOK_S)


def _seen(trial: RunningTrial, name: str) -> int:
    """Return the process of that name as soon as there is one."""
    deadline = time.monotonic() + _WITHIN_S
    while trial.under_way() and time.monotonic() < deadline:
        if (pid := trial.pids().get(name)) is not None:
            return pid
        time.sleep(_LOOK_S)
    raise ToolError(f"waiting for {name}", "the run ended before, or has no such process")
