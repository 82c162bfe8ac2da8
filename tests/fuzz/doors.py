"""Which functions of the project read a file from elsewhere, and which of them damaged inputs have reached.

Whoever reads such a file makes a `Source` (`testbed.files.reading`); `tests/test_reading_door.py` holds that there is
no other way.  So the readers can be found in the sources, and the ones that were fed are those on the stack when a
`Source` is made.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from testbed.files.reading import Source

DOOR = "testbed/files/"


def readers(sources: Mapping[str, str]) -> set[str]:
    """Return ``path: function`` of each place in these sources that makes a `Source`."""
    return {
        f"{path}: {function}"
        for path, source in sources.items()
        if not path.startswith(DOOR) and "Source" in source
        for function in _making(ast.parse(source), "module", _names(source))
    }


def _names(source: str) -> set[str]:
    """Return how a source may call the class: by its name there, or by that of its module."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "testbed.files.reading":
            found |= {one.asname or one.name for one in node.names if one.name == "Source"}
        if isinstance(node, ast.ImportFrom) and node.module == "testbed.files":
            found |= {f"{one.asname or one.name}.Source" for one in node.names if one.name == "reading"}
        if isinstance(node, ast.Import):
            found |= {f"{one.asname or one.name}.Source" for one in node.names if one.name == "testbed.files.reading"}
    return found


def _making(node: ast.AST, where: str, names: set[str]) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _making(child, child.name, names)
            continue
        if isinstance(child, ast.Call) and ast.unparse(child.func) in names:
            yield where
        yield from _making(child, where, names)


def record(reached: set[str]) -> None:
    """Note in `reached`, from now on in this process, from where each `Source` is made."""
    init: Any = Source.__init__

    def noted(self: Source, *args: Any, **kwargs: Any) -> None:
        frame = sys._getframe(1)
        while (
            frame.f_code.co_name in ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>", "<lambda>") and frame.f_back
        ):
            frame = frame.f_back
        reached.add(f"{_path_of(frame.f_code.co_filename)}: {frame.f_code.co_name}")
        init(self, *args, **kwargs)

    Source.__init__ = noted  # type: ignore[method-assign]


def _path_of(filename: str) -> str:
    """Return the path of a source from the root of the project; links lead into `testbed/`, as imports do."""
    return "testbed/" + filename.rpartition("/testbed/")[2]
