"""Which tests run beside each other under ``pytest -n 2``.

A file is tested by one worker, so that its fixtures are made once.  All files that emulate are one unit: two runs at a
time on two cores disturb each other, and then their verdicts are about the tests.  It goes first, being the longest.
(``--dist loadgroup`` of pytest-xdist 3.8 would do the same by markers, but not with pytest 9.2, whose items keep their
names elsewhere.)
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

EMULATED = "emulated"
TESTS = Path(__file__).resolve().parent
_EMULATES = re.compile(r'requires\([^)]*"(mininet|ovs)"')


class ByFile(LoadScopeScheduling):
    """Gives workers whole files, and all that emulate to one of them."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # it would sort by the number of tests

    def _assign_work_unit(self, node: WorkerController) -> None:
        if EMULATED in self.workqueue:
            self.workqueue.move_to_end(EMULATED, last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid.partition("::")[0])


@cache
def unit(file: str) -> str:
    """Return what a file of tests is run together with: other files that emulate, or itself alone."""
    text = (TESTS.parent / file).read_text(encoding="utf-8")
    return EMULATED if _EMULATES.search(text) else file
