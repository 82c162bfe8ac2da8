"""One tree of errors; each knows its exit code.

A message is one to five lines: what was attempted, what happened, what to do.  What the operating system refuses (no
space, no right, too many files) is not our bug: `translated` puts it into the same form.  Anything else that is not a
`TestbedError` is our own bug and leaves with exit code 70.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

EXIT_OK = 0
EXIT_EXPECTATION_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_MACHINE_LACKS = 3
EXIT_TOOL_FAILED = 4
EXIT_INVALID = 5
EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class TestbedError(Exception):
    """Root of every error a user may see.  `attempted: happened; remedy`."""

    __test__ = False  # the name starts with "Test": pytest shall not collect it
    exit_code = EXIT_BUG

    def __init__(self, attempted: str, happened: str, remedy: str = "") -> None:
        self.attempted, self.happened, self.remedy = attempted, happened, remedy
        super().__init__(f"{attempted}: {happened}" + (f"; {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by state, whatever a subclass takes: errors travel from the sandbox to the supervisor."""
        return _restored, (type(self), self.args, self.__dict__)


class InputError(TestbedError):
    """The scenario, a file or the command line is wrong."""

    exit_code = EXIT_BAD_INPUT


class MachineError(TestbedError):
    """This machine lacks something: root, a tool, a kernel feature."""

    exit_code = EXIT_MACHINE_LACKS


class ToolError(TestbedError):
    """A command, a library call or a node failed while the trial ran."""

    exit_code = EXIT_TOOL_FAILED


class PolicyError(ToolError):
    """A policy broke the rules of `policies.base`, so that a run cannot go on."""


class CommandError(ToolError):
    """A command ended with another status than 0; holds all that is known of it.

    Attributes:
        argv: the command as run.
        returncode: its exit status (negative: the signal that ended it).
        stdout, stderr: what it wrote.
    """

    def __init__(self, attempted: str, argv: Sequence[str], returncode: int, stdout: str, stderr: str) -> None:
        self.argv, self.returncode, self.stdout, self.stderr = tuple(argv), returncode, stdout, stderr
        said = (stderr.strip() or stdout.strip() or "it said nothing").splitlines()[-1]
        super().__init__(attempted, f"`{' '.join(argv)}` ended with status {returncode}: {said}")


class Interrupted(TestbedError):
    """The user asked to stop (Ctrl-C, SIGTERM)."""

    exit_code = EXIT_INTERRUPTED


def _restored(cls: type[TestbedError], args: tuple[object, ...], state: dict[str, object]) -> TestbedError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


# What the system may refuse any program, by error number, and what mends it.  A limit or a right that is missing is the
# machine's; a disk that is full or broken is a tool that failed.
_LIMITS = {
    errno.EMFILE: "raise the limit of open files: `ulimit -n 65536`",
    errno.ENFILE: "the whole system has too many open files: raise the sysctl fs.file-max",
    errno.ENOMEM: "free some memory, or use fewer nodes or packets",
    errno.EAGAIN: "raise the limit of processes (`ulimit -u`, pids.max of the control group), or free some memory",
    errno.EPERM: "run as root, and outside of a confined container; `python -m testbed doctor` tells what is missing",
    errno.EACCES: "look at the permissions, or run as root",
    errno.ENOSYS: "boot the distribution's stock kernel",
}
_FAILURES = {
    errno.ENOSPC: "make room, or send it elsewhere",
    errno.EDQUOT: "make room (the quota is used up), or send it elsewhere",
    errno.EFBIG: "raise the limit of file sizes: `ulimit -f unlimited`",
    errno.EROFS: "name a place that can be written",
    errno.EIO: "look after the disk",
    errno.ENODEV: "look after the device",
    errno.ENXIO: "look after the device",
    errno.ESTALE: "look after the network file system",
    errno.ETIMEDOUT: "try again",
    errno.ENOENT: "",
    errno.ENOTDIR: "",
    errno.EISDIR: "",
    errno.ELOOP: "",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EBUSY: "",
    errno.ENOBUFS: "",
    errno.ECONNREFUSED: "",
    errno.ECONNRESET: "",
}


def cause_of(error: OSError) -> tuple[str, str]:
    """Return what the system said, with the file it is about, and what mends it (empty where that is not known)."""
    number = error.errno or 0
    words = error.strerror or str(error) or type(error).__name__
    words = words[:1].lower() + words[1:]
    about = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
    return words + about, _LIMITS.get(number) or _FAILURES.get(number, "")


def translated(error: BaseException, attempted: str) -> TestbedError | None:
    """Return the error to show for what the operating system refused; None for anything else: a bug of ours."""
    if isinstance(error, TestbedError):
        return error
    if isinstance(error, MemoryError):
        return MachineError(attempted, "not enough memory", _LIMITS[errno.ENOMEM])
    if type(error).__name__ == "NetlinkError":  # of pyroute2, which carries an error number and is no OSError
        code = getattr(error, "code", 0)
        error = OSError(code, f"netlink: {os.strerror(code)}")
    if not isinstance(error, OSError):
        return None
    if error.errno in _LIMITS:
        return MachineError(attempted, *cause_of(error))
    return ToolError(attempted, *cause_of(error)) if error.errno in _FAILURES else None
