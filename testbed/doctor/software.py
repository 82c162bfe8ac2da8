"""The software that a run uses: programs, libraries, frameworks, compiled BPF programs, congestion control."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator

from testbed import installing
from testbed.controllers import framework
from testbed.doctor.finding import Finding
from testbed.errors import TestbedError
from testbed.scenario.model import Scenario
from testbed.system import places, probes

DEFAULT_FRAMEWORK = "os-ken"

# What a run calls on; only inspection is lost without the last ones.
_NEEDED_PROGRAMS = ("ip", "mnexec")
_USEFUL_PROGRAMS = {
    "bpftool": "inspecting loaded BPF programs",
    "ethtool": "inspecting interfaces",
    "clang": "recompiling bpf/",
}
_MODULES = ("numpy", "pyarrow", "pydantic", "yaml", "typer", "rich", "jinja2", "plotly", "scapy", "pyroute2")


def findings(scenario: Scenario | None, *, switch: bool) -> Iterator[Finding]:
    """Yield what is installed; Open vSwitch among it where the kernel's probes have not tried it."""
    if switch:
        yield openvswitch(probes.open_vswitch())
    yield from _programs()
    yield from _libraries()
    yield from _frameworks(scenario)
    yield from _compiled_programs()
    yield from _congestion_controls(scenario)


def openvswitch(refusal: str) -> Finding:
    """Return the finding for what `probes.open_vswitch` gave."""
    if refusal:
        remedy = installing.program("ovs-vswitchd")
        if "temporary file" in refusal:  # tmpfile(3), which knows of no other place
            remedy = "make /tmp writable: sudo mount -t tmpfs tmpfs /tmp"
        return Finding("openvswitch", "missing", refusal, remedy)
    version = probes.command("ovs-vswitchd", "--version").split("\n")[0].rpartition(" ")[2]
    return Finding("openvswitch", "ok", f"Open vSwitch {version}; a private database server starts")


def _programs() -> Iterator[Finding]:
    for name in _NEEDED_PROGRAMS:
        path, lacks = probes.tool(name), f"the package {installing.package_of(name)} is not installed"
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
