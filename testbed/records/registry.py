"""Every record there is.

To declare one, see `events.record`.  A new file of declarations is a line here; what a line of ``events.jsonl`` may be
is asked of `by_kind` alone, so that nothing depends on which files were imported.
"""

from __future__ import annotations

from collections.abc import Mapping

from testbed.records import events, faults, processes
from testbed.records.events import Record

FILES = (events, processes, faults)


def by_kind() -> Mapping[str, type[Record]]:
    """Return every record that a line of ``events.jsonl`` may be, by the name in its ``kind``."""
    return Record.kinds
