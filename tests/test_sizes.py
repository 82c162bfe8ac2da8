"""Small functions and files: a median function of at most 8 lines, none above 45, no file above 350."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEDIAN, FUNCTION, FILE = 8, 45, 350
SOURCES = [path for folder in ("testbed", "controllers", "topologies") for path in (ROOT / folder).rglob("*.py")]


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Yield the name of each function and its lines, decorators apart."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, (node.end_lineno or 0) - node.lineno + 1


def test_no_function_and_no_file_is_long() -> None:
    texts = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in SOURCES}
    lengths = [(length, name, path) for path, text in texts.items() for name, length in functions(text)]
    assert [found for found in lengths if found[0] > FUNCTION] == []
    assert [(path, len(text.splitlines())) for path, text in texts.items() if len(text.splitlines()) > FILE] == []
    assert statistics.median(length for length, _, _ in lengths) <= MEDIAN


def test_a_long_function_is_found() -> None:
    assert [length for _, length in functions("def long():\n" + "    x = 1\n" * FUNCTION)] == [FUNCTION + 1]
