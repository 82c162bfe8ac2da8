"""What this machine offers a run and what it lacks, each finding with the command that mends it.

``diagnose`` tries things (see `testbed.probes`) and never asks for versions to decide.  A finding is ``missing`` when
the scenario at hand (or, without one, any scenario) cannot run, ``limited`` when something is lost but runs are
possible, ``ok`` otherwise.  ``refuse_if_lacking`` turns what is missing into the error a run ends with (status 3).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from testbed import installing, places, probes
from testbed.controllers import framework
from testbed.errors import MachineError, TestbedError
from testbed.spec.scenario import Scenario

Status = Literal["ok", "limited", "missing"]

MIN_CPUS = 2
MIN_FREE_BYTES = 10**9
MAX_NODES_PER_CPU = 16

DEFAULT_FRAMEWORK = "os-ken"

_OTHER_KERNEL = "boot the distribution's stock kernel"
# What a run calls on; only inspection is lost without the last ones.
_NEEDED_PROGRAMS = ("ip", "mnexec")
_USEFUL_PROGRAMS = {
    "bpftool": "looking into loaded BPF programs",
    "ethtool": "looking into interfaces",
    "clang": "compiling bpf/ anew",
}
_MODULES = ("numpy", "pyarrow", "pydantic", "yaml", "typer", "rich", "jinja2", "plotly", "scapy", "pyroute2")
_FEATURES = {
    "veth": "virtual Ethernet pairs",
    "native_xdp": "native XDP on veth",
    "tbf": "token bucket (TBF) for link rates",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        name: what it is, such as ``native_xdp``.
        status: ``ok``, ``limited`` or ``missing``.
        detail: what was found.
        remedy: what mends it, a command where there is one; empty when ok.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""

    def to_record(self) -> dict[str, str]:
        """Return the finding as plain values, for ``--json``."""
        return asdict(self)


def diagnose(scenario: Scenario | None = None) -> list[Finding]:
    """Return what this machine offers and lacks for `scenario`, or for any.  Takes well under a second."""
    return [
        *_root(),
        *_kernel(scenario),
        *_switch(),
        *_programs(),
        *_libraries(),
        *_frameworks(scenario),
        *_compiled_programs(),
        *_congestion_controls(scenario),
        *_resources(scenario),
    ]


def worst(findings: Sequence[Finding]) -> Status:
    """Return the most serious status among the findings."""
    order: tuple[Status, ...] = ("missing", "limited", "ok")
    return next((status for status in order if any(finding.status == status for finding in findings)), "ok")


def to_record(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the whole diagnosis as plain values, for ``--json``."""
    return {"schema": 1, "status": worst(findings), "findings": [finding.to_record() for finding in findings]}


def as_root(arguments: Sequence[str] = ("run", "SCENARIO")) -> str:
    """Return the command that runs the same thing as root with this very Python, whatever sudo does to the PATH."""
    return shlex.join(["sudo", sys.executable, "-m", "testbed", *arguments])


def refuse_without_root(argv: Sequence[str]) -> None:
    """Say which command does the same thing as root.

    Raises:
        MachineError: not root.
    """
    if os.geteuid() != 0:
        words = list(argv) or ["run", "SCENARIO"]
        raise MachineError(words[0], "namespaces and XDP need root", f"use: {as_root(words)}")


def refuse_if_lacking(scenario: Scenario | None) -> None:
    """End a run of `scenario` (None: of any) early, with everything this machine lacks for it in at most five lines.

    Raises:
        MachineError: names up to four things and what mends each.
    """
    missing = [finding for finding in diagnose(scenario) if finding.status == "missing"]
    if not missing:
        return
    first, *others = missing
    lines = [f"{finding.name}: {finding.detail}; {finding.remedy}" for finding in others[:3]]
    if len(others) > 3:
        lines.append(f"and {len(others) - 3} more: see `python -m testbed doctor`")
    detail = f"this machine lacks {first.name} ({first.detail})"
    raise MachineError(f"running {scenario.name if scenario else 'it'}", detail, "\n".join([first.remedy, *lines]))


def _root() -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield Finding("root", "ok", "this is root")
    else:
        yield Finding("root", "missing", "making namespaces and loading XDP takes root", as_root())


def _kernel(scenario: Scenario | None) -> Iterator[Finding]:
    if os.geteuid() != 0:
        yield Finding("kernel", "limited", "its features can only be tried as root", as_root(["doctor"]))
        return
    refusals = probes.kernel_features()
    yield _feature("bpf", "BPF maps and XDP programs", refusals["bpf"])
    yield _feature("namespaces", "PID, mount, network, UTS and IPC namespaces", refusals["namespaces"])
    for name, words in _FEATURES.items():
        yield _feature(name, words, refusals.get(name, "not tried: it takes namespaces"))
    yield _netem(refusals.get("netem", "not tried: it takes namespaces"), scenario)


def _feature(name: str, words: str, refusal: str) -> Finding:
    if not refusal:
        return Finding(name, "ok", f"{words} work")
    return Finding(name, "missing", f"{words}: {refusal}", f"{_OTHER_KERNEL}, outside of an unprivileged container")


