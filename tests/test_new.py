"""`new`: each skeleton passes the test it comes with, and each says what it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from testbed import commands
from testbed.commands.new import KindName
from testbed.errors import InputError

KINDS = get_args(KindName)


def new(*words: str) -> list[str]:
    done = CliRunner().invoke(commands.app, ["new", *words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.stdout.splitlines()


def test_every_skeleton_passes_the_test_it_comes_with(tmp_path: Path) -> None:
    for kind in KINDS:
        said = new(kind, f"my-{kind}", "--out", str(tmp_path))
        assert said[-1] == f"try: python -m pytest {tmp_path / f'test_my_{kind}.py'}"
        assert all(Path(line).is_file() for line in said[:-1])
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{2 * len(KINDS)} passed" in done.stdout


def test_every_skeleton_is_free_of_complaints(tmp_path: Path) -> None:
    for kind in KINDS:
        new(kind, f"my-{kind}", "--out", str(tmp_path))
    argv = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "120", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("policy", "My policy"), "not a valid name"),
        (("policy", "class"), "not a valid name"),
        (("policy", "../evil"), "not a valid name"),
        (("policy", "lstm"), "a buffer policy of this name exists already"),
        (("shape", "poisson"), "a traffic shape of this name exists already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, words: tuple[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        new(*words, "--out", str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("precious")
    with pytest.raises(InputError, match=r"mine\.yaml exists already"):
        new("policy", "mine", "--out", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]
