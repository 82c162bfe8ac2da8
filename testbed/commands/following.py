"""Work that reports its stages: each is printed, and while one takes long, it is printed again with the time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from testbed import output
from testbed.system import patience

T = TypeVar("T")


def followed(doing: str, work: Callable[[Callable[[str], None]], T], first: str = "reading the traces") -> T:
    """Return the result of `work`, which is given a function that takes the name of each stage.

    Args:
        doing: what all stages are part of, such as ``evaluating``.
        work: does it.
        first: the stage at the beginning.
    """
    stage = first

    def note(text: str) -> None:
        nonlocal stage
        stage = text
        output.note(text)

    with patience.noted(lambda: f"{doing}: {stage}"):
        return work(note)
