"""Every record there is.

To declare one, see `events.record`.  A new file of declarations is a name here, so that what a line of ``events.jsonl``
may be does not depend on which files were imported.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from testbed.records import events, faults, processes
from testbed.records.events import Record

FILES = (events, processes, faults)


@functools.cache
def by_kind() -> Mapping[str, type[Record]]:
    """Return every record that a line of ``events.jsonl`` may be, by the name in its ``kind``."""
    ours = tuple(file.__name__ for file in FILES)
    return {name: kind for name, kind in Record.kinds.items() if kind.__module__.startswith(ours)}
