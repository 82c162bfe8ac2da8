"""Errors say what was attempted, carry an exit code, and survive the way out of the sandbox."""

from __future__ import annotations

import pickle

import pytest

from testbed import errors


@pytest.mark.parametrize(
    "error",
    [
        errors.InputError("reading x.yaml", "no such file", "name another"),
        errors.CommandError("starting", ["ovs-vsctl", "show"], 1, "", "no database"),
        errors.Interrupted("running", "stopped"),
    ],
)
def test_errors_survive_pickling(error: errors.TestbedError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert again.exit_code == error.exit_code


def test_a_command_error_quotes_the_last_line_said() -> None:
    error = errors.CommandError("making a bridge", ["ovs-vsctl", "add-br", "s1"], 1, "", "first\nlast words\n")
    assert str(error) == "making a bridge: `ovs-vsctl add-br s1` ended with status 1: last words"


def test_a_message_is_five_lines_that_any_terminal_takes() -> None:
    error = errors.InputError("reading \udcff\x1b[31m", "x" * 5000, "\n" * 20 + "é")
    assert str(error).startswith("reading \\xff\\x1b[31m: xxx")
    assert len(str(error).splitlines()) == 5
    assert len(str(error)) < 1000
    assert all(line.isprintable() for line in str(error).splitlines())
