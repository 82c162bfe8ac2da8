"""The examples in help texts and README are commands that can be typed: they parse, and their files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from testbed import commands

ROOT = Path(__file__).resolve().parent.parent
COMMAND = re.compile(r"^(?:sudo )?(?:env \"PATH=\$PATH\" )?(?:\.venv/bin/)?python -m testbed (.*)$")
# What a user has made before, or makes: run directories, models and tables of their own; files of another machine.
MADE = ("runs/", "model", "flows.csv", "/")
GROUP = typer.main.get_command(commands.app)


def quoted_in(text: str) -> list[str]:
    """Return what stands in backquotes or on a line of its own."""
    return [*re.findall("`([^`]+)`", text), *text.splitlines()]


def commands_in(text: str) -> list[str]:
    """Return the arguments of each command line in a text; `…` and VERB stand for what the reader fills in."""
    found = [match[1] for line in quoted_in(text) if (match := COMMAND.match(line.split("  #")[0].strip()))]
    return [line for line in dict.fromkeys(found) if not re.search(r"…|\bVERB\b", line)]


def examples() -> list[str]:
    """Return every example of the help texts and of the documents."""
    epilogs = [command.epilog for command in GROUP.commands.values()]  # type: ignore[attr-defined]
    documents = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")]
    return [line for text in (*epilogs, *documents) for line in commands_in(text)]


def values_of(words: list[str]) -> list[Any]:
    """Return the values a command line gives, parsed as it would be, and do nothing."""
    name, command, rest = GROUP.resolve_command(GROUP.make_context("testbed", words, resilient_parsing=True), words)  # type: ignore[attr-defined]
    context = command.make_context(name, list(rest))
    return [
        value for given in context.params.values() for value in (given if isinstance(given, list | tuple) else [given])
    ]


def test_every_verb_has_an_example() -> None:
    for name, command in GROUP.commands.items():  # type: ignore[attr-defined]
        assert any(line.split()[0] == name for line in commands_in(command.epilog)), name


@pytest.mark.parametrize("line", examples())
def test_an_example_parses_and_names_files_that_exist(line: str) -> None:
    for value in values_of(shlex.split(line)):
        if isinstance(value, Path) and not str(value).startswith(MADE):
            assert (ROOT / value).exists() or list(ROOT.glob(str(value))), value


def test_files_named_in_the_documents_exist() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "MODEL.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        named: list[str] = re.findall(r"`((?:scenarios|bpf|testbed|controllers|topologies|tests)/[^`\s]*)`", text)
        named += re.findall(r"\]\(([A-Z]+\.md)\)", text)
        missing = [path for path in named if "<" not in path and not list(ROOT.glob(path.rstrip("/")))]
        assert missing == [], name
