"""Samples on their way to the supervisor: some ticks of a cohort as one block of numbers.

A row object for each node and tick would cost an agent as much CPU time as its decision.  So a tick is written into the
columns of a block, for all nodes of the cohort at once, and the block is sent as bytes after ten ticks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from testbed.records.events import MEASURED, Floats, Ints, TrafficSampled

Column = Ints | list[int] | int  # of every node, or the same for all
NULL = int(np.iinfo(np.int64).min)  # stands for a value that was not measured
_RATIO = "severity_ratio"  # the one column that is no integer: its bits stand in its place
COLUMNS = (
    *MEASURED, "predicted_bytes", _RATIO, "qdisc_backlog_bytes", "backlog_beside_bytes", "deflected_bytes",
    "deflected_pkts", "delivered_bytes", "delivered_t_ns", "loop_ns", "lateness_ns", "look_ns", "decide_ns", "act_ns",
    "record_ns",
)  # fmt: skip
_PLACE = {name: place for place, name in enumerate(COLUMNS)}


class SampleBlock(NamedTuple):
    """Ticks of a cohort.

    Attributes:
        policy: its brain, which was given the samples.
        nodes: its nodes, n of them.
        times_ns: the end of each interval and its length, shape [ticks, 2].
        values: shape [ticks, columns, n]; `NULL` where nothing was measured.
    """

    policy: str
    nodes: tuple[str, ...]
    times_ns: Ints
    values: Ints

    def columns(self) -> dict[str, object]:
        """Return the rows of ``samples.parquet``: a row a tick and node, all columns but the weight."""
        rows: dict[str, object] = {
            "t_ns": np.repeat(self.times_ns[:, 0], len(self.nodes)),
            "node": list(self.nodes) * len(self.times_ns),
        }
        for place, name in enumerate(COLUMNS):
            values = np.ascontiguousarray(self.values[:, place]).ravel()
            absent = values == NULL
            if not absent.all():
                shown = values.view(np.float64) if name == _RATIO else values
                rows[name] = np.ma.masked_array(shown, absent) if absent.any() else shown
        return rows

    def events(self) -> Iterator[tuple[int, TrafficSampled]]:
        """Yield what the brain was given, each with its time."""
        for (t_ns, interval_ns), values in zip(self.times_ns.tolist(), self.values, strict=True):
            yield t_ns, sampled(self.nodes, interval_ns, values[: len(MEASURED)])


class SampleRows:
    """The block that is being written."""

    def __init__(self, policy: str, nodes: tuple[str, ...], ticks: int) -> None:
        """Make room for so many ticks."""
        self._policy, self._nodes, self._count = policy, nodes, 0
        self._times_ns: Ints = np.empty((ticks, 2), dtype=np.int64)
        self._values: Ints = np.empty((ticks, len(COLUMNS), len(nodes)), dtype=np.int64)

    @property
    def full(self) -> bool:
        """Return whether the block has to be taken before the next tick."""
        return self._count == len(self._times_ns)

    def add(
        self, t_ns: int, interval_ns: int, measured: Ints, severity_ratio: Floats, others: Mapping[str, Column]
    ) -> None:
        """Write a tick: the columns of `TrafficSampled` [columns, n] and others by name; absent ones are null."""
        values = self._values[self._count]
        if len(self._nodes) == 1:
            values[:, 0] = _of_one(measured, severity_ratio, others)
        else:
            values[: len(MEASURED)] = measured
            values[len(MEASURED) :] = NULL
            values[_PLACE[_RATIO]] = severity_ratio.view(np.int64)
            for name, column in others.items():
                values[_PLACE[name]] = column
        self._times_ns[self._count] = t_ns, interval_ns
        self._count += 1

    def take(self) -> SampleBlock | None:
        """Return what was written and clear it; None if nothing was written."""
        count, self._count = self._count, 0
        if not count:
            return None
        return SampleBlock(self._policy, self._nodes, self._times_ns[:count].copy(), self._values[:count].copy())


def _of_one(measured: Ints, severity_ratio: Floats, others: Mapping[str, Column]) -> list[int]:
    """Return all columns of one node in plain numbers; see `policies.arithmetic` for why."""
    values: list[int] = [*measured[:, 0].tolist(), *[NULL] * (len(COLUMNS) - len(MEASURED))]
    values[_PLACE[_RATIO]] = severity_ratio.view(np.int64).item()
    for name, column in others.items():
        values[_PLACE[name]] = column if isinstance(column, int) else int(column[0])
    return values


def sampled(nodes: tuple[str, ...], interval_ns: int, measured: Ints) -> TrafficSampled:
    """Return the sample of `nodes` from its columns, shape [columns, n]."""
    return TrafficSampled(nodes=nodes, interval_ns=interval_ns, **dict(zip(MEASURED, measured, strict=True)))
