"""One tree of errors; each knows its exit code.

A message is one to five lines: what was attempted, what happened, what to do.  What else may be raised is put into this
form by `failures`.
"""

from __future__ import annotations

from collections.abc import Sequence

EXIT_OK = 0
EXIT_EXPECTATION_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_MACHINE_LACKS = 3
EXIT_TOOL_FAILED = 4
EXIT_INVALID = 5
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
CODES_OF_EXIT = {
    EXIT_OK: "success",
    EXIT_EXPECTATION_FAILED: "an expectation failed; `compare --baseline`: a regression; `replay`: a decision differs; "
    "`claims`, `agree`, `bench`: a result is not as expected",
    EXIT_BAD_INPUT: "the scenario or the command line is wrong",
    EXIT_MACHINE_LACKS: "this machine lacks something (`python -m testbed doctor` says what)",
    EXIT_TOOL_FAILED: "a tool, a node or a policy failed, or the output could not be written",
    EXIT_INVALID: "the trial ran but its verdict is INVALID; `sweep`, `claims`, `agree`: a result is missing for this "
    "reason",
    EXIT_BUG: "internal error (a bug): please report it",
    EXIT_INTERRUPTED: "interrupted; the run directory holds everything up to that time and is marked `interrupted`. "
    "If only the report page was missing, it is marked `completed`",
}


_LINES, _LINE_CHARS = 5, 600  # of a message


class TestbedError(Exception):
    """Root of every error a user may see.  `attempted: happened; remedy`."""

    __test__ = False  # the name starts with "Test": pytest shall not collect it
    exit_code = EXIT_BUG

    def __init__(self, attempted: str, happened: str, remedy: str = "") -> None:
        self.attempted, self.happened, self.remedy = attempted, happened, remedy
        super().__init__(_shown(f"{attempted}: {happened}" + (f"; {remedy}" if remedy else "")))

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
    """A policy broke the rules of `policies.base`, so that a run cannot continue."""


class CommandError(ToolError):
    """A command ended with another status than 0; holds all that is known of it.

    Attributes:
        argv: the command as run.
        returncode: its exit status (negative: the signal that ended it).
        stdout, stderr: what it wrote.
    """

    def __init__(self, attempted: str, argv: Sequence[str], returncode: int, stdout: str, stderr: str) -> None:
        self.argv, self.returncode, self.stdout, self.stderr = tuple(argv), returncode, stdout, stderr
        said = (stderr.strip() or stdout.strip() or "no output").splitlines()[-1]
        super().__init__(attempted, f"`{' '.join(argv)}` ended with status {returncode}: {said}")


class Bug(TestbedError):
    """Our own bug."""

    exit_code = EXIT_BUG


class Interrupted(TestbedError):
    """The user asked to stop (Ctrl-C, SIGTERM)."""

    exit_code = EXIT_INTERRUPTED


def _shown(text: str) -> str:
    """Return a message that any terminal takes: it may quote what a file from elsewhere holds."""
    lines = ["".join(c if c.isprintable() else _escaped(c) for c in line) for line in text.split("\n")]
    cut = [line if len(line) <= _LINE_CHARS else f"{line[: _LINE_CHARS - 1]}…" for line in lines]
    return "\n".join(cut if len(cut) <= _LINES else [*cut[: _LINES - 1], "…"])


def _escaped(sign: str) -> str:
    byte = ord(sign) - 0xDC00  # how Python keeps the bytes of a file name that are no text (PEP 383)
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else repr(sign)[1:-1]


def _restored(cls: type[TestbedError], args: tuple[object, ...], state: dict[str, object]) -> TestbedError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error
