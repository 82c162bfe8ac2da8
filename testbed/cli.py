"""The entry point of the command line, of ``python -m testbed`` and of the command ``testbed``.

    streams ─ signals ─ environment ─ imports ─ the verb (testbed/commands/) ─ exit code

Only the standard library is imported at the head of this file.  What may go wrong while everything else is imported (a
package that is missing or broken, Ctrl-C) then ends as it does later: with a few lines and an exit code of the README,
whatever the libraries below would make of it.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import traceback
from types import FrameType
from typing import NoReturn

from testbed import failures, installing
from testbed.errors import (
    EXIT_BAD_INPUT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_TOOL_FAILED,
    MachineError,
    TestbedError,
)
from testbed.system import interrupts, places, streams

# One thread for linear algebra: the arrays are small, and idle helper threads would disturb the trial they serve.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

_SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
_SANE_SIZES = range(20, 1001)
_IMPORTING = "<frozen importlib._bootstrap>"


class Carried(Exception):
    """Carries an exception past the command-line library, which would turn some into exit codes of its own."""


def main() -> NoReturn:
    """Run the command line and exit; every error is a few lines and an exit code."""
    streams.secure()
    _settle_environment()
    _take_requests_to_stop()
    sys.exit(_flushed(_code_of_verb()))


def _settle_environment() -> None:
    """Drop sizes of a terminal that are none (some terminals and CI set 0): nothing would be printed into them."""
    for name in _SIZES:
        value = os.environ.get(name, "")
        if value and not (value.isascii() and value.isdigit() and int(value) in _SANE_SIZES):
            del os.environ[name]


def _take_requests_to_stop() -> None:
    """Take Ctrl-C and its like, unless ignored on purpose; at the very end of the process they change nothing."""
    for number in interrupts.STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
            atexit.register(signal.signal, number, signal.SIG_IGN)


def _interrupt(_number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; within an import end at once, as packages swallow it there or make something else of it.

    An import has nothing to tidy up.
    """
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            os.write(2, b"testbed: stopped\n")
            os._exit(EXIT_INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _code_of_verb() -> int:
    try:
        from testbed import commands

        return int(commands.app(standalone_mode=False) or EXIT_OK)
    except Carried as carried:
        return _failed(carried.__cause__ or carried)
    except BaseException as error:  # noqa: BLE001 (the top-level handler: every exception gets an exit code)
        return _failed(error)


def _failed(error: BaseException) -> int:
    """Say what went wrong and return the exit code."""
    show = getattr(error, "show", None)  # the usage errors of Typer; their class has moved between its versions
    if callable(show):
        show()
        return EXIT_BAD_INPUT
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        return _said("stopped", EXIT_INTERRUPTED, error)
    lacking = _lacking(error) if isinstance(error, ImportError) else None
    known = lacking or failures.shown(error, f"running `{_verb()}`", "please report it with the lines of --debug")
    return _said(str(known), known.exit_code, error)


def _said(message: str, code: int, error: BaseException) -> int:
    sys.stderr.write(f"testbed: {message}\n")
    if os.environ.get("TESTBED_DEBUG"):
        traceback.print_exception(type(error), error, error.__traceback__)
    return code


def _verb() -> str:
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "testbed")


def _lacking(error: ImportError) -> TestbedError | None:
    """Return what a package that is missing or broken means; None when the module is one of ours."""
    name = (error.name or "").partition(".")[0]
    if name == "testbed":
        return None
    # `sudo` drops the PATH of an activated environment and finds the system's Python.
    python = places.root() / ".venv" / "bin" / "python"
    ours = python.exists() and sys.prefix != str(python.parent.parent)
    again = " ".join(["sudo", str(python), "-m", "testbed", *sys.argv[1:]])
    attempted = f"this Python ({sys.executable})"
    if isinstance(error, ModuleNotFoundError) and name:
        return MachineError(attempted, f"lacks {name}", f"use: {again}" if ours else installing.packages(name))
    broken = name or "a package"
    return MachineError(attempted, f"cannot load {broken}: {error}", f"reinstall it: {installing.packages(broken)}")


def _flushed(code: int) -> int:
    """Hand over what is still to be printed; a result that cannot be written is a failure, whatever went before."""
    try:
        sys.stdout.flush()
    except TestbedError as error:
        return _said(str(error), error.exit_code, error)
    except OSError as error:  # the stream is not ours
        return _said(f"writing standard output: {error}", EXIT_TOOL_FAILED, error)
    return code
