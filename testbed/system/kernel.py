"""The few Linux calls Python 3.10 does not offer, each with the error that says what was attempted."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator

from testbed.errors import MachineError

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_REC, MS_PRIVATE, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND = 0x4000, 1 << 18, 2, 4, 8, 4096
_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_TIMERSLACK = 29
_PR_SET_CHILD_SUBREAPER = 36
_SYS_PIDFD_OPEN = 434
_SYS_PIDFD_GETFD = 438

_libc = ctypes.CDLL(None, use_errno=True)


def _check(attempted: str, result: int) -> int:
    if result < 0:
        raise MachineError(attempted, os.strerror(ctypes.get_errno()), "run `python -m testbed doctor`")
    return result


def unshare(flags: int) -> None:
    """Move this process (its future children, for the PID namespace) into new namespaces."""
    _check("making namespaces", _libc.unshare(flags))


def enter_namespace(path: str, kind: int) -> None:
    """Move this thread into the namespace at `path`, which must be of `kind` (CLONE_NEW…).

    In the network namespace that it is asked for it stays, which needs no rights: a container has none to move.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if kind != CLONE_NEWNET or not _is_here(fd):
            _check(f"entering the namespace {path}", _libc.setns(fd, kind))
    finally:
        os.close(fd)


def _is_here(namespace: int) -> bool:
    """Tell whether this thread is in a network namespace, given by a descriptor."""
    return os.path.samestat(os.fstat(namespace), os.stat("/proc/thread-self/ns/net"))


@contextlib.contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Be, with this thread, in the network namespace of process (or thread) `pid` for the length of the block."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_namespace(f"/proc/{pid}/ns/net", CLONE_NEWNET)
        try:
            yield
        finally:
            if not _is_here(home):
                _check("coming back from a network namespace", _libc.setns(home, CLONE_NEWNET))
    finally:
        os.close(home)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """Mount a file system."""
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(f"mounting {kind or 'flags'} on {target}", _libc.mount(*arguments))


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent `parent` dies, whatever kills it; now, if it is dead already.

    The kernel gives a child another parent before it looks whom to tell of a death: a parent that is the old one after
    the request was made has its death still before it.  It is the *thread* that forked whose end counts, and a program
    with other rights than its caller's (set-user-ID) loses the request when it is executed.
    """
    _ask_for_death_with_parent()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _ask_for_death_with_parent() -> None:
    _check("tying a child to its parent", _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def name_process(name: str) -> None:
    """Give this process the name that tools such as ps show; the kernel keeps the first 15 bytes."""
    _check("naming a process", _libc.prctl(_PR_SET_NAME, name.encode(), 0, 0, 0))


class Tether:
    """Lets a child die with its parent where it cannot see who that is: across PID namespaces.

    Made by the parent before the fork, which must be in one thread.  The parent alone holds the writing end of a pipe.
    A process that dies loses its descriptors first and is reported dead after that: where the pipe has no end when the
    child has registered for the death of its parent, the parent is still alive.
    """

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC)

    def hold(self) -> None:
        """Be the parent; call it after the fork."""
        os.close(self._reading)

    def bind(self) -> None:
        """Be the child, and die with the parent; call it first of all."""
        os.close(self._writing)
        _ask_for_death_with_parent()
        os.set_blocking(self._reading, False)
        try:
            os.read(self._reading, 1)
        except BlockingIOError:
            os.close(self._reading)
            return
        os._exit(1)


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Be the parent of every descendant whose own parent dies, in place of the machine's PID 1, for the block."""
    _check("adopting orphans", _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    try:
        yield
    finally:
        _check("adopting orphans", _libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0))


def sharpen_timers() -> None:
    """Ask for the finest timer slack, 1 ns instead of 50 us."""
    _check("setting the timer slack", _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0))


def run_in_real_time(priority: int, pid: int = 0, *, with_threads: bool = False) -> bool:
    """Give a process (0: this one) a fixed priority before all ordinary ones.

    A 10 ms loop is late by milliseconds under load with the default scheduler and by tenths of one with this.  Threads
    and children that the process starts later have it too only `with_threads`.  Returns whether it is permitted:
    without it a run continues, and its verdict says so.
    """
    reset = 0 if with_threads else os.SCHED_RESET_ON_FORK
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO | reset, os.sched_param(priority))
    except PermissionError:
        return False
    return True


def may_run_in_real_time() -> bool:
    """Return whether a process may have a fixed priority here: tried by this one, which must have none."""
    permitted = run_in_real_time(1)
    if permitted:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return permitted


@contextlib.contextmanager
def in_real_time(priority: int) -> Iterator[None]:
    """Have a fixed priority before all ordinary processes for the length of the block."""
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    run_in_real_time(priority)
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def borrow_fd(pid: int, fd: int) -> int:
    """Return a descriptor of our own for descriptor `fd` of process `pid` (pidfd_getfd)."""
    pidfd = _check("opening a pidfd", _libc.syscall(_SYS_PIDFD_OPEN, pid, 0))
    try:
        return _check(f"borrowing descriptor {fd} of process {pid}", _libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0))
    finally:
        os.close(pidfd)


class _Timespec(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


def sleep_until(monotonic_ns: int) -> None:
    """Sleep until CLOCK_MONOTONIC reads `monotonic_ns`; an absolute time, so that lateness never adds up."""
    seconds, nanoseconds = divmod(monotonic_ns, 1_000_000_000)
    deadline = _Timespec(seconds, nanoseconds)
    while _libc.clock_nanosleep(1, 1, ctypes.byref(deadline), None) == 4:  # EINTR: a handler ran, sleep on
        pass
