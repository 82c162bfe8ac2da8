"""The sandbox: by construction, nothing remains after a run.

    supervisor ── guard ══ init (PID 1 of new PID, mount, network, UTS and IPC namespaces) ── everything else
        │           └ dies with the supervisor (PR_SET_PDEATHSIG), init dies with the guard
        └ records out; a request to stop in: SIGTERM, passed on by the guard

Linux kills every process of a PID namespace when its PID 1 ends.  It frees a network namespace with its last process
(including interfaces, bridges, qdiscs and attached BPF programs), and a mount namespace likewise.  So no clean-up code
is needed: a ``kill -9`` of the supervisor, a crash of our code and a normal end all work in the same way.

Inside, ``/run`` is a private tmpfs.  So the machine's own Open vSwitch cannot be reached by mistake, and the sockets of
our Open vSwitch have paths of a fixed length (paths of UNIX sockets have at most 107 characters; paths of run
directories may be longer).

Guard and init treat every stop signal as a request to end the whole trial in order.  The processes inside ignore the
stop signals of a terminal, which they do not have, and end on SIGTERM.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress

from testbed.errors import EXIT_BUG, Interrupted, TestbedError
from testbed.system import interrupts, kernel, waiting
from testbed.units import NS_PER_MS

_NAMESPACES = kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC
HOSTNAME = "testbed"
GUARD, INIT = "guard", "trial"  # their names in a list of processes
_GUARD_PRIORITY = 20  # above all that runs inside: it sleeps, and is to wake when nobody else there gets to run
_LOOK_NS = 500 * NS_PER_MS

Watch = Callable[[], "Callable[[], None] | None"]


class Sandbox:
    """A function running as PID 1 of its own namespaces.

    Attributes:
        guard_pid: the process that ties the sandbox to us; it ends with the sandbox, with the same status.
    """

    def __init__(
        self,
        body: Callable[[], int],
        failed: Callable[[BaseException], None] = traceback.print_exception,
        watch: Watch = lambda: None,
    ) -> None:
        """Fork and run `body` inside; its return value is the exit status.

        `failed` is called, in the process concerned, with what was raised there instead.  The guard calls `watch` twice
        a second; what that returns, if anything, ends the sandbox, and is called then.
        """
        supervisor = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        with interrupts.held_back():
            self.guard_pid = os.fork()
            if self.guard_pid == 0:
                _leave_with(lambda: _guard(supervisor, body, failed, watch), failed)
            self._descriptor = os.pidfd_open(self.guard_pid)

    def __del__(self) -> None:
        """Let go of the descriptor."""
        with suppress(AttributeError):  # no process was forked
            os.close(self._descriptor)

    def fileno(self) -> int:
        """Return a descriptor that can be read when the sandbox is gone."""
        return self._descriptor

    def poll(self) -> int | None:
        """Return the exit status once the sandbox is gone (negative: ended by that signal), None before."""
        pid, status = os.waitpid(self.guard_pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self) -> int:
        """Wait for the end and return the exit status."""
        return os.waitstatus_to_exitcode(os.waitpid(self.guard_pid, 0)[1])

    def stop(self) -> None:
        """Ask for an end in order."""
        with suppress(ProcessLookupError):
            os.kill(self.guard_pid, signal.SIGTERM)

    def kill(self) -> None:
        """End everything inside at once."""
        with suppress(ProcessLookupError):
            os.kill(self.guard_pid, signal.SIGKILL)


def _leave_with(body: Callable[[], int], failed: Callable[[BaseException], None]) -> None:
    """End this forked process with the status `body` returns; never return into the parent's code."""
    status = EXIT_BUG
    try:
        status = body()
    except BaseException as error:  # noqa: BLE001 (the top-level handler of this process)
        status = error.exit_code if isinstance(error, TestbedError) else EXIT_BUG
        failed(error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status & 0xFF)


def _guard(supervisor: int, body: Callable[[], int], failed: Callable[[BaseException], None], watch: Watch) -> int:
    kernel.die_with_parent(supervisor)
    kernel.name_process(GUARD)
    os.setsid()  # Ctrl-C is for the supervisor alone: it stops the trial in order
    kernel.unshare(_NAMESPACES)
    tether = kernel.Tether()
    init = os.fork()
    if init == 0:
        _leave_with(lambda: _init(tether, body), failed)
    tether.hold()

    def pass_on() -> None:
        with suppress(ProcessLookupError):
            os.kill(init, signal.SIGTERM)

    with interrupts.taken(pass_on):
        interrupts.released()
        with suppress(PermissionError):
            kernel.run_in_real_time(_GUARD_PRIORITY)
        status = _until_end(init, watch)
    return status if status >= 0 else 128 - status


def _until_end(init: int, watch: Watch) -> int:
    """Return the exit status of PID 1, which ends when `watch` says so."""
    descriptor = os.pidfd_open(init)
    then = None
    while then is None and not waiting.readable([descriptor], _LOOK_NS):
        then = watch()
    if then is not None:
        os.kill(init, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(init, 0)[1])
    if then is not None:
        then()
    return status


def _init(tether: kernel.Tether, body: Callable[[], int]) -> int:
    tether.bind()
    kernel.name_process(INIT)
    for number in interrupts.STOP_SIGNALS:
        signal.signal(number, _interrupt)
    interrupts.released()
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    restricted = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
    kernel.mount("proc", "/proc", "proc", restricted)
    kernel.mount("sysfs", "/sys", "sysfs", restricted)
    kernel.mount("tmpfs", "/run", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    socket.sethostname(HOSTNAME)
    return body()


def _interrupt(*_: object) -> None:
    raise Interrupted("running the sandbox", "interrupted")
