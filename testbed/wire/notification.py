"""What nodes and balancer send each other: the body of a sealed message (`sealing`), fixed fields, network byte order.

A node's notification to the balancer:

    magic "TBNB" · version u8 · rows u8 · rows × (name length u8 · name · the columns of `Readiness`)

Columns lie in the order of their declaration, whole numbers as u64, ratios as f64.

The answer that names a node's sibling:

    magic "TBSB" · version u8 · rows u8 · rows × (name length u8 · name · sibling's length u8 · sibling)

A node speaks of itself alone: its message has one row.  Whatever is not exactly this is refused whole; who gets it
counts or ignores it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from testbed.records.events import Floats, NameSiblings, NodesNotified, NotifyBalancer, Readiness, fields_of

MAGIC = b"TBNB"
SIBLINGS_MAGIC = b"TBSB"
VERSION = 1
MAX_ROWS = 255

_HEADER = struct.Struct("!4sBB")
_COLUMNS = tuple(field for field in fields_of(Readiness) if field.name != "nodes")
_ROW = struct.Struct("!" + "".join("d" if column.type == Floats else "Q" for column in _COLUMNS))
_MAX_VALUE = 2**62


def bodies(notification: NotifyBalancer) -> Iterator[tuple[str, bytes]]:
    """Yield each node and the datagram that speaks of it alone.

    Raises:
        ValueError: a value is out of range.
    """
    header = _HEADER.pack(MAGIC, VERSION, 1)
    return ((node, header + row) for node, row in _rows(notification))


def _rows(notification: NotifyBalancer) -> Iterator[tuple[str, bytes]]:
    columns = [getattr(notification, column.name).tolist() for column in _COLUMNS]
    for node, row in zip(notification.nodes, zip(*columns, strict=True), strict=True):
        name = node.encode("ascii")
        try:
            yield node, bytes((len(name),)) + name + _ROW.pack(*row)
        except struct.error as error:
            raise ValueError(f"{node}: {row} is out of range") from error


def decode(datagram: bytes) -> NodesNotified:
    """Return the event a datagram announces.

    Raises:
        ValueError: it is not exactly a notification of this version.
    """
    try:
        magic, version, count = _HEADER.unpack_from(datagram)
        if (magic, version) != (MAGIC, VERSION) or count == 0:
            raise ValueError(f"not a notification of version {VERSION}")
        names, rows, offset = [], [], _HEADER.size
        for _ in range(count):
            name, row, offset = _decode_row(datagram, offset)
            names.append(name)
            rows.append(row)
    except struct.error as error:
        raise ValueError("truncated") from error
    if offset != len(datagram) or len(set(names)) != count:
        raise ValueError("bytes after the last row, or a node named twice")
    columns: dict[str, Any] = {
        column.name: np.array(values, dtype=np.float64 if column.type == Floats else np.int64)
        for column, values in zip(_COLUMNS, zip(*rows, strict=True), strict=True)
    }
    return NodesNotified(nodes=tuple(names), **columns)


def _decode_row(datagram: bytes, offset: int) -> tuple[str, tuple[float, ...], int]:
    (length,) = struct.unpack_from("!B", datagram, offset)
    start = offset + 1 + length
    name = datagram[offset + 1 : start].decode("ascii")
    row = _ROW.unpack_from(datagram, start)
    if not name.isidentifier():
        raise ValueError("a name out of range")
    for column, value in zip(_COLUMNS, row, strict=True):
        if not 0 <= value <= (1.0 if column.type == Floats else _MAX_VALUE):
            raise ValueError(f"{column.name} out of range")
    return name, row, start + _ROW.size


def encode_siblings(action: NameSiblings) -> bytes:
    """Return the datagram that names siblings; an empty name is nobody.

    Raises:
        ValueError: more rows than fit, or a name longer than 255 letters.
    """
    if not 1 <= len(action.nodes) <= MAX_ROWS:
        raise ValueError(f"names of siblings have 1 to {MAX_ROWS} rows, not {len(action.nodes)}")
    parts = [_HEADER.pack(SIBLINGS_MAGIC, VERSION, len(action.nodes))]
    for pair in zip(action.nodes, action.siblings, strict=True):
        for name in pair:
            parts += [bytes((len(name),)), name.encode("ascii")]
    return b"".join(parts)


def decode_siblings(datagram: bytes) -> NameSiblings:
    """Return the action a datagram carries.

    Raises:
        ValueError: it is not exactly the names of siblings of this version.
    """
    if len(datagram) < _HEADER.size or _HEADER.unpack_from(datagram)[:2] != (SIBLINGS_MAGIC, VERSION):
        raise ValueError(f"no names of siblings of version {VERSION}")
    count, rest = datagram[_HEADER.size - 1], datagram[_HEADER.size :]
    names: list[str] = []
    while rest:
        name = rest[1 : 1 + rest[0]].decode("ascii")
        if len(name) != rest[0] or not (name.isidentifier() or (not name and len(names) % 2)):
            raise ValueError("truncated, or a name out of range")
        names.append(name)
        rest = rest[1 + rest[0] :]
    if count == 0 or len(names) != 2 * count or len(set(names[::2])) != count:
        raise ValueError("not as many rows as announced, or a node named twice")
    return NameSiblings(nodes=tuple(names[::2]), siblings=tuple(names[1::2]))
