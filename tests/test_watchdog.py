"""The table of a trial, and who is found not to answer any more."""

from __future__ import annotations

import os
import time

from testbed.emulation.processes.status_table import PATIENCE_NS, StatusTable
from testbed.emulation.processes.watchdog import LATE_NS, Watchdog
from testbed.units import NS_PER_MS, NS_PER_S


def watched(table: StatusTable, until_ns: int, more_ns: int = 0) -> str:
    """Return what a watchdog finds that looks twice a second until then."""
    watchdog, now_ns = Watchdog(table, more_ns), time.monotonic_ns()
    while now_ns < until_ns:
        now_ns += 500 * NS_PER_MS
        finding = watchdog.finding(now_ns)
        if finding is not None:
            return str(finding)
    return ""


def test_who_gives_no_sign_is_named_with_what_it_was_doing() -> None:
    table = StatusTable(3)
    table.row("agent n1").does("at work")
    table.row("mesh n1").does("getting ready", 60 * NS_PER_S)
    found = watched(table, time.monotonic_ns() + 30 * NS_PER_S)
    assert "no response for 10 s from agent n1 (at work);" in found
    assert "mesh n1" not in found
    assert f"{len(os.sched_getaffinity(0))} cores" in found


def test_more_patience_is_more() -> None:
    table = StatusTable(1)
    table.row("agent n1").does("at work")
    assert watched(table, time.monotonic_ns() + PATIENCE_NS + NS_PER_S, more_ns=5 * NS_PER_S) == ""


def test_a_sign_by_whatever_means_is_one() -> None:
    table, begin_ns = StatusTable(2), time.monotonic_ns()
    for name in ("agent n1", "sender c1"):
        table.row(name).does("at work")
    table.row("agent n1").pulse(10 * NS_PER_MS).beat(begin_ns + 8 * NS_PER_S)
    table.row("sender c1").sign(begin_ns + 8 * NS_PER_S)
    assert watched(table, begin_ns + 17 * NS_PER_S) == ""


def test_who_rests_is_not_missed_and_is_again_when_it_goes_on() -> None:
    table = StatusTable(1)
    row = table.row("agent n1")
    row.rests("suspended")
    assert watched(table, time.monotonic_ns() + 30 * NS_PER_S) == ""
    row.does("at work")
    assert "agent n1" in watched(table, time.monotonic_ns() + 30 * NS_PER_S)


def test_a_watchdog_that_was_late_itself_gives_everybody_their_time_anew() -> None:
    table = StatusTable(1)
    table.row("agent n1").does("at work")
    watchdog, late_ns = Watchdog(table), time.monotonic_ns() + 20 * LATE_NS
    assert watchdog.finding(late_ns) is None
    assert watchdog.finding(late_ns + NS_PER_S) is None


def test_many_are_counted() -> None:
    table = StatusTable(10)
    for number in range(10):
        table.row(f"agent n{number}").does("at work")
    assert "agent n3 (at work) and 6 more" in watched(table, time.monotonic_ns() + 30 * NS_PER_S)


def test_what_is_done_meanwhile_is_put_back() -> None:
    row = StatusTable(1).row("the trial")
    row.does("traffic")
    with row.during("waiting for agent n1 to be ready", NS_PER_S):
        assert row.seen(time.monotonic_ns()).doing == "waiting for agent n1 to be ready"
    assert row.seen(time.monotonic_ns()).doing == "traffic"


def test_processes_see_each_others_rows() -> None:
    table = StatusTable(2)
    row = table.row("agent n1")
    child = os.fork()
    if child == 0:
        row.does("x" * 1000)
        os._exit(0)
    os.waitpid(child, 0)
    seen = row.seen(time.monotonic_ns())
    assert seen.name == "agent n1"
    assert set(seen.doing) == {"x"}
