"""The notebook of the documentation: every cell runs, and the page that shows it is current."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
RUNNER = """
import ast, json, sys

names = {"__name__": "__main__"}
for number, cell in enumerate(json.load(open(sys.argv[1], encoding="utf-8"))["cells"]):
    if cell["cell_type"] != "code":
        continue
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {number}", "exec"), names)
    if last is not None:  # its value is shown, as a notebook does
        value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
        repr(value), getattr(value, "_repr_html_", str)()
"""


def executed(notebook: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the code cells of a notebook one after the other, in a folder and a process of their own."""
    argv = [sys.executable, "-c", RUNNER, str(notebook)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=folder, timeout=120)


def test_every_cell_runs(tmp_path: Path) -> None:
    done = executed(NOTEBOOK, tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_cell_that_raises_fails(tmp_path: Path) -> None:
    content: dict[str, Any] = {"cells": [{"cell_type": "code", "source": ["x = 1\n", "x / 0"]}]}
    (tmp_path / "bad.ipynb").write_text(json.dumps(content))
    done = executed(tmp_path / "bad.ipynb", tmp_path)
    assert done.returncode != 0
    assert "cell 0" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_the_notebook_holds_no_outputs_and_is_well_formed() -> None:
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert (content["nbformat"], {cell["cell_type"] for cell in content["cells"]}) == (4, {"markdown", "code"})
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)


def test_the_page_is_that_of_the_notebook() -> None:
    made = subprocess.run([ROOT / ".ci/notebook-page", NOTEBOOK], capture_output=True, text=True, check=True).stdout
    page = (ROOT / "docs/howto/notebook.md").read_text(encoding="utf-8")
    assert page == made, "the notebook has changed: run `make reference`"


@pytest.mark.parametrize("name", ["docs/index.md", "mkdocs.yml", "README.md"])
def test_the_notebook_is_linked(name: str) -> None:
    assert "howto/notebook.md" in (ROOT / name).read_text(encoding="utf-8").replace("docs/howto", "howto")
