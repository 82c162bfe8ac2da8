"""`TrafficSampled` by its columns in the order of their declaration, for tests that have them as a list."""

from __future__ import annotations

from typing import Any

from testbed.records.events import MEASURED, TrafficSampled


def of_columns(nodes: tuple[str, ...], interval_ns: int, *columns: Any) -> TrafficSampled:
    """Return the sample of `nodes` whose columns are these, one for each name in `MEASURED`."""
    return TrafficSampled(nodes=nodes, interval_ns=interval_ns, **dict(zip(MEASURED, columns, strict=True)))
