"""`pause`: the node's processes are stopped and resumed later."""

from __future__ import annotations

from pathlib import Path

from testbed.emulation.faults.act import FaultAct, see
from testbed.emulation.inventory.difference import Difference
from testbed.emulation.processes.pool_lock import nobody_inside
from testbed.scenario.fault import FaultSpec
from testbed.scenario.network import Network


class Act(FaultAct):
    """Stops and resumes processes."""

    def begin(self, spec: FaultSpec) -> None:
        """See `FaultAct.begin`."""
        with nobody_inside():
            for process in self.context.processes_of(spec.node):
                process.suspend()
            for process in self.context.processes_of(spec.node):
                see(f"stopping {process.name}", lambda pid=process.pid: _state(pid) == "T")  # type: ignore[misc]

    def end(self, spec: FaultSpec) -> None:
        """See `FaultAct.end`."""
        for process in self.context.processes_of(spec.node):
            process.resume()
        for process in self.context.processes_of(spec.node):
            see(f"resuming {process.name}", lambda pid=process.pid: _state(pid) != "T")  # type: ignore[misc]

    @staticmethod
    def covers(found: Difference, spec: FaultSpec, network: Network) -> bool:
        """Return whether it is the state of one of these processes."""
        return found.what == "state" and found.thing in (f"agent {spec.node}", f"mesh {spec.node}")


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
