"""The rows of a CSV trace: two numbers each, behind the header ``time_s,bytes``.

Rows count from 1, as they stand in the file without its header.  They are read in portions, so that a file of any
content takes little more memory than its numbers.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np

from testbed.records.events import Floats
from testbed.traffic.trace_file import refusal

HEADER = "time_s,bytes"
MAX_ROWS = 5_000_000
_AT_ONCE = 50_000
_LONGEST_ROW_CHARS = 200


def read_csv(content: bytes | bytearray, name: str) -> tuple[Floats, Floats]:
    """Return times and bytes as they stand in the file, float64 [n] each.

    Raises:
        InputError: names the row that is not two numbers.
    """
    file = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig")
    try:
        _check_header(file.readline(_LONGEST_ROW_CHARS).rstrip("\r\n"), name)
        parts = list(_portions(file, name))
    except UnicodeDecodeError as error:
        raise refusal(name, "it is not a text file", f"a CSV trace begins with {HEADER!r}") from error
    rows = np.concatenate(parts) if parts else np.zeros((0, 2))
    return rows[:, 0], rows[:, 1]


def _check_header(line: str, name: str) -> None:
    if line.replace(" ", "") != HEADER:
        found = repr(line[:60]) if line else "nothing"
        raise refusal(name, f"its first line is {found}", f"a CSV trace begins with {HEADER!r}")


def _portions(file: io.TextIOWrapper, name: str) -> Iterator[Floats]:
    lines = iter(partial(file.readline, _LONGEST_ROW_CHARS + 1), "")
    count = 0
    while rows := list(islice(lines, _AT_ONCE)):
        whole = next((number for number, row in enumerate(rows) if row.isspace()), len(rows))
        if whole < len(rows) and any(not row.isspace() for row in (*rows[whole:], *lines)):
            raise _not_two_numbers(name, count + whole + 1, "")
        if count + whole > MAX_ROWS:
            raise refusal(name, f"more than {MAX_ROWS:,} rows", "shorten it or use larger bins")
        if whole:
            yield _numbers(rows[:whole], count, name)
        count += whole


def _numbers(rows: list[str], before: int, name: str) -> Floats:
    """Return rows as float64 [n, 2]; `before` stand above them."""
    if max(map(len, rows)) <= _LONGEST_ROW_CHARS:
        with contextlib.suppress(ValueError):
            return _loaded(rows)
    for number, row in enumerate(rows, start=before + 1):
        try:
            _loaded([row[:_LONGEST_ROW_CHARS]])
        except ValueError:
            raise _not_two_numbers(name, number, row.rstrip("\r\n")) from None
    long = next(number for number, row in enumerate(rows) if len(row) > _LONGEST_ROW_CHARS)
    raise _not_two_numbers(name, before + long + 1, rows[long])


def _loaded(rows: list[str]) -> Floats:
    values: Floats = np.loadtxt(rows, delimiter=",", comments=None, ndmin=2)
    if values.shape != (len(rows), 2):
        raise ValueError("not two numbers a row")
    return values


def _not_two_numbers(name: str, number: int, row: str) -> Exception:
    return refusal(name, f"row {number}: {row[:60]!r} is not two numbers", f"each row is {HEADER}")
