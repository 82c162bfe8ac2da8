"""What a terminal shows: ten lines at the end, a view on the way."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from testbed.report.live import LINE_NS, MAX_ROWS, REDRAW_NS, LiveView
from testbed.report.terminal import print_verdict, verdict_lines
from testbed.units import NS_PER_S
from tests import synthetic_run

NODES = ("n1", "n2")


@pytest.fixture
def summary(tmp_path: Path) -> dict[str, Any]:
    expect = ("traffic.unaccounted_packets == 0", "buffer.resizes > 10000", "delay_ms.p99 < 1000")
    synthetic_run.write(synthetic_run.make(synthetic_run.facts("lstm", seconds=6, expect=expect)), tmp_path / "run")
    content: dict[str, Any] = json.loads((tmp_path / "run" / "summary.json").read_text())
    return content


def test_the_verdict_is_ten_lines(summary: dict[str, Any]) -> None:
    output = io.StringIO()
    print_verdict(summary, Path("runs/x"), Console(file=output, width=40))
    lines = output.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("VALID  made-up, seed 1, emulation, completed; set up in 1.50 s, removed in 0.30 s")
    assert lines[2].endswith("0 unaccounted")
    assert lines[6] == (
        "prediction   9 bursts, 9 alarms, recall 100.00 %, lead 117 ms at the median, precision 100.00 %, "
        "0 false alarms per node and minute"
    )
    assert lines[8] == "expectations 2 of 3 hold; not `buffer.resizes > 10000`: it is 17"
    assert lines[9] == "files        runs/x (report.html, summary.json)"


def test_sections_that_are_absent_are_said_to_be(summary: dict[str, Any]) -> None:
    bare = {key: value for key, value in summary.items() if key not in ("delay_ms", "prediction", "setup_s")}
    lines = [line.plain for line in verdict_lines({**bare, "expectations": []}, Path("x"))]
    assert len(lines) == 10
    assert lines[4] == "delay        not measured"
    assert "does not predict" in lines[6]
    assert lines[8] == "expectations none"


def test_three_reasons_are_shown_and_the_others_counted(summary: dict[str, Any]) -> None:
    reasons = ["CPU busy: 1", "clock", "steal", "rate", "queue"]
    lines = [
        line.plain for line in verdict_lines({**summary, "verdict": "INVALID", "verdict_reasons": reasons}, Path("x"))
    ]
    assert [line.strip() for line in lines[1:4]] == [
        "why          CPU busy: 1", "clock", "steal (and 2 more in fidelity.json)"
    ]  # fmt: skip
    assert len(lines) == 12


def row(node: str, t_ns: int = NS_PER_S, backlog: int = 250_000, dropped: int = 0) -> dict[str, Any]:
    return {
        "t_ns": t_ns, "node": node, "arrived_pkts": 10, "dropped_pkts": dropped, "backlog_bytes": backlog,
        "limit_bytes": 500_000,
    }  # fmt: skip


def columns_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return rows as an engine reports them: names in a list, numbers in arrays."""
    columns: dict[str, Any] = {name: np.array([row[name] for row in rows]) for name in rows[0] if name != "node"}
    return {**columns, "node": [row["node"] for row in rows]}


class Screen:
    """A view with a clock of its own and what it wrote."""

    def __init__(self, terminal: bool, **options: Any) -> None:
        self.now_ns = 0
        self.output = io.StringIO()
        console = Console(file=self.output, force_terminal=terminal, width=100)
        self.view = LiveView("burst", 20 * NS_PER_S, NODES, console, clock_ns=lambda: self.now_ns, **options)

    def text(self) -> str:
        return self.output.getvalue()


def test_without_a_terminal_it_writes_a_line_every_five_seconds() -> None:
    screen = Screen(terminal=False)
    with screen.view as view:
        for step in range(100):
            screen.now_ns = step * LINE_NS // 50
            view.observe(columns_of([row("n1", screen.now_ns, dropped=1)]))
            view.tick()
    lines = screen.text().splitlines()
    assert len(lines) == 2
    assert lines[1] == "burst   5.0 of 20.0 s  n1 0.25/0.50 MB, 51 dropped  n2 0.00/0.00 MB, 0 dropped"


def test_the_time_shown_ends_with_the_traffic() -> None:
    screen = Screen(terminal=False)
    screen.view.observe(columns_of([row("n1", 21_200_000_000)]))
    assert screen.view.line().startswith("burst  20.0 of 20.0 s, draining queues (1.2 s)  n1 ")


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    screen = Screen(terminal=True)
    with screen.view as view:
        view.observe(columns_of([row("n1")]))
        view.tick()
    assert "n1 0.25/0.50 MB" in screen.text()


def test_in_a_terminal_it_draws_at_most_four_times_a_second() -> None:
    screen = Screen(terminal=True)
    with screen.view as view:
        view.observe(columns_of([row("n1"), row("n2", backlog=490_000, dropped=7)]))
        view.tick()
        drawn = len(screen.text())
        screen.now_ns = REDRAW_NS - 1
        view.tick()
        assert len(screen.text()) == drawn
        screen.now_ns = REDRAW_NS
        view.tick()
        assert len(screen.text()) > drawn
    assert "0.49 / 0.50 MB" in screen.text()


def test_quiet_is_silent_and_outside_of_with_nothing_is_drawn() -> None:
    quiet = Screen(terminal=True, quiet=True)
    with quiet.view as view:
        view.observe(columns_of([row("n1")]))
        view.tick()
    assert quiet.text() == ""
    outside = Screen(terminal=True)
    outside.view.tick()
    assert outside.text() == ""


def test_many_nodes_are_summed_in_a_line_and_cut_in_a_table() -> None:
    screen = Screen(terminal=False)
    screen.view.observe(columns_of([row(f"n{k}", dropped=2) for k in range(1, 31)]))
    assert screen.view.line() == "burst   1.0 of 20.0 s  30 nodes, backlog 7.50 MB, 60 dropped"
    console = Console(file=(output := io.StringIO()), width=100)
    console.print(screen.view._table())
    assert f"and {30 - MAX_ROWS} nodes with less backlog" in output.getvalue()


def test_a_limit_of_nothing_is_not_divided_by() -> None:
    screen = Screen(terminal=True)
    assert replace(screen.view.states["n1"], backlog_bytes=5).fill_ratio == 0.0
