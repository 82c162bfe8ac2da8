"""The one place that runs commands: arguments as a list, no shell, and an error with all that is known."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from testbed import installing
from testbed.errors import CommandError, MachineError
from testbed.system import interrupts

DEFAULT_TIMEOUT_S = 20.0


def run(
    attempted: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> str:
    """Run a command to its end and return what it wrote to standard output.

    Raises:
        MachineError: when the program is not installed.
        CommandError: when it ends with another status than 0 or not within `timeout_s`.
    """
    try:
        done = subprocess.run(
            list(argv),
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
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
