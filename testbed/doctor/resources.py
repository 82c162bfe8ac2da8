"""Limited resources (open files, processes, CPUs, disk): how much there is, and how much a scenario needs.

The counts are those of emulated runs.  A process of a trial inherits the descriptors that its parent held when it was
forked; PID 1 of the sandbox, which makes all networks, programs and processes of the trial, holds most.
"""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path

from testbed.doctor.finding import Finding
from testbed.scenario.model import Scenario

MIN_CPUS = 2
LOW_DISK_BYTES, LEAST_DISK_BYTES = 10**9, 50 * 10**6

_FILES, _FILES_A_NODE, _FILES_A_CLIENT = 64, 40, 10
_PROCESSES, _PROCESSES_A_NODE, _PROCESSES_A_CLIENT = 42, 5, 3

_NEIGHBOURS_A_NODE = 2
_GC_THRESH = Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3")  # for all namespaces together


def files(scenario: Scenario | None) -> int:
    """Return how many files one process of a trial may have to hold open."""
    return _count(scenario, _FILES, _FILES_A_NODE, _FILES_A_CLIENT)


def processes(scenario: Scenario | None) -> int:
    """Return how many processes and threads a trial has at once."""
    return _count(scenario, _PROCESSES, _PROCESSES_A_NODE, _PROCESSES_A_CLIENT)


def _count(scenario: Scenario | None, fixed: int, a_node: int, a_client: int) -> int:
    nodes, clients = (scenario.topology.all_nodes, scenario.topology.clients) if scenario else (1, 1)
    sources = len(scenario.tcp) if scenario else 0
    return fixed + a_node * nodes + a_client * (clients + sources)


def findings(scenario: Scenario | None, out: Path | None) -> Iterator[Finding]:
    """Yield what the limits of this machine allow."""
    yield _open_files(scenario)
    yield _cpus()
    yield _neighbours(scenario)
    yield _disk(out)


def _open_files(scenario: Scenario | None) -> Finding:
    needed, allowed = files(scenario), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if allowed == resource.RLIM_INFINITY or needed <= allowed:
        return Finding("open_files", "ok", f"a process may open {_written(allowed)} files")
    nodes = scenario.topology.all_nodes if scenario else 1
    detail = f"a run of {nodes} nodes needs {needed} open files in a process, and the hard limit is {allowed}"
    return Finding("open_files", "missing", detail, f"raise it: `ulimit -Hn {needed}`, or use fewer nodes")


def _written(limit: int) -> str:
    return "any number of" if limit == resource.RLIM_INFINITY else f"{limit:,}"


def _cpus() -> Finding:
    cpus = len(os.sched_getaffinity(0))
    if cpus < MIN_CPUS:
        return Finding("cpus", "limited", f"{cpus} CPU: senders, switch and agents disturb each other", "use 2 or more")
    return Finding("cpus", "ok", f"{cpus} CPUs")


def _neighbours(scenario: Scenario | None) -> Finding:
    """Entries that are permanent do not count; those between a node and the balancer, one in each of them, do."""
    try:
        most = int(_GC_THRESH.read_text(encoding="ascii"))
    except OSError:  # a container that hides it
        return Finding(
            "neighbours",
            "limited",
            "the size of the neighbour table cannot be read",
            "run doctor outside of a container",
        )
    needed = _NEIGHBOURS_A_NODE * (scenario.topology.all_nodes if scenario else 1)
    if needed <= most:
        return Finding("neighbours", "ok", f"the neighbour table has room for {most:,} entries")
    detail = f"the nodes and the balancer need {needed} entries in the neighbour table, which has room for {most}"
    return Finding("neighbours", "missing", detail, f"sudo sysctl net.ipv4.neigh.default.gc_thresh3={2 * needed}")


def _disk(out: Path | None) -> Finding:
    try:
        folder = _there(out or Path.cwd())
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Finding("disk", "limited", f"the current folder: {error.strerror}", "choose a directory with --out")
    detail, remedy = f"{free / 1e9:.1f} GB free in {folder}", "free disk space, or choose another directory with --out"
    if free < LEAST_DISK_BYTES:
        return Finding("disk", "missing", detail, remedy)
    return Finding("disk", "limited", detail, remedy) if free < LOW_DISK_BYTES else Finding("disk", "ok", detail)


def _there(path: Path) -> Path:
    """Return the part of a path that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
