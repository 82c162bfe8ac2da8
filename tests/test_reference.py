"""The documents that are made from the tables, and what each row of the metrics must say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from testbed.commands import reference as commands_reference
from testbed.openmetrics import reference as openmetrics_reference
from testbed.report.key_figures import groups
from testbed.report.terminal import verdict_lines
from testbed.report.written import UNITS
from testbed.results.expectations import Expectation, evaluate, parse_all
from testbed.results.fidelity import reference as checks_reference
from testbed.results.fidelity.judge import QUESTIONS
from testbed.results.metrics import METRICS, Metric, columns, paths
from testbed.results.metrics import reference as metrics_reference
from testbed.scenario import keys_reference
from testbed.scenario import reference as choices_reference
from testbed.scenario.tables import BALANCER_POLICIES, BUFFER_POLICIES, PLACEMENT_POLICIES, TOPOLOGIES

ROOT = Path(__file__).resolve().parent.parent
SUMMARY = {
    "scenario": "x", "engine": "simulation", "seed": 1, "status": "completed", "verdict": "VALID",
    "verdict_reasons": [],
    "traffic": {"sent_packets": 3, "delivered_packets": 3, "dropped_packets": {}, "in_flight_packets": 0,
                "unaccounted_packets": 0},
    "buffer": {"policy": "lstm", "warmth": 37.0},
}  # fmt: skip


def defects(metric: Metric) -> list[str]:
    """Return what a row lacks."""
    found = [name for name in ("unit", "doc", "section", "label") if not getattr(metric, name).strip()]
    found += [] if metric.unit in UNITS or not metric.unit else [f"nobody writes the unit {metric.unit}"]
    found += [] if bool(metric.key) == bool(metric.column) else ["key without column, or column without key"]
    found += [] if re.search(r"\{(bare)?\}", metric.line) or not metric.line else ["line without the value"]
    return found


@pytest.mark.parametrize("metric", tuple(METRICS), ids=lambda metric: metric.name)
def test_every_metric_says_what_it_is(metric):
    assert defects(metric) == []


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ({"doc": ""}, ["doc"]),
        ({"unit": ""}, ["unit"]),
        ({"unit": "furlongs"}, ["nobody writes the unit furlongs"]),
        ({"key": "x"}, ["key without column, or column without key"]),
        ({"line": "loss"}, ["line without the value"]),
    ],
)
def test_a_metric_that_lacks_something_is_found(change, lacking):
    plain = Metric(name="x.y", unit="ms", doc="it", section="Buffer", label="it")
    assert defects(replace(plain, **change)) == lacking


def test_keys_of_columns_are_given_once():
    assert len({metric.key for metric in columns()}) == len(columns())


@pytest.fixture
def warmth():
    row = Metric(
        name="buffer.warmth", unit="ms", doc="how warm it is", section="Buffer", label="warmth", line="warm by {}"
    )
    yield METRICS.add(row)
    METRICS.remove("buffer.warmth")


def test_a_metric_added_at_run_time_is_shown_and_expected(warmth):
    assert "buffer.warmth" in paths()
    (expectation,) = parse_all(("buffer.warmth < 40",), paths())
    assert evaluate(expectation, SUMMARY) == {"text": "buffer.warmth < 40", "value": 37.0, "passed": True}
    assert ("warmth", "37 ms") in dict(groups(SUMMARY))["Buffer"]
    assert any("warm by 37 ms" in line.plain for line in verdict_lines(SUMMARY, Path("x")))
    assert "`buffer.warmth`" in metrics_reference.page()


def test_a_text_is_no_figure_to_be_expected():
    assert "buffer.policy" in METRICS
    assert "buffer.policy" not in paths()
    assert evaluate(Expectation.parse("buffer.policy == 1"), SUMMARY)["value"] is None


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("metrics", metrics_reference.page),
        ("openmetrics", openmetrics_reference.page),
        ("checks", checks_reference.page),
        ("choices", choices_reference.page),
        ("scenario", keys_reference.page),
        ("commands", commands_reference.page),
    ],
)
def test_the_reference_is_current(name, page):
    assert (ROOT / "docs" / "reference" / f"{name}.md").read_text(encoding="utf-8") == page(), "run `make reference`"


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_every_check_has_a_line_with_both_bounds(question):
    (line,) = [line for line in checks_reference.page().splitlines() if line.startswith(f"| {question.name} |")]
    assert all(cell.strip() for cell in line.split("|")[1:-1]), line
    assert question.remedy


def test_readme_and_scenario_page_name_what_there_is():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    scenario = (ROOT / "docs/scenario.md").read_text(encoding="utf-8")
    assert "\n".join(list(commands_reference.exit_codes())[2:]) in readme
    assert "\n".join(choices_reference.fault_table()) in scenario
    for table in (BUFFER_POLICIES, BALANCER_POLICIES, PLACEMENT_POLICIES, TOPOLOGIES):
        assert [name for name in table.names if f"`{name}`" not in scenario] == []
