"""What every test may ask for, and the proof that the tests leave nothing behind.

`@pytest.mark.requires("root", "bpf")` names what a test needs of the machine.  Each need is tried, once a session; a
test whose need is not met is skipped by name, or fails where ``--require root,bpf,ovs`` (or ``TESTBED_REQUIRE``) says
that this machine ought to have it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from testbed.simulation import compiled
from testbed.system import probes

SESSION_VARIABLE = "TESTBED_TEST_SESSION"
OUR_INTERFACE = re.compile(r"^([cnbms]\d+(-eth\d+)?|probe\d)$")
GRACE_S = 3.0

# Timings are no assertions: a busy machine shall not fail a test that is merely slow.
settings.register_profile("testbed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("testbed")


@functools.cache
def _kernel() -> dict[str, str]:
    return probes.kernel_features()


def _module(name: str) -> str:
    try:
        importlib.import_module(name)
    except ImportError as error:
        return str(error)
    return ""


def _program(*names: str) -> str:
    return "" if any(probes.tool(name) for name in names) else f"{names[0]} is not installed"


def _root() -> str:
    if os.geteuid() != 0:
        return "not root"
    return _kernel()["namespaces"]


def _mininet() -> str:
    return _module("mininet") or _program("mnexec")


PROBES: dict[str, Callable[[], str]] = {
    "root": _root,
    "step": lambda: "" if compiled.library() else "bpf/build/step.so is not compiled (make bpf)",
    "bpf": lambda: _kernel()["bpf"] or _kernel().get("native_xdp", "no namespaces to try native XDP in"),
    "ovs": probes.open_vswitch,
    "netem": lambda: _kernel().get("netem", "no namespaces to try netem in"),
    "mininet": _mininet,
    "clang": lambda: _program("clang"),
    "ryu": lambda: "" if importlib.util.find_spec("ryu") else "ryu is not installed",
    "torch": lambda: _module("torch"),
    "onnx": lambda: _module("onnx") or _module("onnxruntime"),
    "tshark": lambda: _program("tshark"),
    "rocrate": lambda: _module("rocrate_validator") or _module("rocrate") or _module("requests_cache"),
    "distributed": lambda: _module("distributed"),
    "promtool": lambda: _program("promtool"),
    "systemd-analyze": lambda: _program("systemd-analyze"),
    "chromium": lambda: _program("chromium", "chromium-browser", "google-chrome"),
}


@functools.cache
def lack_of(thing: str) -> str:
    """Return why this machine cannot serve tests that need `thing`, or "" when it can."""
    return PROBES[thing]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default=os.environ.get("TESTBED_REQUIRE", ""),
        metavar="THINGS",
        help=f"fail, not skip, where one of these is missing (comma-separated): {', '.join(PROBES)}",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"requires(*things): needs of the machine, of {', '.join(PROBES)}")
    unknown = sorted(_required(config) - set(PROBES))
    if unknown:
        raise pytest.UsageError(f"--require: unknown {', '.join(unknown)}; known: {', '.join(PROBES)}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from tests.parallel import ByFile

    return ByFile(config, log)


def _required(config: pytest.Config) -> set[str]:
    return {thing for thing in config.getoption("--require").split(",") if thing}


def pytest_runtest_setup(item: pytest.Item) -> None:
    things = [thing for marker in item.iter_markers("requires") for thing in marker.args]
    unknown = sorted(set(things) - set(PROBES))
    if unknown:
        pytest.fail(f"requires: unknown {', '.join(unknown)}; known: {', '.join(PROBES)}", pytrace=False)
    missing = {thing: reason for thing in things if (reason := lack_of(thing))}
    if not missing:
        return
    text = "; ".join(f"{thing}: {reason}" for thing, reason in missing.items())
    if missing.keys() & _required(item.config):
        pytest.fail(f"required here, but missing: {text}", pytrace=False)
    pytest.skip(f"missing: {text}")


# ------------------------------------------------------------------------------------------------ nothing is left


def _started_by(session: str) -> list[str]:
    """Return the processes that carry our session's mark in their environment or descend from us."""
    mark, ours, found = f"{SESSION_VARIABLE}={session}".encode(), {os.getpid()}, []
    for folder in sorted((path for path in Path("/proc").glob("[0-9]*")), key=lambda path: int(path.name)):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            marked = mark in (folder / "environ").read_bytes().split(b"\0")
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue  # ended while we looked, or not ours to read
        if int(folder.name) != os.getpid() and (marked or parent in ours):
            ours.add(int(folder.name))
            found.append(f"process {folder.name}: {words or '(zombie)'}")
    return found


def _interfaces() -> set[str]:
    links = json.loads(probes.command("ip", "-j", "link")) if probes.tool("ip") else []
    return {f"interface {link['ifname']}" for link in links if OUR_INTERFACE.match(link["ifname"])}


def _entries(folder: str, what: str) -> set[str]:
    path = Path(folder)
    try:
        return {f"{what} {entry.name}" for entry in path.iterdir()}
    except OSError:
        return set()


def _mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    return {f"mount {line.split()[4]}" for line in lines}


def _marks() -> set[str]:
    return _interfaces() | _entries("/run/netns", "named namespace") | _entries("/sys/fs/bpf", "pinned") | _mounts()


def _leftovers(session: str, before: set[str]) -> list[str]:
    return _started_by(session) + sorted(_marks() - before)


@pytest.fixture(scope="module", autouse=True)
def no_plug_in_is_left() -> Iterator[None]:
    """Forget the plug-ins that a file of tests loaded: workers run files in any order and combination."""
    yield
    plugins = sys.modules.get("testbed.scenario.plugins")
    if plugins is not None:
        plugins.forget([plugin.path for plugin in plugins.loaded()])


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the session when a process, interface, namespace, pin or mount of ours outlives it."""
    before, session = _marks(), f"{os.getpid()}-{time.monotonic_ns()}"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(SESSION_VARIABLE, session)
        # No run of a test says what `doctor` has measured for its user.
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
    deadline = time.monotonic() + GRACE_S  # the kernel takes namespaces down after their last process
    while (left := _leftovers(session, before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "left behind by the tests: " + "; ".join(left)
