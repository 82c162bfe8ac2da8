"""JSON from elsewhere: plain data within bounds, or a refusal that says where.

Beyond what the format asks (RFC 8259, which leaves all of this open): a name given twice is refused, as readers differ
in which value they take; so are numbers that are not finite or do not fit 64 bits, letters that are half of a pair of
surrogates (nothing could print them), and nesting beyond `MAX_DEPTH`, on which whoever walks the data could run out of
stack.

**Time and memory.**  A name takes up to 1.4 us, an object of one name 8 bytes of text and 30 times as many of memory;
a number that has to be looked at takes 0.8 us, a plain one a tenth of that.  So names and brackets are counted before
anything is built, and commas as well where numbers are to be looked at: 16 MB take less than 2 s and 1 GB, whatever
they hold.
"""

from __future__ import annotations

import gc
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.files.reading import Source

MAX_BYTES = 16 * 10**6
MAX_LINE_BYTES = 4 * 10**6
MAX_DEPTH = 32
MAX_NAMES = 10**6  # with lists and objects; the evidence of 100 nodes has some 10,000
MAX_CAREFUL = 1_500_000  # names, lists, objects and values, where a number may be too large
_MAX_DIGITS = 20  # of a number of 64 bits, with its sign
_MAYBE_TOO_LARGE = re.compile(rb"[0-9]{19}|[eE][-+]?[0-9]{3}")
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(content: bytes, source: Source, where: str = "") -> Any:
    """Return the value a JSON text holds.

    Args:
        content: the text.
        source: the file it is of, for errors.
        where: the place in the file, such as ``line 3``; empty: all of it.

    Raises:
        InputError: when it is no JSON or beyond the bounds of this module.
    """
    place = f"{where} " if where else ""
    try:
        careful = _MAYBE_TOO_LARGE.search(content) is not None
        _check_structure(content, careful)
        decoder = _CAREFUL if careful else _USUAL
        with _no_collection():
            value = decoder.decode(content.decode("utf-8"))
        if _HALF_PAIR.search(content):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise source.refusal(f"{place}is not UTF-8 text (byte {error.start})".strip()) from error
    except UnicodeEncodeError as error:
        raise source.refusal(f"{place}contains half of a surrogate pair".strip()) from error
    except (ValueError, RecursionError) as error:
        raise source.refusal(f"{place or 'it '}is not valid JSON: {error}") from error
    return value


def read(source: Source, most_bytes: int = MAX_BYTES) -> Any:
    """Return the value in a file; raises as `parse` and `Source.read`."""
    return parse(source.read(most_bytes), source)


def read_object(source: Source, most_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Return the object in a file.

    Raises:
        InputError: as `read`, and when it holds another kind of value.
    """
    return _object(read(source, most_bytes), source, "it")


def read_lines(source: Source) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Yield number, object and length in bytes of each line; a last one that a kill cut off is left out.

    Raises:
        InputError: when the file cannot be read, or a line is no object or longer than `MAX_LINE_BYTES`.
    """
    with source.open() as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise source.refusal(f"line {number} is longer than {MAX_LINE_BYTES:,} bytes")
            if not line.endswith(b"\n"):
                return
            where = f"line {number}"
            yield number, _object(parse(line, source, where), source, where), len(line)


def _object(value: Any, source: Source, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise source.refusal(f"{what} contains no JSON object")
    return value


def _check_structure(content: bytes, careful: bool) -> None:
    """Refuse deep nesting and too many values before anything is built: later is no good place to say so."""
    brackets = content.count(b"[") + content.count(b"{")
    if brackets <= MAX_DEPTH and len(content) <= MAX_NAMES:
        return
    text = np.frombuffer(content.replace(b"\\\\", b"  ").replace(b'\\"', b"  "), np.uint8)
    in_string = np.cumsum(text == ord('"'), dtype=np.uint8) & 1  # an odd number of quotes before; 256 is even
    outside = in_string.view(np.bool_) ^ True
    _check_count(text, outside, "[{:", MAX_NAMES)
    if careful:
        _check_count(text, outside, "[{:,", MAX_CAREFUL)
    _check_depth(text, outside)


def _check_count(text: NDArray[np.uint8], outside: NDArray[np.bool_], signs: str, most: int) -> None:
    found = np.count_nonzero(np.isin(np.arange(256), list(signs.encode()))[text] & outside) if len(text) > most else 0
    if found > most:
        what = "names, lists and objects" if "," not in signs else "names and values, of which some may be too large"
        raise ValueError(f"it contains {found:,} {what}, more than {most:,}")


def _check_depth(text: NDArray[np.uint8], outside: NDArray[np.bool_]) -> None:
    upper = text | 0x20  # [ and { are then one letter, and so are ] and }
    steps = ((upper == ord("{")).view(np.int8) - (upper == ord("}")).view(np.int8)) * outside.view(np.int8)
    too_deep = np.cumsum(steps, dtype=np.int32) > MAX_DEPTH
    if too_deep.any():
        raise ValueError(f"it nests deeper than {MAX_DEPTH} levels (byte {int(np.argmax(too_deep))})")


def _whole(text: str) -> int:
    if len(text) > _MAX_DIGITS or not -(2**63) <= (value := int(text)) < 2**63:
        raise ValueError(f"the number {text[:24]}{'…' * (len(text) > 24)} does not fit into 64 bits")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {text[:24]} is out of range")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {name[:80]!r} is given twice")
    return found


# To look at each number takes longer than all else, and only one of many digits can be too large.
_USUAL = json.JSONDecoder(parse_constant=_no_number, object_pairs_hook=_unique)
_CAREFUL = json.JSONDecoder(parse_int=_whole, parse_float=_finite, parse_constant=_no_number, object_pairs_hook=_unique)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Hold off the collector, which would look through all that was built so far again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
