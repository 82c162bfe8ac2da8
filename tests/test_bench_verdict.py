"""The table of disturbances and what is made of it: rows that have to be named, the printed table, the exit code."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import typer

from testbed.bench import verdict
from testbed.bench.disturbances import AT_ONCE, LEFT_MS, NEVER, SCENARIO, TABLE
from testbed.commands.bench import bench
from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_OK, InputError, ToolError
from testbed.scenario.model import Scenario

KINDS = {
    "link", "offloads", "program", "qdisc", "filter", "neighbour", "route", "address", "setting", "packet filter",
    "flow", "group", "port", "configuration", "buffer", "process", "machine",
}  # fmt: skip


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let every run end with the summary in here, and every length be exact."""
    summary: dict[str, Any] = {"verdict": "VALID", "verdict_reasons": []}
    monkeypatch.setattr(verdict, "_trial", lambda touch, ms: (summary, ms))
    return summary


def test_every_kind_of_thing_is_disturbed_and_every_row_says_how_it_is_named() -> None:
    assert {disturbance.relies_on for disturbance in TABLE} == KINDS
    assert len({disturbance.name for disturbance in TABLE}) == len(TABLE)
    for disturbance in TABLE:
        assert re.compile(disturbance.named_by)
        assert disturbance.durations_ms
        assert disturbance.from_ms == NEVER or LEFT_MS in disturbance.durations_ms or any(
            ms >= disturbance.from_ms for ms in disturbance.durations_ms
        ), f"{disturbance.name} is never long enough to be named"  # fmt: skip
    assert Scenario.model_validate({"version": 1, **SCENARIO}).duration_ns > 0


def test_what_is_not_named_above_its_threshold_is_a_miss(trials: dict[str, Any]) -> None:
    link = next(
        disturbance for disturbance in TABLE if disturbance.from_ms == AT_ONCE and 5.0 in disturbance.durations_ms
    )
    assert verdict._disturbed(link, 5.0, "")["met"] is False
    trials.update(verdict="DEGRADED", verdict_reasons=["CPU busy: all cores"])
    assert verdict._disturbed(link, 5.0, "")["met"] is False, "another reason does not name it"
    trials.update(verdict="INVALID", verdict_reasons=["CPU busy", "changes: link c1-eth0 mtu in c1: 1500 → 600 → 1500"])
    made = verdict._disturbed(link, 5.0, "")
    assert (made["met"], made["verdict"], made["note"]) == (True, "INVALID", trials["verdict_reasons"][1])


def test_what_is_short_of_its_threshold_may_go_unnamed(trials: dict[str, Any]) -> None:
    looked_at = next(disturbance for disturbance in TABLE if 0 < disturbance.from_ms < NEVER)
    assert verdict._disturbed(looked_at, looked_at.from_ms / 2, "")["met"] is None
    assert verdict._disturbed(looked_at, looked_at.from_ms, "")["met"] is False
    harmless = next(disturbance for disturbance in TABLE if disturbance.from_ms == NEVER)
    assert verdict._disturbed(harmless, 500.0, "")["met"] is None


def test_an_undisturbed_run_has_to_be_valid(trials: dict[str, Any]) -> None:
    assert [made["met"] for made in verdict.run(2, only="no such row")] == [True, True]
    trials.update(verdict="DEGRADED", verdict_reasons=["CPU busy"])
    assert [made["met"] for made in verdict.run(1, only="no such row")] == [False]


def test_what_could_not_be_carried_out_is_a_row_that_is_not_met(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(touch: Any, ms: float) -> Any:
        raise ToolError("disturbing a trial", "link c1-eth0 mtu in c1: no such link")

    monkeypatch.setattr(verdict, "_trial", fails)
    made = verdict.run(1, only="MTU of a client")
    assert {row["met"] for row in made} == {False}
    assert {row["verdict"] for row in made} == {"none"}
    assert "no such link" in made[0]["note"]


def test_the_table_has_a_line_for_each_row(trials: dict[str, Any]) -> None:
    trials.update(verdict="INVALID", verdict_reasons=["changes: link c1-eth0 mtu in c1: 1500 → 600 → 1500"])
    head, *lines = verdict.table(verdict.run(1, only="MTU of a client"))
    assert head[0] == "relies on"
    assert [line[2] for line in lines] == ["5 ms", "20 ms", "100 ms", "500 ms", ""]
    assert {line[3:6] for line in lines[:-1]} == {("at once", "INVALID", "yes")}


@pytest.mark.parametrize(("met", "code"), [(True, EXIT_OK), (None, EXIT_OK), (False, EXIT_EXPECTATION_FAILED)])
def test_the_exit_code_says_whether_all_was_named(monkeypatch: pytest.MonkeyPatch, met: bool | None, code: int) -> None:
    made = {
        "name": "verdict.link", "value": 1.0, "unit": "named", "met": met, "note": "", "disturbance": "x",
        "asked_ms": 5.0, "held_ms": 5.0, "from_ms": 0.0, "verdict": "INVALID",
    }  # fmt: skip
    monkeypatch.setattr("testbed.commands.bench._refuse_if_lacking", lambda: None)
    monkeypatch.setattr(verdict, "run", lambda **_: [made])
    with pytest.raises(typer.Exit) as left:
        bench(["verdict"])
    assert left.value.exit_code == code


def test_what_need_never_be_named_is_null_in_json(
    trials: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("testbed.commands.bench._refuse_if_lacking", lambda: None)
    with pytest.raises(typer.Exit):
        bench(["verdict"], count=1, only="no such row", as_json=True)
    assert [made["from_ms"] for made in json.loads(capsys.readouterr().out)] == [None]


def test_parts_are_chosen_of_a_benchmark_that_has_some() -> None:
    with pytest.raises(InputError, match="xdp does not take this option"):
        bench(["xdp"], only="x")