def _netem(refusal: str, scenario: Scenario | None) -> Finding:
    if not refusal:
        return Finding("netem", "ok", "link delay (netem) works")
    if scenario is not None and scenario.topology.link_delay_ns > 0:
        remedy = f"set topology.link_delay to 0ms or {_OTHER_KERNEL}"
        return Finding("netem", "missing", f"topology.link_delay needs the netem qdisc: {refusal}", remedy)
    return Finding("netem", "limited", f"no scenarios with link_delay: {refusal}", _OTHER_KERNEL)


def _switch() -> Iterator[Finding]:
    refusal = probes.open_vswitch()
    if refusal:
        yield Finding("openvswitch", "missing", refusal, installing.program("ovs-vswitchd"))
        return
    version = probes.command("ovs-vswitchd", "--version").split("\n")[0].rpartition(" ")[2]
    yield Finding("openvswitch", "ok", f"Open vSwitch {version}; a private database server starts")


def _programs() -> Iterator[Finding]:
    for name in _NEEDED_PROGRAMS:
        path, lacks = probes.tool(name), f"no package {installing.package_of(name)}"
        yield Finding(name, "ok", path) if path else Finding(name, "missing", lacks, installing.program(name))
    for name, use in _USEFUL_PROGRAMS.items():
        path = probes.tool(name)
        lack = Finding(name, "limited", f"not installed; only {use} needs it", installing.program(name))
        yield Finding(name, "ok", path) if path else lack


def _libraries() -> Iterator[Finding]:
    try:
        yield Finding("libbpf", "ok", probes.libbpf())
    except OSError as error:
        yield Finding("libbpf", "missing", str(error), installing.program("libbpf"))
    if importlib.util.find_spec("mininet"):
        yield Finding("mininet", "ok", f"Mininet {_version('mininet')}")
    else:
        lack = f"{sys.executable} cannot import it; the package belongs to /usr/bin/python3"
        yield Finding("mininet", "missing", lack, f"{installing.program('mininet')}, then run with .venv/bin/python")
    absent = [name for name in _MODULES if importlib.util.find_spec(name) is None]
    if absent:
        yield Finding("python", "missing", f"no {', '.join(absent)} for {sys.executable}", installing.packages(*absent))
    else:
        yield Finding("python", "ok", f"Python {sys.version.split()[0]} with all packages a run needs")
    if importlib.util.find_spec("torch") is None:
        yield Finding("torch", "limited", "not installed; only `train` needs it", installing.optional("train"))
    else:
        yield Finding("torch", "ok", f"torch {_version('torch')}")


def _frameworks(scenario: Scenario | None) -> Iterator[Finding]:
    wanted = scenario.controller.framework if scenario else None
    for name in framework.PACKAGES:
        remedy = framework.remedy(name)
        if framework.installed(name):
            yield Finding(name, "ok", f"{name} {_version(name)}")
        elif name in (wanted, DEFAULT_FRAMEWORK):
            yield Finding(name, "missing", f"controller.framework {name} is not installed", remedy)
        else:
            yield Finding(name, "limited", f"not installed; only controller.framework: {name} needs it", remedy)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(version not stated)"


def _compiled_programs() -> Iterator[Finding]:
    try:
        paths = [places.bpf_object(name) for name in ("node", "sink", "link", "pass")]
    except TestbedError as error:
        yield Finding("bpf_programs", "missing", error.happened, installing.bpf())
        return
    yield Finding("bpf_programs", "ok", f"compiled, in {paths[0].parent}")


def _congestion_controls(scenario: Scenario | None) -> Iterator[Finding]:
    for name in sorted({source.congestion for source in scenario.tcp} if scenario else ()):
        refusal = probes.congestion_control(name)
        if refusal:
            remedy = f"sudo modprobe tcp_{name}, or set the source's congestion to another"
            yield Finding(f"tcp_{name}", "missing", f"congestion control {name}: {refusal}", remedy)
        else:
            yield Finding(f"tcp_{name}", "ok", f"congestion control {name} works")


def _resources(scenario: Scenario | None) -> Iterator[Finding]:
    cpus = len(os.sched_getaffinity(0))
    nodes = scenario.topology.all_nodes if scenario else 1
    if cpus < MIN_CPUS:
        yield Finding("cpus", "limited", f"{cpus} CPU: senders, switch and agents disturb each other", "use 2 or more")
    elif nodes > cpus * MAX_NODES_PER_CPU:
        detail = f"{nodes} nodes on {cpus} CPUs: expect a verdict other than VALID"
        yield Finding("cpus", "limited", detail, "fewer nodes, lower rates, or --engine simulation")
    else:
        yield Finding("cpus", "ok", f"{cpus} CPUs")
    free = shutil.disk_usage(Path.cwd()).free
    enough = free >= MIN_FREE_BYTES
    remedy = "" if enough else "make room, or name another place with --out"
    yield Finding("disk", "ok" if enough else "limited", f"{free / 1e9:.1f} GB free in {Path.cwd()}", remedy)
