"""How long a CPU quota has stopped the control group that a run is in.

A quota of any group above stops us as well, so the whole way up to the root is read: one file a group, ``cpu.stat``, in
the unified hierarchy (v2, microseconds) or in that of the controller ``cpu`` (v1, nanoseconds).  The sandbox has a
``/sys`` of its own that shows no control groups: the files are opened outside and read inside.  A root group has no
quota; where it is all there is, nothing can be stopped.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.stat) and scheduler/sched-bwc.rst (v1).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

_FIELDS = {"throttled_usec": 1000, "throttled_time": 1}  # v2 and v1, with what makes nanoseconds of them
_OCTAL = re.compile(r"\\([0-7]{3})")


class CpuQuota:
    """The open files of a process's control groups; they stay readable wherever it goes."""

    def __init__(self, process: Path = Path("/proc/self")) -> None:
        """Open them; `process` is its folder in ``/proc``."""
        folders = dict.fromkeys(_folders(process))
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


def _folders(process: Path) -> Iterator[Path]:
    """Yield the folder of each control group above the process that may have a quota, itself included."""
    mounts = list(_mounts((process / "mountinfo").read_text(encoding="utf-8").splitlines()))
    for line in (process / "cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers or "cpu" in controllers.split(","):
            yield from _upwards(mounts, controllers != "", group)


def _mounts(lines: Iterable[str]) -> Iterator[tuple[bool, str, Path]]:
    """Yield each mounted hierarchy that may rule processors: whether it is v1, which group is its root, and where."""
    for line in lines:
        head, _, tail = line.partition(" - ")
        kind, _, options = [*tail.split(" ", 2), "", ""][:3]
        root, place = (_OCTAL.sub(lambda found: chr(int(found[1], 8)), part) for part in head.split()[3:5])
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            yield kind == "cgroup", root, Path(place)


def _upwards(mounts: Iterable[tuple[bool, str, Path]], first_version: bool, group: str) -> Iterator[Path]:
    for is_first, root, place in mounts:
        if is_first == first_version:
            inside = os.path.relpath(group, root)
            below = place if inside.startswith("..") else place / inside
            yield from (folder for folder in (below, *below.parents) if folder == place or place in folder.parents)
