"""Every record there is.

To declare one, see `events.record`.  A new file of declarations is a name here, so that what a line of ``events.jsonl``
may be does not depend on which files were imported.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from testbed.records import events, faults, processes
from testbed.records.events import Readiness, Record, States, Suspicions, fields_of
from testbed.records.events.record import getter_of

FILES = (events, processes, faults)


@functools.cache
def by_kind() -> Mapping[str, type[Record]]:
    """Return every record that a line of ``events.jsonl`` may be, by the name in its ``kind``."""
    ours = tuple(file.__name__ for file in FILES)
    return {name: kind for name, kind in Record.kinds.items() if kind.__module__.startswith(ours)}


def evaluate_declarations() -> None:
    """Look at every declaration now, so that no process that is forked later does it in the middle of its loop.

    It takes a millisecond a record.  Done by every member at its first message, it kept the switch from the processors
    for 25 ms at the start of a run.
    """
    for kind in by_kind().values():
        fields_of(kind)
        getter_of(kind)
    for base in (Suspicions, States, Readiness):
        fields_of(base)
