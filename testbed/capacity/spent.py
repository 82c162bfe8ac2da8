"""CPU time used by the processes of a trial, by kind, read from outside while the trial runs.

The kernel counts the run time of each thread, in nanoseconds (``/proc/PID/task/TID/schedstat``).  It includes interrupt
work, which the kernel charges to the running thread.  A kind is the first word of a process's name, without the number
of a node or client, so that one process for all nodes and one process per node are counted alike.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from testbed.emulation.entering import children

SWITCH, AGENTS, MESH, CONTROL, SENDERS, REST = "switch", "agents", "mesh", "control", "senders", "rest"
_KINDS = {
    "ovs-vswitchd": SWITCH, "agent": AGENTS, "agents": AGENTS, "mesh": MESH, "balancer": CONTROL, "standby": CONTROL,
    "sender": SENDERS,
}  # fmt: skip


class Spent(NamedTuple):
    """What had been spent at an instant.

    Attributes:
        at_ns: CLOCK_MONOTONIC.
        ran_ns: by kind, of all its processes together.
        processes: how many of each kind there are.
    """

    at_ns: int
    ran_ns: Mapping[str, int]
    processes: Mapping[str, int]


def kind_of(name: str) -> str:
    """Return the kind of the process of that name."""
    return _KINDS.get(name.split(" ", maxsplit=1)[0], REST)


class ProcessTree:
    """All processes below one, as they are when this is made."""

    def __init__(self, root: int) -> None:
        self._kind = {pid: kind_of(name_of(pid)) for pid in descendants(root)}
        self._ran_ns = dict.fromkeys(self._kind, 0)  # what one that has ended had spent stays

    def spent(self) -> Spent:
        """Return what they have spent until now."""
        ran_ns, processes = Counter[str](), Counter[str]()
        for pid, kind in self._kind.items():
            self._ran_ns[pid] = max(self._ran_ns[pid], sum(_ran_ns(pid)))
            ran_ns[kind] += self._ran_ns[pid]
            processes[kind] += 1
        return Spent(time.monotonic_ns(), ran_ns, processes)

    def pss_bytes(self, kinds: Collection[str] | None = None) -> int:
        """Return the memory of some kinds, None: of all; pages that k processes share count as one k-th."""
        return sum(_pss_bytes(pid) for pid, its in self._kind.items() if kinds is None or its in kinds)


def descendants(root: int) -> Iterator[int]:
    """Yield all processes below one."""
    for child in children(root):
        yield child
        yield from descendants(child)


def name_of(pid: int) -> str:
    """Return the name of a process; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _ran_ns(pid: int) -> Iterator[int]:
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            yield int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text(encoding="ascii").split()[0])
    except OSError:  # it has ended
        return


def _pss_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
