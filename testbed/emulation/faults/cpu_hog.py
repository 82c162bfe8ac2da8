"""`cpu_hog`: processes outside the trial that burn CPU time."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.emulation.faults.act import FaultAct, FaultContext, Measured, see
from testbed.emulation.faults.hogs import Hogs
from testbed.scenario.fault import FaultSpec


class Act(FaultAct):
    """Starts and ends them."""

    def __init__(self, context: FaultContext, specs: Sequence[FaultSpec]) -> None:
        """See `FaultAct`."""
        super().__init__(context, specs)
        self._hogs: dict[FaultSpec, list[Hogs]] = {}

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        hogs = Hogs(spec.target)
        self._hogs.setdefault(spec, []).append(hogs)
        see(f"burning CPU with {spec.target} processes", lambda: all(hogs.burnt_s()))

    def end(self, spec: FaultSpec) -> Measured:
        """See `FaultAct.end`."""
        hogs = self._hogs[spec].pop()
        burnt_s = sum(hogs.burnt_s())
        hogs.end()
        return {"burnt_s": burnt_s}
