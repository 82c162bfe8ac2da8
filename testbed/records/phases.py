"""The phases of a set-up: which took how long, one after the other.

    began ─ phase ─ phase ─ … ─ ended

A phase lasts until the next one begins, so together they are the whole time from the start to the first packet.  What
happens at the same time (processes that get ready) is recorded beside them, as times since the set-up began.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from testbed.units import NS_PER_S


class Phases:
    """The phases of one set-up; times are those of CLOCK_MONOTONIC, in ns.

    Attributes:
        began_ns: when the first phase began.
    """

    def __init__(self, began_ns: int = 0, first: str = "starting") -> None:
        """Begin with a first phase."""
        self.began_ns = began_ns
        self._begun = [(first, began_ns)]

    def begin(self, name: str, now_ns: int) -> None:
        """End the present phase and begin another; a phase with an earlier name continues that one."""
        self._begun.append((name, now_ns))

    def lasted_s(self, until_ns: int) -> dict[str, float]:
        """Return how long each phase lasted (s), in the order of their beginnings, up to `until_ns`."""
        ends = [began_ns for _, began_ns in self._begun[1:]] + [until_ns]
        lasted: dict[str, float] = {}
        for (name, began_ns), end_ns in zip(self._begun, ends, strict=True):
            lasted[name] = lasted.get(name, 0.0) + (end_ns - began_ns) / NS_PER_S
        return lasted

    def since_s(self, at_ns: int) -> float:
        """Return how long after the beginning a time is (s)."""
        return (at_ns - self.began_ns) / NS_PER_S


def set_up_lines(record: Mapping[str, Any]) -> list[str]:
    """Return the set-up of a manifest as lines: how long each phase lasted, and when each process was ready."""
    phases = [f"set-up: {lasted_s:7.3f} s {name}" for name, lasted_s in record.get("phases_s", {}).items()]
    ready = sorted(record.get("ready_s", {}).items(), key=lambda item: float(item[1]))
    return [*phases, *(f"set-up: {name} was ready after {at_s:.3f} s" for name, at_s in ready)]


def longest(record: Mapping[str, Any], count: int = 3) -> str:
    """Return the longest phases of the set-up of a manifest, in words."""
    phases = sorted(record.get("phases_s", {}).items(), key=lambda item: -float(item[1]))
    return ", ".join(f"{name} {lasted_s:.2f} s" for name, lasted_s in phases[:count])
