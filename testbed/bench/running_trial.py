"""A trial in a process of its own, observed and changed from outside while it runs.

Its processes carry names (``agents``, ``sender c1``, ``balancer``…); the network of a host is that of its shell, and
the switch's sockets are reached through the root of the sandbox.  Everything ends with the trial.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from testbed.emulation.entering import SHELL
from testbed.emulation.sandbox import GUARD, INIT
from testbed.errors import EXIT_INVALID, EXIT_OK, CommandError, ToolError
from testbed.results.recorded_run import RecordedRun
from testbed.system import commands, interrupts, kernel

SUPERVISOR, TRIAL = "supervisor", INIT
SWITCH, FORWARDER = "switch", "ovs-vswitchd"
_BEGIN_WITHIN_S, _END_WITHIN_S = 90.0, 90.0
_FIRST_PKTS, _POLL_S = 50, 0.01


class Ended(NamedTuple):
    """How the command of a trial ended.

    Attributes:
        code: its exit code; negative: the signal that ended it; None: it had to be killed.
        output, errors: what it wrote.
    """

    code: int | None
    output: str
    errors: str


class RunningTrial:
    """Started on construction; `finish` waits for its end.

    Attributes:
        out: the run directory.
    """

    def __init__(
        self,
        folder: Path,
        scenario: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        """Start a run of `scenario`, without its version, in `folder`; `environment` and `options` are beside ours."""
        source, self.out = folder / "trial.yaml", folder / "run"
        source.write_text(yaml.safe_dump({"version": 1, **scenario}), encoding="utf-8")
        self._argv = [
            sys.executable,
            "-m",
            "testbed",
            "run",
            str(source),
            "--out",
            str(self.out),
            "--no-live",
            "--json",
            *options,
        ]
        self._process = subprocess.Popen(
            self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(environment or {})},
            preexec_fn=partial(_begin, os.getpid()),  # noqa: PLW1509 - there is no other thread
        )  # fmt: skip
        self._began_s: float | None = None

    # ------------------------------------------------------------------------------------------------------- its time

    def wait_until_ms(self, t_ms: float) -> None:
        """Wait for a time since the first packets of client c1, which the counters of its interface tell.

        Raises:
            ToolError: there is no traffic.
        """
        deadline = time.monotonic() + _BEGIN_WITHIN_S
        while self._began_s is None:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise ToolError("waiting for the traffic of a run", "there is none", self._said())
            client = self.pids().get("c1")  # read each time: a shell that starts has another number at first
            if client and _sent_pkts(client, "c1-eth0") > _FIRST_PKTS:
                self._began_s = time.monotonic()
            time.sleep(_POLL_S)
        time.sleep(max(0.0, self._began_s + t_ms / 1e3 - time.monotonic()))

    def _said(self) -> str:
        self._process.kill()
        return self._process.communicate(timeout=_END_WITHIN_S)[1].strip() or "run it manually"

    def finish(self) -> dict[str, Any]:
        """Wait for the end and return the summary, with the checks by name under ``checks``.

        Raises:
            CommandError: the run failed.
        """
        code, output, errors = self.ended(_END_WITHIN_S)
        if code is None:
            raise CommandError("running a trial", self._argv, -1, output, f"no end within {_END_WITHIN_S:g} s")
        if code not in (EXIT_OK, EXIT_INVALID):
            raise CommandError("running a trial", self._argv, code, output, errors)
        checks = (RecordedRun.open(self.out).document("fidelity.json") or {})["checks"]
        return {**json.loads(output), "checks": {check["name"]: check for check in checks}}

    def under_way(self) -> bool:
        """Return whether its command has not ended."""
        return self._process.poll() is None

    def ended(self, within_s: float) -> Ended:
        """Wait for the end of the command, however it comes, and kill it when it takes too long."""
        try:
            output, errors = self._process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return Ended(None, *self._process.communicate())
        return Ended(self._process.returncode, output, errors)

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        self._process.kill()
        self._process.communicate()

    # -------------------------------------------------------------------------------------------------- its processes

    def pids(self) -> dict[str, int]:
        """Return every process of the run by its name: that of a process or a daemon, or the host of a shell.

        Guard and PID 1 (`TRIAL`) are there once the sandbox is.
        """
        supervisor, children = self._process.pid, _children()
        guard = next((child for child in children.get(supervisor, ()) if _name(child) == GUARD), None)
        below = [] if guard is None else [guard, *_below(guard, children)]  # beside it there may be probes of doctor
        named = {_name(pid): pid for pid in reversed(below)}  # who is just forked has its parent's name
        return {**named, SUPERVISOR: supervisor}

    def pid(self, name: str) -> int:
        """Return the process of that name.

        Raises:
            ToolError: there is none.
        """
        found = self.pids().get(name)
        if found is None:
            raise ToolError(f"looking for {name}", "the run has no such process")
        return found

    # ------------------------------------------------------------------------------------------- its network and switch

    def network_of(self, host: str) -> AbstractContextManager[None]:
        """Return a context in which this thread is in the network of a host, or of the ``switch``."""
        return kernel.network_of(self.pid(FORWARDER if host == SWITCH else host))

    def openflow(self, command: str, *arguments: str) -> str:
        """Give the switch a command of ``ovs-ofctl`` and return the answer."""
        target = f"unix:{self._switch_folder}/s1.mgmt"
        return commands.run(f"ovs-ofctl {command}", ["ovs-ofctl", "-O", "OpenFlow13", command, target, *arguments])

    def configure(self, *arguments: str) -> None:
        """Give the switch's database a command of ``ovs-vsctl``."""
        argv = ["ovs-vsctl", f"--db=unix:{self._switch_folder}/db.sock", "--no-wait", *arguments]
        commands.run("ovs-vsctl", argv)

    @property
    def _switch_folder(self) -> Path:
        return Path(f"/proc/{self.pid(FORWARDER)}/root/run/openvswitch")


def _begin(parent: int) -> None:
    """Begin as a command in a terminal does, whatever signals we ignore, and leave no core dump behind."""
    kernel.die_with_parent(parent)
    for number in interrupts.STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _children() -> dict[int, list[int]]:
    """Return the children of every process; the kernel's own lists of them leave some out while others end."""
    found: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
        found.setdefault(parent, []).append(int(entry.parent.name))
    return found


def _below(pid: int, children: Mapping[int, Sequence[int]]) -> Iterator[int]:
    for child in children.get(pid, ()):
        yield child
        yield from _below(child, children)


def _name(pid: int) -> str:
    """Return the name of a process; a host's shell carries that of the host."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    return next((word.removeprefix(SHELL) for word in words if word.startswith(SHELL)), name)


def _sent_pkts(pid: int, interface: str) -> int:
    """Return what an interface of the network of a process has sent."""
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    counts = (line.split(":")[1].split() for line in lines if line.strip().startswith(f"{interface}:"))
    return next((int(fields[9]) for fields in counts), 0)
