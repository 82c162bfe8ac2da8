"""Damaged inputs for every reader: a short slice of what ``make fuzz`` does, the same in every run of the tests."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from tests.fuzz import doors, inputs
from tests.fuzz.inputs import NoFile, Target
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import Stretch, Tally
from tests.test_architecture import project_sources

SEED = 1
COUNT = 60
COUNTS = {"export": 20, "figures": 30, "resume": 20}  # of readers that take a while


# Readers that no damaged input reaches, with the reason.
UNFED = {
    "testbed/scenario/plugins.py: load": "code that is executed: whoever trusts it can do all that it does",
    "testbed/forecaster/training/fitting.py: _resume": "the checkpoint of one's own training, unpacked without code",
    "testbed/trials/inputs.py: _model_files": "bytes that are copied; `model` and `onnx` feed their reader",
    "testbed/results/sample_writer.py: _sort_all": "what this very process has written",
    "testbed/commands/logs.py: logs": "bytes that are shown as text, whatever they are",
    "testbed/bench/map_simulated.py: _costs_in": "what a child of this very command has written",
    "testbed/trials/remote.py: _taken_in": "of a Dask worker, which may run any code here; `package` feeds `unpack`",
    "testbed/trials/worker.py: _unpack": "of a Dask client, which may run any code here; `package` feeds `unpack`",
    "testbed/results/running.py: _marked": "named by the kernel; `mark` feeds `_read_mark`, which reads it",
}


@functools.cache
def _fed(name: str) -> Tally:
    return fed(TARGETS[name], range(COUNTS.get(name, COUNT)))


def fed(target: Target, numbers: range) -> Tally:
    stretch = Stretch(target, SEED, numbers)
    _, status = os.waitpid(stretch.pid, 0)
    return stretch.result(status)[0]


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_reads_or_refuses_whatever_it_is_given(name: str) -> None:
    tally = _fed(name)
    assert [(finding.number, finding.what, finding.trace) for finding in tally.findings] == []
    assert tally.inputs == tally.read + tally.refused == COUNTS.get(name, COUNT)
    assert tally.refused


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_takes_its_corpus(name: str) -> None:
    sound = len(inputs.seeds_of(TARGETS[name]))
    assert fed(TARGETS[name], range(sound)).read == sound


def test_every_reader_is_fed() -> None:
    """A reader that is new fails here until a target of `make fuzz` reaches it, or it stands in `UNFED`."""
    reached = {reader for name in TARGETS for reader in _fed(name).reached}
    there = doors.readers(project_sources())
    assert there - reached - UNFED.keys() == set(), "write a target in tests/fuzz/targets.py"
    assert UNFED.keys() - there == set()
    assert UNFED.keys() & reached == set()


@pytest.mark.parametrize(
    "made",
    ["from testbed.files.reading import Source\n", "from testbed.files.reading import Source as S\nSource = S\n"],
)
def test_a_new_reader_is_found(made: str) -> None:
    name = "S" if " as S" in made else "Source"
    planted = f"{made}def read(path):\n    return [{name}(one, 'x').read(9) for one in path]\n"
    assert doors.readers({"testbed/results/x.py": planted}) == {"testbed/results/x.py: read"}
    by_module = "from testbed.files import reading\nclass A:\n    def f(self):\n        return reading.Source(1, '')\n"
    assert doors.readers({"testbed/x.py": by_module}) == {"testbed/x.py: f"}


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
