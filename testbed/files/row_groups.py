"""A Parquet file that grows: row groups are added as bytes, and the footer is rewritten.

A Parquet file without its footer is unreadable, and a library that writes one wants all rows again for the next one.
But the footer alone knows where things are: a row group of another file can be copied as it is, if the places in its
part of that file's footer are moved by as much as the bytes are.

    file    "PAR1"  row group  row group …  footer  length of the footer (4 bytes)  "PAR1"

The footer is a structure of Thrift's compact protocol.  It is read into a tree, the row groups of many files are put
into one, their places moved, and it is written again.

Source: Apache Parquet format, ``parquet.thrift`` (FileMetaData, RowGroup, ColumnChunk, ColumnMetaData); Apache Thrift,
"Thrift compact protocol encoding".
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MAGIC = b"PAR1"

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_ROWS, _GROUPS = 3, 4  # fields of FileMetaData
_PLACES = {  # fields that are places in the file, by the way to them: RowGroup, its columns (1), their metadata (3)
    (): (5,),
    (1,): (2, 4, 6),
    (1, 3): (9, 10, 11, 14),
}

Tree = dict[int, tuple[int, Any]]  # the fields of a structure in their order: number to type and value


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A row group at its place in a file.

    Attributes:
        rows: how many there are.
        listed: what the footer says of it.
    """

    rows: int
    listed: bytes


def row_group(table: pa.Table, at: int) -> tuple[bytes, RowGroup]:
    """Return the bytes of a table (one row at least) as one row group, to be put at the place `at` of a file."""
    content, tree = _parts(_file(table))
    (group,) = tree[_GROUPS][1][1]
    _move(group, (), at - len(MAGIC))
    listed = bytearray()
    _write_structure(listed, group)
    return content, RowGroup(table.num_rows, bytes(listed))


def footer(schema: pa.Schema, groups: Sequence[RowGroup]) -> bytes:
    """Return the end of a file of row groups, in their order."""
    _, tree = _parts(_file(schema.empty_table()))
    tree[_ROWS] = (_I64, sum(group.rows for group in groups))
    tree[_GROUPS] = (_LIST, (_STRUCT, [group.listed for group in groups]))
    out = bytearray()
    _write_structure(out, tree)
    return bytes(out) + struct.pack("<I", len(out)) + MAGIC


def _file(table: pa.Table) -> bytes:
    file = io.BytesIO()
    with pq.ParquetWriter(file, table.schema, compression="zstd", store_schema=False) as writer:
        writer.write_table(table.combine_chunks(), row_group_size=max(table.num_rows, 1))
    return file.getvalue()


def _parts(content: bytes) -> tuple[bytes, Tree]:
    """Return what lies between the beginning of a file and its footer, and the footer."""
    (length,) = struct.unpack("<I", content[-8:-4])
    begins = len(content) - 8 - length
    return content[len(MAGIC) : begins], _Reader(content[begins:-8]).structure()


def _move(tree: Tree, way: tuple[int, ...], by_bytes: int) -> None:
    for number in _PLACES[way]:
        kind, place = tree.get(number, (0, 0))
        if place:  # 0 stands for none
            tree[number] = (kind, place + by_bytes)
    for number, (kind, value) in tree.items():
        if (*way, number) in _PLACES:
            for below in value[1] if kind == _LIST else [value]:
                _move(below, (*way, number), by_bytes)


class _Reader:
    """Reads the compact protocol."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def structure(self) -> Tree:
        fields: Tree = {}
        number = 0
        while (head := self._bytes(1)[0]) != 0:
            number = number + (head >> 4) if head >> 4 else self._signed()
            fields[number] = (head & 15, self._value(head & 15))
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (_TRUE, _FALSE):
            return None
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind == _STRUCT:
            return self.structure()
        if kind in (_LIST, _SET):
            head = self._bytes(1)[0]
            count = head >> 4 if head >> 4 < 15 else self._unsigned()
            return head & 15, [self._element(head & 15) for _ in range(count)]
        if kind == _MAP:
            raise ValueError("a footer of Parquet has no maps")
        return self._bytes(1 if kind == _BYTE else 8 if kind == _DOUBLE else self._unsigned())

    def _element(self, kind: int) -> Any:
        return self._value(_BYTE if kind in (_TRUE, _FALSE) else kind)

    def _bytes(self, count: int) -> bytes:
        self._at += count
        return self._content[self._at - count : self._at]

    def _unsigned(self) -> int:
        value, shift = 0, 0
        while (byte := self._bytes(1)[0]) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)


def _write_structure(out: bytearray, tree: Tree) -> None:
    before = 0
    for number, (kind, value) in sorted(tree.items()):
        if 0 < number - before < 16:
            out.append((number - before) << 4 | kind)
        else:
            out.append(kind)
            _write_unsigned(out, number << 1)
        before = number
        _write_value(out, kind, value)
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in (_I16, _I32, _I64):
        _write_unsigned(out, value << 1 if value >= 0 else (-value << 1) - 1)
    elif kind == _STRUCT and isinstance(value, dict):
        _write_structure(out, value)
    elif kind in (_LIST, _SET):
        of, values = value
        out.append(min(len(values), 15) << 4 | of)
        if len(values) >= 15:
            _write_unsigned(out, len(values))
        for one in values:
            _write_value(out, _BYTE if of in (_TRUE, _FALSE) else of, one)
    elif kind == _BINARY:
        _write_unsigned(out, len(value))
        out += value
    elif kind not in (_TRUE, _FALSE):
        out += value


def _write_unsigned(out: bytearray, value: int) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
