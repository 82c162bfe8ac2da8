"""Expectations: read, checked against what a summary can hold, evaluated."""

from __future__ import annotations

import pytest

from testbed.errors import InputError
from testbed.results.expectations import Expectation, evaluate, parse_all
from testbed.results.metrics import paths

SUMMARY = {"verdict": "VALID", "traffic": {"unaccounted_packets": 0, "flag": True}, "setup_s": 1.5}


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("setup_s == 1.5", True),
        ("setup_s != 1.5", False),
        ("setup_s < 1.5", False),
        ("setup_s <= 1.5", True),
        ("setup_s > 1", True),
        ("setup_s>=1.6", False),
        ("setup_s > -1e-3", True),
        ("traffic.unaccounted_packets == 0", True),
    ],
)
def test_every_comparison(text: str, passed: bool) -> None:
    result = evaluate(Expectation.parse(text), SUMMARY)
    assert result["passed"] is passed
    assert result["text"] == text


@pytest.mark.parametrize("path", ["verdict", "traffic", "traffic.flag", "traffic.unaccounted_packets.more", "absent"])
def test_what_is_no_figure_fails(path: str) -> None:
    result = evaluate(Expectation.parse(f"{path} == 0"), SUMMARY)
    assert (result["value"], result["passed"]) == (None, False)


@pytest.mark.parametrize(
    "text", ["", "setup_s", "setup_s = 3", "setup_s == three", "setup_s == 1 or 1", "== 3", "a b == 1"]
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected `path op number`"):
        Expectation.parse(text)


def test_a_misspelt_figure_is_refused_with_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"no `traffic.unacounted_packets`; did you mean `traffic.unaccounted_packets`\?"
    ):
        parse_all(["traffic.unacounted_packets == 0"], paths())
    with pytest.raises(InputError, match=r"did you mean `buffer.resizes`"):
        parse_all(["bufer.resizes > 0"], paths())


def test_known_figures_are_accepted() -> None:
    texts = ["traffic.unaccounted_packets == 0", "delay_ms.p99 < 80", "setup_s <= 3"]
    assert [expectation.path for expectation in parse_all(texts, paths())] == [text.split()[0] for text in texts]
