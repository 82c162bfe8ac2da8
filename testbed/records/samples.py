"""``samples.parquet`` as a table: a row for each node and sample, as `SampleRow` declares it.

A row says what happened in the interval that ends at its `t_ns` (and began at the node's previous row) and the state
at its end.  Arrivals and drops are counts *of the interval*, so that a plot needs no differences and a sum over any
stretch of rows is right even if a tick came late.  Delivered bytes are *cumulative* since the start of the run and
carry the time of the last delivery: the quotient of two differences is then the exact rate of the link between two
departures, free of the sampler's own lateness.

Columns outside `REQUIRED` are null where the engine or the policy does not give them (`predicted_bytes` of a policy
that does not predict, `loop_ns` in virtual time): null is *not measured*, 0 is *measured, none*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa

from testbed.records.events import Floats, Ints, SampleRow, fields_of

COLUMNS = {field.name: field for field in fields_of(SampleRow)}
"""Every column by name, with its meaning and unit."""

REQUIRED = frozenset(name for name, column in COLUMNS.items() if not column.has_default)
_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), int | None: pa.int64(), float | None: pa.float64()}

SCHEMA = pa.schema([pa.field(n, _TYPES[column.type], nullable=n not in REQUIRED) for n, column in COLUMNS.items()])


@dataclass(frozen=True, slots=True)
class NodeSamples:
    """The rows of one node in the order of time.

    Attributes:
        t_ns, arrived_bytes, arrived_pkts, dropped_bytes, dropped_pkts, backlog_bytes, limit_bytes: int64, shape [n].
        optional: the other columns that have any value, float64, shape [n], NaN where null.
    """

    t_ns: Ints
    arrived_bytes: Ints
    arrived_pkts: Ints
    dropped_bytes: Ints
    dropped_pkts: Ints
    backlog_bytes: Ints
    limit_bytes: Ints
    optional: Mapping[str, Floats]

    def interval_ns(self) -> Ints:
        """Return the length of each row's interval; shape [n].  The first began at 0."""
        return np.diff(self.t_ns, prepend=0)


def table_of(columns: Mapping[str, object]) -> pa.Table:
    """Return a table of the schema from columns of equal length; absent optional columns become null.

    Raises:
        KeyError: when a column is unknown or a required one is absent.
        pyarrow.ArrowInvalid: when a value does not fit its column.
    """
    unknown = set(columns) - set(COLUMNS)
    absent = REQUIRED - {name for name, values in columns.items() if values is not None}
    if unknown or absent:
        raise KeyError(f"unknown columns {sorted(unknown)}, absent columns {sorted(absent)}")
    rows = len(columns["t_ns"])  # type: ignore[arg-type]
    arrays = [_array(columns.get(field.name), field, rows) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _array(values: object, field: pa.Field, rows: int) -> pa.Array:
    return _nulls(rows, field.type) if values is None else pa.array(values, type=field.type)


@lru_cache(maxsize=8)
def _nulls(rows: int, kind: pa.DataType) -> pa.Array:
    """Return a column of nulls; batches of one length share it, since nulls of integers take eight bytes each."""
    return pa.nulls(rows, kind)


def in_order(table: pa.Table) -> pa.Table:
    """Return the rows ordered by time; rows of one instant stay in the order they came."""
    order = np.argsort(table.column("t_ns").to_numpy(), kind="stable")
    return table if np.all(np.diff(order) == 1) else table.take(pa.array(order))


def by_node(table: pa.Table) -> dict[str, NodeSamples]:
    """Return the rows of each node, nodes in the order of their first row, each in the order of time."""
    return by_node_from(table.column)


def by_node_from(column: Callable[[str], pa.ChunkedArray]) -> dict[str, NodeSamples]:
    """Return what `by_node` does, asking for one column after the other: a large file never lies in memory whole.

    A node's arrays are views of one array for all nodes.
    """
    t_ns = column("t_ns").to_numpy()
    names = column("node").combine_chunks().dictionary_encode()
    codes, nodes = names.indices.to_numpy(), [str(node) for node in names.dictionary.to_pylist()]
    order = np.lexsort((t_ns, codes))
    bounds = np.searchsorted(codes[order], np.arange(len(nodes) + 1)).tolist()
    parts = {node: slice(*bounds[k : k + 2]) for k, node in enumerate(nodes)}
    sorted_columns = {name: found[order] for name in _MEASURED if (found := _numpy(column(name), name)) is not None}
    first_ns = {node: t_ns[order[part.start]] for node, part in parts.items()}
    of_time = sorted(nodes, key=lambda node: (first_ns[node], nodes.index(node)))
    return {node: _node_samples(sorted_columns, parts[node]) for node in of_time}


_MEASURED = tuple(name for name in COLUMNS if name != "node")


def _numpy(column: pa.ChunkedArray, name: str) -> Ints | Floats | None:
    """Return a column as int64 if it is a required one, else as float64; None when it is null altogether."""
    if column.null_count == len(column) and len(column):
        return None
    values: Ints | Floats = column.to_numpy().astype(np.int64 if name in REQUIRED else np.float64, copy=False)
    return values


def _node_samples(columns: Mapping[str, Any], rows: slice) -> NodeSamples:
    parts = {name: values[rows] for name, values in columns.items()}
    required = {name: part for name, part in parts.items() if name in REQUIRED}
    optional = {name: part for name, part in parts.items() if name not in REQUIRED and not np.all(np.isnan(part))}
    return NodeSamples(optional=optional, **required)
