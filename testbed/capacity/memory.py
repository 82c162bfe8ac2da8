"""Whether memory is left for one more simulated trial beside those that run.

What a simulated trial takes at most is known before it begins:

    bytes = FIXED_BYTES + planned packets × PACKET_BYTES + samples × SAMPLE_BYTES

Packets are held as arrays, of the plan and of what became of each; the samples (one a node and interval) are all read
once at the end, for verdict, summary and page.  A trial that runs still takes what it does not hold yet, so it is the
free memory without that which has to be enough.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from testbed.errors import TestbedError
from testbed.scenario.loading import LoadedScenario
from testbed.system import allowance
from testbed.traffic.feasible import expected_pkts
from testbed.traffic.traces import TraceFiles

# Above each peak of resident memory of `testbed simulate` measured, by a half at most: 132 MB (50 packets), 154
# (121,000, and 6,000 samples), 216 (121,000 and 200,000, lstm), 320 (2 million and 1,000), 488 (3 and 1 million), 924
# (8.9 and 3 million).
FIXED_BYTES = 200_000_000
PACKET_BYTES = 100
SAMPLE_BYTES = 100

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class MemoryNeeds:
    """The memory that simulated trials need; traces that several of them name are read once."""

    def __init__(self) -> None:
        self._files: dict[Path, TraceFiles] = {}

    def most_bytes(self, loaded: LoadedScenario) -> int:
        """Return what a simulated trial takes at most; of traffic that cannot be planned, its own process says so."""
        scenario, folder = loaded.scenario, loaded.path.parent
        samples = scenario.topology.all_nodes * (scenario.duration_ns / scenario.buffer.sample_interval_ns)
        pkts = 0.0
        with suppress(TestbedError):
            pkts = expected_pkts(scenario, self._files.setdefault(folder, TraceFiles(folder)))
        return round(FIXED_BYTES + pkts * PACKET_BYTES + samples * SAMPLE_BYTES)


def fits(needed_bytes: int, running: Iterable[tuple[int, int]]) -> bool:
    """Return whether so much memory is free beside processes, each with its number and what it takes at most."""
    to_come = sum(max(0, most_bytes - resident_bytes(pid)) for pid, most_bytes in running)
    return allowance.free_bytes() - to_come >= needed_bytes


def resident_bytes(pid: int) -> int:
    """Return the memory that a process holds; 0 when it has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
        return int(fields[1]) * _PAGE_BYTES
    return 0
