"""`bench soak`: what counts as flat, by courses whose slope is known."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from testbed.bench.soak import Course, Look, _process_rows, _summary_rows, look_at, process_row, slope_mb_s, table


def course(private_mb: Callable[[float], float], descriptors: Callable[[float], int] = lambda _: 8) -> list[Look]:
    return [Look(t_s, 20 + private_mb(t_s), private_mb(t_s), descriptors(t_s)) for t_s in range(0, 600, 3)]


@pytest.mark.parametrize(
    ("looks", "met", "note"),
    [
        (course(lambda _: 50), True, "flat"),
        (course(lambda t_s: 50 + t_s % 60 / 10), True, "flat"),  # what comes and goes is no growth
        (course(lambda t_s: 50 + 1.9 * t_s / 600), True, "flat"),
        (course(lambda t_s: 50 + 2.1 * t_s / 600), False, "memory grows"),
        (course(lambda t_s: 480 + 9.0 * t_s / 600), True, "flat"),  # 2 % of 500 MB
        (course(lambda t_s: 50 - t_s / 600, lambda t_s: 8 + (t_s >= 300)), False, "descriptors grow"),
        (course(lambda t_s: 50, lambda t_s: 8 + (t_s % 60 == 0)), True, "flat"),  # open for a moment
        ([Look(t_s, 100, t_s, 8) for t_s in range(600)], True, "flat"),  # pages that only the parent let go of
        ([Look(t_s, t_s, 100, 8) for t_s in range(600)], True, "flat"),  # shared pages that are read one by one
        (course(lambda t_s: 50 + t_s, lambda t_s: 8 + int(t_s)), False, "memory grows, descriptors grow"),
    ],
)
def test_flat_is_what_rises_by_less_than_is_stated(looks: list[Look], met: bool, note: str) -> None:
    row = process_row("agent n1 (7)", looks)
    assert (row["met"], row["note"]) == (met, note)


def test_the_slope_is_that_of_a_straight_line() -> None:
    assert slope_mb_s(course(lambda t_s: 50 + t_s / 100)) == pytest.approx(0.01)
    assert process_row("x", course(lambda t_s: 50 + t_s / 100))["mb_per_hour"] == pytest.approx(36)


def test_what_a_process_takes_to_get_going_does_not_count() -> None:
    grows_first = Course(course(lambda t_s: min(t_s, 149)))
    short = Course(course(lambda t_s: t_s)[:80])
    rows = list(_process_rows({"grows (1)": grows_first, "short (2)": short}, 600))
    assert [(row["name"], row["met"]) for row in rows] == [("soak.grows (1)", True)]


def test_a_process_is_seen_as_the_kernel_has_it() -> None:
    look = look_at(os.getpid(), 3.0)
    assert look is not None
    assert look.resident_mb >= look.private_mb > 1
    assert look.descriptors >= 3
    assert look_at(2**22 + 1, 3.0) is None


def test_packets_without_a_fate_fail_it_and_a_disturbed_machine_does_not() -> None:
    summary = {"traffic": {"unaccounted_packets": -1, "sent_packets": 10}, "verdict": "INVALID"}
    lost, verdict = _summary_rows({**summary, "verdict_reasons": ["the machine was busy"]})
    assert lost["met"] is False
    assert verdict["met"] is None
    assert verdict["note"] == "INVALID  the machine was busy"
    lines = list(table([process_row("agent n1 (7)", course(lambda t_s: 50 + t_s / 100)), lost, verdict]))
    assert lines[1] == ["agent n1 (7)", "50.0 → 56.0 MB", "70.0 → 76.0 MB", "+36.00 MB/h", "8 → 8, 8 at most",
                        "memory grows"]  # fmt: skip
    assert [line[0] for line in lines] == ["process", "agent n1 (7)", "unaccounted", "verdict"]
    assert len({len(line) for line in lines}) == 1
