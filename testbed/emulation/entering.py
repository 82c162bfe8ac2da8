"""Runs a command inside a node of a running trial.

    writer of the run ─ guard ─ init of the sandbox ─ … ─ holder of the node
                                  │ user space, mounts, PIDs   │ network

The command enters the namespaces of the sandbox and the network namespace of the node.  So it sees what the node sees:
its interfaces, its neighbours, and the processes of the trial. It runs in the PID namespace of the sandbox and so ends
with the trial. The process that holds the network of a host, and the shell of the host, are named after the host.
Processes inside are looked up in the sandbox's own ``/proc``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

from testbed.emulation.network.names import FOLDER
from testbed.emulation.terminal import Terminal
from testbed.errors import InputError, MachineError
from testbed.results.recorded_run import RecordedRun
from testbed.system import kernel

SHELL = "mininet:"
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126  # as shells answer


def execute(run: RecordedRun, node: str, argv: Sequence[str], terminal: bool = False) -> int:
    """Run a command inside `node` (any host of the trial: n1, c1, b1, …) and return its exit status.

    Standard input, output and error are ours; with `terminal` they are a terminal of its own, carried to ours.
    Ended by signal k it is 128 + k, as in shells.

    Raises:
        InputError: the trial is not running or has no such host.
        MachineError: not root.
    """
    attempted = f"exec {run.path} {node}"
    if run.status != "running":
        raise InputError(attempted, f"the run is {run.status}", "`python -m testbed ps` lists the running trials")
    if os.geteuid() != 0:
        raise MachineError(attempted, "entering a node's namespaces needs root", "use sudo")
    init = _init_of(int(run.manifest["process"]["pid"]))
    shells = {} if init is None else _shells(init)
    if init is None or node not in shells:
        hosts = ", ".join(sorted(shells)) or "none yet: it is a simulation, or still being set up"
        raise InputError(attempted, f"there is no host {node}; there are {hosts}")
    caller, screen = os.getpid(), Terminal() if terminal else None
    child = os.fork()
    if child == 0:
        kernel.die_with_parent(caller)
        _enter(init, shells[node], node)
        _become(argv, screen)
    if screen is not None:
        screen.relay()
    return _status_of(child)


def children(pid: int) -> list[int]:
    """Return the children of a process; none when it has ended."""
    try:
        tasks = [task.read_text(encoding="utf-8") for task in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    return [int(child) for text in tasks for child in text.split()]


def _init_of(writer: int) -> int | None:
    """Return PID 1 of the sandbox that hangs below the writer: the one process there in another PID namespace."""
    home = os.readlink("/proc/self/ns/pid")
    below = [inner for guard in children(writer) for inner in children(guard)]
    return next((pid for pid in below if _namespace_of(pid) not in ("", home)), None)


def _namespace_of(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _shells(init: int) -> dict[str, Path]:
    """Return the ``/proc`` entry of a process that each host has, by the host's name."""
    found = {}
    for entry in Path(f"/proc/{init}/root/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        names = [word.removeprefix(SHELL) for word in words if word.startswith(SHELL)]
        found.update(dict.fromkeys(names, entry))
    return found


def _enter(init: int, shell: Path, node: str) -> None:
    """Move into the namespaces; the mount namespace last, since paths mean something else in it."""
    beside = os.readlink(shell / "ns/net") == os.readlink(f"/proc/{init}/ns/net")  # a switch: no network of its own
    kernel.enter_namespace(str(shell / "ns/net"), kernel.CLONE_NEWNET)
    for name, kind in (("ipc", kernel.CLONE_NEWIPC), ("uts", kernel.CLONE_NEWUTS), ("pid", kernel.CLONE_NEWPID)):
        kernel.enter_namespace(f"/proc/{init}/ns/{name}", kind)
    kernel.enter_namespace(f"/proc/{init}/ns/mnt", kernel.CLONE_NEWNS)
    kernel.unshare(kernel.CLONE_NEWNS)  # /sys of our own: the sandbox's shows the interfaces of its own network
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    if not beside:
        kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    names = FOLDER / node
    if names.exists() and Path("/etc/hosts").exists():
        kernel.mount(str(names.resolve()), "/etc/hosts", "", kernel.MS_BIND)


def _become(argv: Sequence[str], screen: Terminal | None) -> None:
    """Run the command in a child of this process: only children are in the PID namespace that was entered."""
    tether = kernel.Tether()
    child = os.fork()
    if child == 0:
        tether.bind()
        if screen is not None:
            screen.become_mine()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored is inherited
        try:
            os.execvp(argv[0], list(argv))  # noqa: S606 (the command is the caller's, and root's alone)
        except OSError as error:
            os.write(2, f"testbed: exec {argv[0]}: {error.strerror}\n".encode())
            os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)
    tether.hold()
    if screen is not None:
        screen.forget()
    os._exit(_status_of(child))


def _status_of(child: int) -> int:
    """Wait for a child; Ctrl-C is for it, not for us."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status
