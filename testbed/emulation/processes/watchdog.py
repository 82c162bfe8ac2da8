"""Watches a trial from outside, and ends it when its processes do not respond any more.

The guard reads the status table twice a second, at a priority above all processes of the trial: a process that takes
all cores from PID 1 cannot take them from the guard.  The supervisor also watches, with longer timeouts, in case the
guard itself does not respond.  A watchdog that was late itself restarts all timeouts, because it could not see
heartbeats meanwhile.
"""

from __future__ import annotations

import os
import time

from testbed.emulation.processes.status_table import Seen, StatusTable
from testbed.emulation.processes.trial_process import listed
from testbed.errors import ToolError
from testbed.units import NS_PER_S

LATE_NS = 2 * NS_PER_S


class Watchdog:
    """Watches a status table.

    Args:
        table: of the trial.
        more_ns: the patience it has beyond what the table says.
    """

    def __init__(self, table: StatusTable, more_ns: int = 0) -> None:
        self._status, self._more_ns = table, more_ns
        self._looked_ns = self._awake_since_ns = time.monotonic_ns()

    def finding(self, now_ns: int) -> ToolError | None:
        """Return why the trial must be ended; call it once a second or more often."""
        if now_ns - self._looked_ns > LATE_NS:
            self._awake_since_ns = now_ns
        self._looked_ns = now_ns
        silent = list(self._status.overdue(now_ns, self._awake_since_ns, self._more_ns))
        return _error(silent) if silent else None


def _error(silent: list[Seen]) -> ToolError:
    who = listed([f"{seen.name} ({seen.doing})" for seen in silent])
    longest_s = max(seen.silent_ns for seen in silent) // NS_PER_S
    cores = len(os.sched_getaffinity(0))
    remedy = f"something stopped them, or {cores} cores are not enough (try `doctor SCENARIO`); read logs/trial.log"
    return ToolError("watching the trial", f"no response for {longest_s} s from {who}", remedy)
