"""The one place that runs commands: arguments as a list, no shell, a time limit, and an error with all that is known.

What starts processes otherwise is listed in `tests/test_commands.py`, with the reason.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO

from testbed import installing
from testbed.errors import CommandError, MachineError
from testbed.system import interrupts, kernel

DEFAULT_TIMEOUT_S = 20.0


def run(
    attempted: str,
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    tied: bool = False,
    stdin: str = "",
) -> str:
    """Run a command to its end and return what it wrote to standard output.

    Args:
        attempted: what for.
        argv: the command.
        env: variables beside ours.
        timeout_s: how long it may take.
        stdin: what it reads from standard input.
        tied: whether it dies with this process; for what takes long outside a sandbox, as a start takes 7 ms more.

    Raises:
        MachineError: when the program is not installed.
        CommandError: when it ends with another status than 0 or not within `timeout_s`.
    """
    try:
        done = subprocess.run(
            list(argv),
            env={**os.environ, **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            preexec_fn=dies_with_us() if tied else None,
            check=False,
        )
    except FileNotFoundError as error:
        raise MachineError(attempted, f"{argv[0]} is not installed", installing.program(argv[0])) from error
    except subprocess.TimeoutExpired as error:
        raise CommandError(attempted, argv, -1, "", f"no end within {timeout_s:g} s") from error
    if done.returncode != 0:
        raise CommandError(attempted, argv, done.returncode, done.stdout, done.stderr)
    return done.stdout


def start(attempted: str, argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a daemon in the foreground, its output appended to `log`, and return its process."""
    with log.open("ab") as output:
        try:
            return subprocess.Popen(
                list(argv),
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=interrupts.left_to_others,  # noqa: PLW1509 - PID 1 of a sandbox has one thread
            )
        except FileNotFoundError as error:
            raise MachineError(attempted, f"{argv[0]} is not installed", installing.program(argv[0])) from error


def dies_with_us() -> Callable[[], None]:
    """Return what a child is to call before its program begins, so that the kernel kills it when this process dies."""
    return partial(kernel.die_with_parent, os.getpid())


def tethered(argv: Sequence[str], output: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a process that has to be ended, and that the kernel kills when this one dies, whatever kills it.

    Args:
        argv: the command.
        output: where it writes.

    Raises:
        OSError: it cannot be started.
    """
    return subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        preexec_fn=dies_with_us(),  # noqa: PLW1509 - one system call
    )
