"""Which tests run beside each other under ``pytest -n 2``.

A file is tested by one worker, so that its fixtures are made once; but the tests that emulate, of all files, are one
unit: two runs at a time on two cores disturb each other, and then their verdicts are about the tests.  It goes first,
being the longest.  Which tests those are is read in the files, since the process that deals them out does not import
them.  (``--dist loadgroup`` of pytest-xdist 3.8 would do the same by markers, but not with pytest 9.2, whose items keep
their names elsewhere.)
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

EMULATED, ALL = "emulated", "*"
TESTS = Path(__file__).resolve().parent


class ByFile(LoadScopeScheduling):
    """Gives workers whole files, and all tests that emulate to one of them."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # it would sort by the number of tests

    def _assign_work_unit(self, node: WorkerController) -> None:
        if EMULATED in self.workqueue:
            self.workqueue.move_to_end(EMULATED, last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)


def unit(nodeid: str) -> str:
    """Return what a test is run together with: all others that emulate, or those of its file."""
    file, _, test = nodeid.partition("::")
    emulating = of_file(file)
    return EMULATED if {ALL, test.partition("[")[0]} & emulating else file


@cache
def of_file(file: str) -> frozenset[str]:
    """Return the tests of a file that emulate."""
    return emulating((TESTS.parent / file).read_text(encoding="utf-8"))


def emulating(source: str) -> frozenset[str]:
    """Return the tests that ask for Mininet by a marker of their own; `ALL` where the file has a marker for many."""
    asking = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and any(map(_asks, node.decorator_list)):
            asking.add(node.name)
        if isinstance(node, ast.Assign) and _asks(node.value):
            asking.add(ALL)
    return frozenset(asking)


def _asks(marker: ast.expr) -> bool:
    text = ast.unparse(marker)
    return "requires(" in text and "'mininet'" in text
