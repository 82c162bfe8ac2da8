"""The documentation: it builds without a warning, its commands run, and its reference is that of the source.

The lines of a page's ``sh`` blocks run one after the other in a folder of their own; what needs root is parsed alone.
A block with a title is a file, other Python is executed there.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from testbed import commands
from testbed.scenario import plugins
from tests.test_examples import COMMAND, commands_in, values_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "reference" not in path.parts)
BLOCK = re.compile(r'^```(sh|python|yaml)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """Return kind, title and text of each block of a page."""
    return [(kind, title, text) for kind, title, text in BLOCK.findall(page.read_text(encoding="utf-8"))]


WITH_COMMANDS = [page for page in PAGES if any(kind == "sh" for kind, *_ in blocks(page))]


def carry_out(line: str) -> None:
    """Run a line of a page; without root's, which is parsed."""
    match = COMMAND.match(line)
    if line.startswith("sudo "):
        assert match, line
        values_of(shlex.split(match[1]))
    elif match:
        done = CliRunner().invoke(commands.app, shlex.split(match[1]))
        assert done.exit_code == 0, f"{line}: {done.output}"
    else:
        program, *words = shlex.split(line)
        assert program == "python", line
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        for kind, title, text in blocks(page):
            if title:
                Path(title).write_text(text)
            elif kind == "python":
                exec(compile(text, page.name, "exec"), {})
            elif kind == "sh":
                for line in text.splitlines():
                    carry_out(line)
    finally:
        plugins.forget([plugin.path for plugin in plugins.loaded()])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_within_the_text_parse(page: Path) -> None:
    for line in commands_in(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if not re.search(r"\b(SCENARIO|NAME|RUN|DIR|FILE)\b", line):
            values_of(shlex.split(line))


PIPELINES = [text for kind, _, text in blocks(ROOT / "docs/howto/ci.md") if kind == "yaml"]


def steps_of(pipeline: Any, key: str = "") -> Iterator[str]:
    """Yield the commands of a pipeline: what stands under `run` or `script`, wherever that is."""
    if isinstance(pipeline, dict):
        for name, value in pipeline.items():
            yield from steps_of(value, name)
    elif isinstance(pipeline, list):
        for value in pipeline:
            yield from steps_of(value, key)
    elif key in ("run", "script"):
        yield from (part.removesuffix(" || [ $? = 5 ]") for part in pipeline.split(" && "))


@pytest.mark.parametrize("pipeline", PIPELINES, ids=["github", "gitlab"])
def test_a_pipeline_calls_what_there_is(pipeline: str, tmp_path: Path) -> None:
    steps = [shlex.split(step.removeprefix("sudo ")) for step in steps_of(yaml.safe_load(pipeline))]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert {words[0] for words in steps} <= {"make", "apt-get", "ci/testbed-ci"}
    assert all(words[1] in targets for words in steps if words[0] == "make")
    called = [words for words in steps if words[0] == "ci/testbed-ci"]
    assert called
    for words in called:
        for line in calls_of(words, tmp_path):
            values_of(line)
        assert (ROOT / words[1]).exists()


def calls_of(words: list[str], folder: Path) -> list[list[str]]:
    """Return the command lines of the testbed that ``ci/testbed-ci`` calls; none of them is carried out."""
    said, fake = folder / "called", folder / "python"
    said.write_text("")
    fake.write_text(f'#!/bin/sh\nshift 2\nprintf "%s\\n" "$*" >>{said}\n')
    fake.chmod(0o755)
    subprocess.run([ROOT / words[0], *words[1:]], env={**os.environ, "PYTHON": str(fake)}, check=True, cwd=folder)
    return [line.split() for line in said.read_text().splitlines()]


def test_every_page_is_in_the_navigation() -> None:
    navigation = str(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert [
        page for page in (ROOT / "docs").rglob("*.md") if str(page.relative_to(ROOT / "docs")) not in navigation
    ] == []


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    argv = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "tutorial.html").exists()
