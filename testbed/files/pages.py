"""What the pages of a Parquet file declare, read before Arrow unpacks one.

Arrow makes room for as many bytes as a page's header says, so a few bytes in a damaged one take gigabytes.  Where the
pages are stands in the footer, which is read here as well: Arrow's own object for a column ends the process where the
statistics in it do not fit.  Both are structures of Thrift's compact protocol: a byte of type and distance to the field
before, then the value; few of the fields matter here.

Source: Apache Parquet format, ``parquet.thrift`` (FileMetaData, PageHeader); Apache Thrift, "Thrift compact protocol
encoding".
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from testbed.files.reading import Source

Footer = dict[int, Any]
MAX_PAGE_BYTES = 64 * 10**6
MAX_FOOTER_BYTES = 1_500_000  # 30 million rows of ours
_HEADER_BYTES = 1 << 16
_END = struct.Struct("<I4s")  # of the file: the footer's length, and PAR1
_UNPACKED, _PACKED = 2, 3  # fields of PageHeader
_ROW_GROUPS, _CHUNKS, _METADATA = 4, 1, 3  # of FileMetaData, RowGroup, ColumnChunk
_SIZE, _DATA_PAGE, _DICTIONARY_PAGE = 7, 9, 11  # of ColumnMetaData
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_MAX_NESTING = 8


def check(stream: BinaryIO, footer: Footer, column: int, source: Source, name: str) -> None:
    """Refuse a column of which a page declares more than `MAX_PAGE_BYTES`, or which does not end where it should.

    Raises:
        InputError: names the column.
    """
    try:
        for first, n_bytes in _places(footer, column):
            _walk(stream, first, n_bytes)
    except ValueError as error:
        raise source.refusal(f"the column {name[:60]}: {error}") from error


def _places(footer: Footer, column: int) -> Iterator[tuple[int, int]]:
    """Yield where the pages of a column begin in each row group, and how many bytes they take."""
    try:
        for group in footer[_ROW_GROUPS]:
            about = group[_CHUNKS][column][_METADATA]
            yield int(about.get(_DICTIONARY_PAGE, about[_DATA_PAGE])), int(about[_SIZE])
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("the footer does not say where it is") from error


def footer_of(stream: BinaryIO, source: Source) -> Footer:
    """Return the footer of a file that Arrow has opened.

    Raises:
        InputError: when it is too long, or none.
    """
    stream.seek(-_END.size, os.SEEK_END)
    n_bytes, _ = _END.unpack(stream.read(_END.size))
    if n_bytes > MAX_FOOTER_BYTES:
        raise source.refusal(f"its footer has {n_bytes:,} bytes, more than {MAX_FOOTER_BYTES:,}")
    stream.seek(-_END.size - n_bytes, os.SEEK_END)
    try:
        return _Compact(stream.read(n_bytes)).structure()
    except ValueError as error:
        raise source.refusal(f"its footer cannot be read: {error}") from error


def _walk(stream: BinaryIO, first: int, n_bytes: int) -> None:
    at, end = first, first + n_bytes
    if first < 0 or n_bytes < 0:
        raise ValueError("it begins before the file does")
    while at < end:
        stream.seek(at)
        header = _Compact(stream.read(min(_HEADER_BYTES, end - at)))
        fields = header.structure()
        unpacked, packed = (value if isinstance(value := fields.get(k, -1), int) else -1 for k in (_UNPACKED, _PACKED))
        if not (0 <= unpacked <= MAX_PAGE_BYTES and 0 <= packed <= MAX_PAGE_BYTES):
            raise ValueError(f"a page declares {unpacked:,} bytes, but has {packed:,} in the file")
        at += header.at + packed


class _Compact:
    """Reads one structure; `at` is the place behind what was read."""

    def __init__(self, content: bytes) -> None:
        self._content, self.at = content, 0

    def structure(self, nesting: int = 0) -> dict[int, Any]:
        """Return the numbers, lists and structures among the fields, by the number of the field."""
        if nesting > _MAX_NESTING:
            raise ValueError("a header nests too deeply")
        found: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._signed()
            value = self._value(head & 15, nesting)
            if value is not None:
                found[number] = value
        return found

    def _value(self, kind: int, nesting: int) -> Any:
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind in (_LIST, _SET):
            return self._list(nesting)
        if kind == _STRUCT:
            return self.structure(nesting + 1)
        if kind in (_BYTE, _DOUBLE, _BINARY):
            self._pass(1 if kind == _BYTE else 8 if kind == _DOUBLE else self._unsigned())
        elif kind not in (_TRUE, _FALSE):
            raise ValueError(f"a header has a field of kind {kind}")
        return None

    def _list(self, nesting: int) -> list[Any]:
        if nesting > _MAX_NESTING:
            raise ValueError("a header nests too deeply")
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._unsigned()
        kind = _BYTE if head & 15 in (_TRUE, _FALSE) else head & 15
        return [self._value(kind, nesting + 1) for _ in range(count)]

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _unsigned(self) -> int:
        value, shift = 0, 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a header contains a number without an end")
        return value | byte << shift

    def _byte(self) -> int:
        self._pass(1)
        return self._content[self.at - 1]

    def _pass(self, n_bytes: int) -> None:
        self.at += n_bytes
        if self.at > len(self._content):
            raise ValueError("a header continues beyond its end")
