"""The command line as a user calls it: a process of its own, with whatever streams and environment it is given."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
TINY = """# What is said, and how does it end?
version: 1
name: tiny
duration: 200ms
topology: {family: single, node_rate: 10Mbit}
buffer: {policy: static-min}
traffic: [{name: load, from: c1, shape: constant, rate: 1Mbit, packet: 500B}]
"""


def call(
    *arguments: str | bytes | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdout: IO[str] | int = subprocess.PIPE,
    under: tuple[str, ...] = (),
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m testbed`` with `arguments`, behind the command `under`; `env` is added to ours."""
    argv = [*under, sys.executable, "-m", "testbed", *arguments]
    return subprocess.run(
        argv, cwd=cwd, env=environment(**(env or {})), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
        text=True, errors="surrogateescape", timeout=120, check=False,
    )  # fmt: skip


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``testbed`` is the command line."""
    define = f'testbed() {{ "{sys.executable}" -m testbed "$@"; }}; '
    return subprocess.run(
        ["bash", "-c", define + line], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def environment(**added: str) -> dict[str, str]:
    """Return our environment with this tree first in the path of modules."""
    path = ":".join(part for part in (added.get("PYTHONPATH"), str(ROOT)) if part)
    return {**os.environ, **added, "PYTHONPATH": path}


def write_tiny(folder: Path) -> Path:
    """Write a scenario that takes no time and return its path."""
    path = folder / "tiny.yaml"
    path.write_text(TINY, encoding="utf-8")
    return path
