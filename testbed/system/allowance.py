"""How much of the machine this process may use: processors and memory, whatever limits them.

A batch system or a container sets an affinity mask, a CPU quota or a limit of memory.  A quota is the time that the
processes of a control group may run in each period, so it is worth quota / period processors; a part of one is worth
one more process.  Memory that a group uses for files that nobody has read lately is free for others.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max, memory.max), scheduler/sched-bwc.rst and
cgroup-v1/memory.rst.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from testbed.system import control_groups
from testbed.system.control_groups import SELF

_LIMITS = (
    ("memory.max", "memory.current", "inactive_file"),  # v2
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),  # v1
)


def cores(process: Path = SELF) -> int:
    """Return how many processors can work for us at once: 1 or more."""
    affine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([affine, *(math.ceil(quota) for quota in _quotas(process))]))


def free_bytes(process: Path = SELF) -> int:
    """Return the memory that new processes of ours can have."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    lines = dict(line.split(":") for line in text.splitlines())
    return max(0, min([int(lines["MemAvailable"].split()[0]) * 1024, *_left_bytes(process)]))


def _quotas(process: Path) -> Iterator[float]:
    """Yield how many processors each control group is worth that has a quota."""
    for folder in _groups("cpu", process):
        first = f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}"
        found = re.fullmatch(r"(\d+) (\d+)", _text(folder / "cpu.max") or first)  # "max" and -1: none
        if found and int(found[2]):
            yield int(found[1]) / int(found[2])


def _left_bytes(process: Path) -> Iterator[int]:
    """Yield how much memory each control group that has a limit leaves us."""
    for folder in _groups("memory", process):
        for limit, used, idle in _LIMITS:
            most, now = _text(folder / limit), _text(folder / used)
            if most.isdigit() and now.isdigit():
                files = re.search(rf"^{idle} (\d+)$", _text(folder / "memory.stat"), re.MULTILINE)
                yield int(most) - int(now) + (int(files[1]) if files else 0)


def _groups(controller: str, process: Path) -> list[Path]:
    with suppress(OSError):
        return list(dict.fromkeys(control_groups.folders(controller, process)))
    return []


def _text(path: Path) -> str:
    """Return what a file of a control group says; "" where there is none."""
    with suppress(OSError):
        return path.read_text(encoding="ascii").strip()
    return ""
