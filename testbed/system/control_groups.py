"""The control groups that a process is in: folders whose files say what it may use, in either version.

A limit of any group above holds as well, so the whole way up to the root is given: in the unified hierarchy (v2), and
in that of the controller asked for (v1).  In a container the mount shows a group as the root.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/cgroups.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

SELF = Path("/proc/self")
_OCTAL = re.compile(r"\\([0-7]{3})")


def folders(controller: str, process: Path = SELF) -> Iterator[Path]:
    """Yield the folder of each control group above a process that may limit it, its own first.

    Args:
        controller: of the first version, such as ``cpu`` or ``memory``.
        process: its folder in ``/proc``.

    Raises:
        OSError: ``/proc`` does not say.
    """
    mounts = list(_mounts((process / "mountinfo").read_text(encoding="utf-8").splitlines(), controller))
    for line in (process / "cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            yield from _upwards(mounts, controllers != "", group)


def _mounts(lines: Iterable[str], controller: str) -> Iterator[tuple[bool, str, Path]]:
    """Yield each mounted hierarchy that may have the controller: whether it is v1, which group is its root, where."""
    for line in lines:
        head, _, tail = line.partition(" - ")
        kind, _, options = [*tail.split(" ", 2), "", ""][:3]
        root, place = (_OCTAL.sub(lambda found: chr(int(found[1], 8)), part) for part in head.split()[3:5])
        if kind == "cgroup2" or (kind == "cgroup" and controller in options.split(",")):
            yield kind == "cgroup", root, Path(place)


def _upwards(mounts: Iterable[tuple[bool, str, Path]], first_version: bool, group: str) -> Iterator[Path]:
    for is_first, root, place in mounts:
        if is_first == first_version:
            inside = os.path.relpath(group, root)
            below = place if inside.startswith("..") else place / inside
            yield from (folder for folder in (below, *below.parents) if folder == place or place in folder.parents)
