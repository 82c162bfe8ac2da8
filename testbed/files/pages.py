"""What the pages of a Parquet file declare, read before Arrow unpacks one.

Arrow makes room for as many bytes as a page's header says, so a few bytes in a damaged one take gigabytes.  Headers are
structures of Thrift's compact protocol: a byte of type and distance to the field before, then the value; three of the
fields matter here, the others are passed over.

Source: Apache Parquet format, ``parquet.thrift`` (PageHeader); Apache Thrift, "Thrift compact protocol encoding".
"""

from __future__ import annotations

from typing import Any, BinaryIO

from testbed.files.reading import Source

MAX_PAGE_BYTES = 64 * 10**6
_HEADER_BYTES = 1 << 16
_UNPACKED, _PACKED = 2, 3  # fields of PageHeader
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_MAX_NESTING = 8


def check(stream: BinaryIO, metadata: Any, column: int, source: Source) -> None:
    """Refuse a column of which a page declares more than `MAX_PAGE_BYTES`, or which does not end where it should.

    Raises:
        InputError: names the column.
    """
    for k in range(metadata.num_row_groups):
        chunk = metadata.row_group(k).column(column)
        first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        try:
            _walk(stream, first, chunk.total_compressed_size)
        except ValueError as error:
            raise source.refusal(f"the column {str(chunk.path_in_schema)[:60]}: {error}") from error


def _walk(stream: BinaryIO, first: int, n_bytes: int) -> None:
    at, end = first, first + n_bytes
    if first < 0 or n_bytes < 0:
        raise ValueError("it begins before the file does")
    while at < end:
        stream.seek(at)
        header = _Header(stream.read(min(_HEADER_BYTES, end - at)))
        fields = header.structure()
        unpacked, packed = fields.get(_UNPACKED, -1), fields.get(_PACKED, -1)
        if not (0 <= unpacked <= MAX_PAGE_BYTES and 0 <= packed <= MAX_PAGE_BYTES):
            raise ValueError(f"a page declares {unpacked:,} bytes, {packed:,} in the file")
        at += header.at + packed


class _Header:
    """Reads one structure; `at` is the place behind what was read."""

    def __init__(self, content: bytes) -> None:
        self._content, self.at = content, 0

    def structure(self, nesting: int = 0) -> dict[int, int]:
        """Return the whole numbers among the fields, by the number of the field."""
        if nesting > _MAX_NESTING:
            raise ValueError("a page's header nests too deeply")
        found: dict[int, int] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._signed()
            value = self._value(head & 15, nesting)
            if value is not None:
                found[number] = value
        return found

    def _value(self, kind: int, nesting: int) -> int | None:
        if kind in (_I16, _I32, _I64):
            return self._signed()
        if kind in (_BYTE, _DOUBLE, _BINARY):
            self._pass(1 if kind == _BYTE else 8 if kind == _DOUBLE else self._unsigned())
        elif kind in (_LIST, _SET):
            self._list(nesting)
        elif kind == _STRUCT:
            self.structure(nesting + 1)
        elif kind not in (_TRUE, _FALSE):
            raise ValueError(f"a page's header has a field of kind {kind}")
        return None

    def _list(self, nesting: int) -> None:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._unsigned()
        for _ in range(count):
            self._value(_BYTE if head & 15 in (_TRUE, _FALSE) else head & 15, nesting)

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _unsigned(self) -> int:
        value, shift = 0, 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a page's header holds a number without an end")
        return value | byte << shift

    def _byte(self) -> int:
        self._pass(1)
        return self._content[self.at - 1]

    def _pass(self, n_bytes: int) -> None:
        self.at += n_bytes
        if self.at > len(self._content):
            raise ValueError("a page's header goes on beyond its end")
