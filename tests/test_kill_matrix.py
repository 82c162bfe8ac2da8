"""The matrix of kills: what is right in each place of it, what is held against a trial, and one that is killed."""

from __future__ import annotations

import os
import signal

import pytest
import typer

from testbed.bench import kill_cells as of
from testbed.bench import kill_matrix
from testbed.bench.kill_matrix import faults_of
from testbed.bench.running_trial import Ended
from testbed.commands.bench import bench
from testbed.controllers.process import stopping_on_sigterm
from testbed.errors import EXIT_EXPECTATION_FAILED, InputError, ToolError


def cell(text: str) -> of.Cell:
    return next(found for found in of.cells() if str(found) == text)


def faults(text: str, code: int | None, errors: str = "", status: str | None = None, left: tuple[str, ...] = ()) -> str:
    return "; ".join(faults_of(cell(text), Ended(code, "", errors), status, list(left)))


def test_the_matrix_is_as_large_as_it_is_to_be_and_says_what_is_right_everywhere() -> None:
    places = list(of.cells())
    assert len(places) == len({str(place) for place in places}) >= 200
    assert {place.phase for place in places} == set(of.VICTIMS)
    assert all(of.expected(place).codes for place in places)


@pytest.mark.parametrize(
    ("place", "code", "errors", "status"),
    [
        ("set-up/TERM/guard", 130, "testbed: running the trial: interrupted before its traffic began", "interrupted"),
        ("traffic/KILL/guard", 4, "the guard of its sandbox was ended by SIGKILL, and everything", "failed"),
        ("traffic/KILL/supervisor", -9, "", "running"),
        ("fault/TERM/mesh", 4, "testbed: watching the trial: mesh ended early: it received SIGTERM", "failed"),
        ("drain/INT/ovs-vswitchd", 5, "", "completed"),
        ("traffic/ABRT/trial", 0, "", "completed"),  # PID 1 of a namespace
        ("writing/TERM/supervisor", 0, "", "completed"),  # it came too late
    ],
)
def test_what_is_right_is_not_held_against_a_trial(place: str, code: int, errors: str, status: str) -> None:
    assert faults(place, code, errors, status) == ""


@pytest.mark.parametrize(
    ("place", "code", "errors", "status", "left", "said"),
    [
        ("set-up/KILL/trial", 4, "first process of its sandbox was ended by SIGKILL", "failed", ("link x",), "left: l"),
        ("traffic/KILL/guard", 0, "", "completed", (), "exit 0, expected 4"),
        ("traffic/KILL/guard", 4, "it ended with status -9", "failed", (), "the message does not contain"),
        ("traffic/KILL/guard", None, "", "running", (), "no end within"),
        ("traffic/INT/agents", 4, "agents was ended by SIGINT", "failed", (), "exit 4, expected 0 or 1 or 5"),
        ("drain/TERM/trial", 130, "", "interrupted", (), "does not say that it was interrupted"),
        ("drain/TERM/trial", 130, "testbed: stopped", "running", (), "status running"),
        ("set-up/KILL/standby", 70, "BrokenPipeError", "failed", (), "an internal error"),
        ("start/INT/supervisor", 130, "Traceback: stopped", None, (), "a traceback"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(
    place: str, code: int | None, errors: str, status: str | None, left: tuple[str, ...], said: str
) -> None:
    assert said in faults(place, code, errors, status, left)


def test_a_row_that_is_not_right_is_a_failure_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    row = kill_matrix._row(cell("traffic/KILL/guard"), "1 of 1", None, ["not killed: the run ended before"])
    monkeypatch.setattr("testbed.commands.bench._refuse_if_lacking", lambda: None)
    monkeypatch.setattr(kill_matrix, "run", lambda **_: [row])
    with pytest.raises(typer.Exit) as left:
        bench(["kill-matrix"], only="traffic", seed=3, check_every=7)
    assert left.value.exit_code == EXIT_EXPECTATION_FAILED


def test_options_of_the_matrix_are_refused_elsewhere_and_unknown_places_there() -> None:
    with pytest.raises(InputError, match="bench --check-every: verdict does not take this option"):
        bench(["verdict"], check_every=3)
    with pytest.raises(ToolError, match="no cell contains 'lunch'"):
        kill_matrix.run(only="lunch")


def test_a_controller_leaves_what_a_terminal_sends_to_others() -> None:
    told: list[object] = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping_on_sigterm(lambda *_: told.append(True)):
            os.kill(os.getpid(), signal.SIGINT)
            assert told == []
            os.kill(os.getpid(), signal.SIGTERM)
            assert told == [True]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.requires("root", "bpf", "ovs")
def test_who_dies_before_the_start_is_named_and_nothing_is_left() -> None:
    """Its end is noticed by a pipe that breaks, which says nothing to anybody."""
    rows = kill_matrix.run(1, "before traffic/kill/agent", check_every=3)[:-1]
    assert [row["note"] for row in rows if not row["met"]] == []
