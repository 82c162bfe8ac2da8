"""Rows of ``samples.parquet``, collected over many ticks before they are passed on: a table costs as much as a tick.

They are passed on after a fixed number of ticks at the latest, because a killed run keeps only rows that were passed
on.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

import numpy as np

from testbed.engine import Writer
from testbed.records.events import MEASURED, Floats, Ints, TrafficSampled

_BATCH_ROWS = 1 << 17
_BATCH_TICKS = 500

_measured = operator.attrgetter(*MEASURED)
_Columns = Mapping[str, Ints | Floats]


class SampleRows:
    """Keeps rows until there are enough of them."""

    def __init__(self, recorder: Writer) -> None:
        self._recorder = recorder
        self._nodes: list[str] = []
        self._instants: list[tuple[int, int]] = []  # time of each tick, and how many rows it has
        self._ticks: list[_Columns] = []

    def add(self, t_ns: int, sample: TrafficSampled, decided: _Columns) -> None:
        """Process one tick: the sample and the further columns, one row a node."""
        self._nodes += sample.nodes
        self._instants.append((t_ns, len(sample.nodes)))
        self._ticks.append({**dict(zip(MEASURED, _measured(sample), strict=True)), **decided})
        if len(self._nodes) >= _BATCH_ROWS or len(self._ticks) >= _BATCH_TICKS:
            self.flush()
            self._recorder.checkpoint()

    def flush(self) -> None:
        """Hand on what is there."""
        if self._ticks:
            columns: dict[str, object] = {
                name: np.concatenate([tick[name] for tick in self._ticks]) for name in self._ticks[0]
            }
            t_ns = np.repeat(*np.array(self._instants, dtype=np.int64).T)
            self._recorder.append_columns({"node": self._nodes, "t_ns": t_ns, **columns, "delivered_t_ns": t_ns})
            self._nodes, self._instants, self._ticks = [], [], []
