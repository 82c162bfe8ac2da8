"""How long a CPU quota has stopped the control group of a run.

A quota of any parent group stops the run as well, so all groups up to the root are read: one file per group,
``cpu.stat``, in the unified hierarchy (v2, microseconds) or in that of the controller ``cpu`` (v1, nanoseconds).  The
sandbox has its own ``/sys``, which shows no control groups.  So the files are opened outside and read inside.  A root
group has no quota; if there is no other group, nothing can be stopped.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.stat) and scheduler/sched-bwc.rst (v1).
"""

from __future__ import annotations

import os
from pathlib import Path

from testbed.system import control_groups

_FIELDS = {"throttled_usec": 1000, "throttled_time": 1}  # v2 and v1, with what makes nanoseconds of them


class CpuQuota:
    """The open files of a process's control groups; they stay readable wherever it goes."""

    def __init__(self, process: Path = control_groups.SELF) -> None:
        """Open them; `process` is its folder in ``/proc``."""
        folders = dict.fromkeys(control_groups.folders("cpu", process))
        self.known = bool(folders)
        self._files = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in map(_stat, folders) if path.exists()]

    def throttled_ns(self) -> int | None:
        """Return the time since the groups were made, of all of them; None: no control groups are mounted here."""
        return sum(_throttled_ns(os.pread(file, 4096, 0)) for file in self._files) if self.known else None

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            os.close(file)
        self._files = []


def _stat(folder: Path) -> Path:
    return folder / "cpu.stat"


def _throttled_ns(content: bytes) -> int:
    fields = (line.split() for line in content.decode("ascii").splitlines())
    return sum(int(value) * _FIELDS[name] for name, value in fields if name in _FIELDS)
