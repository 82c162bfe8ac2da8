"""Damaged inputs for every reader: a short slice of what ``make fuzz`` does, the same in every run of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.fuzz import inputs
from tests.fuzz.inputs import NoFile, Target
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import Stretch, Tally

SEED = 1
COUNT = 60


def fed(target: Target, numbers: range) -> Tally:
    stretch = Stretch(target, SEED, numbers)
    _, status = os.waitpid(stretch.pid, 0)
    return stretch.result(status)[0]


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_reads_or_refuses_whatever_it_is_given(name: str) -> None:
    tally = fed(TARGETS[name], range(COUNT))
    assert [(finding.number, finding.what, finding.trace) for finding in tally.findings] == []
    assert tally.inputs == tally.read + tally.refused == COUNT
    assert tally.refused


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_takes_its_corpus(name: str) -> None:
    sound = len(inputs.seeds_of(TARGETS[name]))
    assert fed(TARGETS[name], range(sound)).read == sound


def test_statistics_that_do_not_fit_do_not_end_the_process() -> None:
    """Arrow's object for a column aborts on a size histogram of another length."""
    stretch = Stretch(TARGETS["report"], 105, range(169, 170))
    _, status = os.waitpid(stretch.pid, 0)
    tally = stretch.result(status)[0]
    assert (tally.inputs, tally.findings, status) == (1, [], 0)


def test_an_input_follows_from_its_number() -> None:
    target = TARGETS["report"]
    seeds = inputs.seeds_of(target)
    made = [inputs.make(target, seeds, SEED, number) for number in range(40)]
    assert made == [inputs.make(target, seeds, SEED, number) for number in range(40)]
    assert len({str(one) for one in made}) == 40


def planted(read: object) -> Target:
    return Target("notification", "notifications", read, LookupError)  # type: ignore[arg-type]


def breaks(folder: Path, name: str) -> None:
    raise ValueError(name)


def hoards(folder: Path, name: str) -> None:
    bytearray(2 * 10**9)


def dies(folder: Path, name: str) -> None:
    os.abort()


def rambles(folder: Path, name: str) -> None:
    raise LookupError("no \ud800")


@pytest.mark.parametrize(
    ("reader", "said"),
    [(breaks, "ValueError"), (hoards, "MemoryError"), (dies, "killed by signal 6"), (rambles, "cannot be printed")],
)
def test_a_planted_fault_is_found(reader: object, said: str) -> None:
    tally = fed(planted(reader), range(1))
    assert [said in finding.what for finding in tally.findings] == [True]


def test_whatever_may_lie_where_a_file_should_is_put_there(tmp_path: Path) -> None:
    inputs.write({kind.name: kind for kind in NoFile} | {"sound": b"x"}, tmp_path / "input")
    assert {path.name for path in (tmp_path / "input").iterdir()} == {"sound", *(k.name for k in NoFile)} - {"MISSING"}
