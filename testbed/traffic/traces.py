"""Recorded traffic: reading a trace file, and replaying it as packets of one size.

Three kinds of file, told by their ending:

* ``.csv`` with the header ``time_s,bytes``.  Three rows or more at equal distances are *bins*: the bytes passed evenly
  between that instant and the next.  Otherwise each row is a *burst* that was there at that instant.
* ``.npz`` with ``bytes_per_bin`` (1-D) and ``bin_s``: bins.
* ``.pcap``, ``.pcapng``, ``.cap``: each packet is a burst of its length on the wire.

Times count from the first row.  `stretch` multiplies times, `rate_scale` multiplies bytes.  The trace is then a rising
curve of bytes over time, and packet k leaves when the curve reaches k x packet_bytes: bytes are kept to within one
packet over any span, whatever the size of the recorded packets.  The bytes of a burst leave at no more than
`BURST_LINE_BPS`, one behind the other, as a host behind a link of that rate would send them.  A trace longer than the
run is cut.  Bins that end before the run does are refused: the rest would be a silence that nobody recorded.  Bursts
have no such end.
"""

from __future__ import annotations

import contextlib
import io
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from scapy.error import Scapy_Exception
from scapy.utils import RawPcapNgReader, RawPcapReader

from testbed.errors import InputError
from testbed.events import Floats, Ints
from testbed.spec.scenario import TraceSpec
from testbed.traffic.shapes import Packets, check_count, spread
from testbed.units import NS_PER_S

BURST_LINE_BPS = 10**9
MAX_FILE_BYTES = 256 * 10**6
MAX_ROWS = 5_000_000
_MAX_TIME_S = 1e9
_CSV_HEADER = "time_s,bytes"
_PCAP_RECORD_BYTES = 16
_BIN_TOLERANCE = 1e-3  # of a bin: times are often written with few decimals


@dataclass(frozen=True, eq=False)
class Trace:
    """What a file holds: bytes over time.

    Attributes:
        t_s: float64 [n], seconds from the first row, ascending; the beginnings of bins or the instants of bursts.
        n_bytes: float64 [n].
        bin_s: length of the bins, 0.0 when the rows are bursts.
    """

    t_s: Floats
    n_bytes: Floats
    bin_s: float


def load(path: Path) -> Trace:
    """Read a trace file.

    Raises:
        InputError: names the file, and the row where there is one; for a file that is missing, too large, malformed,
            or holds nothing, no bytes, negative or infinite values, or times that go back.
    """
    readers = {".csv": _read_csv, ".npz": _read_npz, ".pcap": _read_pcap, ".pcapng": _read_pcap, ".cap": _read_pcap}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise _refusal(path, f"unknown kind {path.suffix or 'without an ending'}", f"known are {', '.join(readers)}")
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise _refusal(path, f"{size:,} bytes are more than {MAX_FILE_BYTES:,}", "cut it")
        return _checked(path, reader(path))
    except OSError as error:
        raise _refusal(path, error.strerror or str(error), "paths are relative to the scenario file") from error


def for_run(spec: TraceSpec, base_dir: Path, duration_ns: int) -> Trace:
    """Read the trace of a source, relative to `base_dir`, for a run of that length.

    Raises:
        InputError: as `load`, and for bins that end before the run does.
    """
    path = base_dir / spec.trace
    trace = load(path)
    lasts_s = (float(trace.t_s[-1]) + trace.bin_s) * spec.stretch
    if trace.bin_s and lasts_s < (duration_ns / NS_PER_S) * (1 - _BIN_TOLERANCE):
        happened = f"it ends after {lasts_s:g} s, the run after {duration_ns / NS_PER_S:g}"
        raise _refusal(path, happened, "shorten the duration, or raise the source's stretch")
    return trace


def replay(spec: TraceSpec, trace: Trace, duration_ns: int, seed: int) -> Packets:
    """Return the packets of a trace, scaled and stretched as the source says."""
    check_count(spec, float(np.sum(trace.n_bytes)) * spec.rate_scale / spec.packet_bytes)
    start_ns = np.rint(np.minimum(trace.t_s * spec.stretch, _MAX_TIME_S) * NS_PER_S).astype(np.int64)
    total = np.cumsum(trace.n_bytes * spec.rate_scale)
    reached = np.arange(1, int(total[-1] // spec.packet_bytes) + 1, dtype=np.int64) * spec.packet_bytes
    row = np.searchsorted(total, reached)
    if trace.bin_s:
        t_ns = _within_bins(start_ns, total, row, reached, trace.bin_s * spec.stretch)
    else:
        t_ns = _behind_each_other(start_ns[row], spec.packet_bytes * 8 * NS_PER_S // BURST_LINE_BPS)
    return spread(spec, t_ns[: np.searchsorted(t_ns, duration_ns)], seed)


def _within_bins(start_ns: Ints, total: Floats, row: Ints, reached: Ints, bin_s: float) -> Ints:
    """Return when the rising curve of bytes passes `reached`, straight within each bin."""
    before = np.concatenate(([0.0], total))[row]
    part = (reached - before) / (total[row] - before)
    into_ns = np.floor(part * (min(bin_s, _MAX_TIME_S) * NS_PER_S)).astype(np.int64)
    return np.maximum.accumulate(start_ns[row] + into_ns)  # rounding of bin borders must not turn time back


def _behind_each_other(ready_ns: Ints, gap_ns: int) -> Ints:
    """Return departures of a FIFO line that sends a packet each `gap_ns`: Lindley's recursion as a running maximum."""
    line_ns = np.arange(len(ready_ns), dtype=np.int64) * gap_ns
    return np.maximum.accumulate(ready_ns - line_ns) + line_ns


def _refusal(path: Path, happened: str, remedy: str) -> InputError:
    return InputError(f"reading the trace {path}", happened, remedy)


def _checked(path: Path, trace: Trace) -> Trace:
    """Refuse values that are no traffic; rows count from 1, as they stand in the file without its header."""
    if not len(trace.t_s):
        raise _refusal(path, "it has no rows", "give it at least one")
    for values, what in ((trace.t_s, "time"), (trace.n_bytes, "number of bytes")):
        _refuse_where(path, ~np.isfinite(values), f"the {what} is no finite number")
    _refuse_where(path, trace.n_bytes < 0, "the number of bytes is negative")
    _refuse_where(path, np.diff(trace.t_s, prepend=-np.inf) < 0, "the time goes back")
    if not np.any(trace.n_bytes > 0):
        raise _refusal(path, "it carries no bytes", "use a trace with traffic")
    t_s = trace.t_s - trace.t_s[0]
    if t_s[-1] > _MAX_TIME_S:
        raise _refusal(path, f"it spans {t_s[-1]:.3g} s", "times are in seconds; give times in seconds")
    return Trace(t_s, trace.n_bytes, trace.bin_s)


def _refuse_where(path: Path, bad: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], happened: str) -> None:
    if bad.any():
        raise _refusal(path, f"row {int(np.argmax(bad)) + 1}: {happened}", "correct the row")


# ------------------------------------------------------------------------------------------------------- the kinds


def _read_csv(path: Path) -> Trace:
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise _refusal(path, "it is no text", f"a CSV trace begins with {_CSV_HEADER!r}") from error
    if not lines or lines[0].replace(" ", "") != _CSV_HEADER:
        found = repr(lines[0][:60]) if lines else "nothing"
        raise _refusal(path, f"its first line is {found}", f"a CSV trace begins with {_CSV_HEADER!r}")
    rows = lines[1:]
    _check_rows(path, len(rows))
    values = _numbers(path, rows)
    return Trace(values[:, 0], values[:, 1], _bin_of(values[:, 0]))


def _numbers(path: Path, rows: list[str]) -> Floats:
    """Return the rows as float64 [n, 2]."""
    if not rows:
        return np.zeros((0, 2))
    with contextlib.suppress(ValueError):
        values: Floats = np.loadtxt(io.StringIO("\n".join(rows)), delimiter=",", comments=None, ndmin=2)
        if values.shape == (len(rows), 2):  # a blank line is skipped, and would put every later row off by one
            return values
    number = next((number for number, row in enumerate(rows) if not _is_pair(row)), 0)
    happened = f"row {number + 1}: {rows[number][:60]!r} is not two numbers"
    raise _refusal(path, happened, f"each row is {_CSV_HEADER}")


def _is_pair(row: str) -> bool:
    try:
        return len([float(part) for part in row.split(",")]) == 2
    except ValueError:
        return False


def _bin_of(t_s: Floats) -> float:
    """Return the common distance of the rows, 0.0 when they have none."""
    if len(t_s) < 3:
        return 0.0
    bin_s = float(t_s[-1] - t_s[0]) / (len(t_s) - 1)
    equal = np.all(np.abs(np.diff(t_s) - bin_s) <= _BIN_TOLERANCE * bin_s)  # NaN is not equal, and refused later
    return bin_s if equal and bin_s > 0 else 0.0


def _read_npz(path: Path) -> Trace:
    wanted = "an .npz trace holds bytes_per_bin (1-D) and bin_s"
    try:
        _check_unpacked(path)
        with np.load(path, allow_pickle=False) as held:
            missing = {"bytes_per_bin", "bin_s"} - set(held.files)
            if missing:
                raise _refusal(path, f"it has no {' and no '.join(sorted(missing))}", wanted)
            # Complex numbers, which NumPy would cut to their real part with a warning, do not cast.
            n_bytes, bin_s = (held[key].astype(np.float64, casting="same_kind") for key in ("bytes_per_bin", "bin_s"))
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise _refusal(path, f"it cannot be read ({error})", wanted) from error
    if n_bytes.ndim != 1 or bin_s.size != 1:
        raise _refusal(path, f"bytes_per_bin has shape {n_bytes.shape}, bin_s {bin_s.shape}", wanted)
    length_s = float(bin_s.reshape(-1)[0])
    if not 0 < length_s <= _MAX_TIME_S:
        raise _refusal(path, f"bin_s is {length_s:g}", "give the length of a bin in seconds")
    _check_rows(path, len(n_bytes))
    return Trace(np.arange(len(n_bytes), dtype=np.float64) * length_s, n_bytes, length_s)


def _check_unpacked(path: Path) -> None:
    """Refuse an archive that unpacks to more than memory should hold."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_FILE_BYTES:
        raise _refusal(path, f"it unpacks to {size:,} bytes, more than {MAX_FILE_BYTES:,}", "cut it")


def _check_rows(path: Path, count: int) -> None:
    if count > MAX_ROWS:
        raise _refusal(path, f"more than {MAX_ROWS:,} rows", "cut it or use larger bins")


def _read_pcap(path: Path) -> Trace:
    t_s: list[float] = []
    n_bytes: list[int] = []
    try:
        with path.open("rb") as file, RawPcapReader(cast(Any, file)) as reader:
            for when, length in _frames_of(reader):
                _check_rows(path, len(t_s))
                t_s.append(when)
                n_bytes.append(length)
    except (Scapy_Exception, EOFError, ValueError, TypeError, AttributeError) as error:
        raise _refusal(path, f"row {len(t_s) + 1} cannot be read ({error})", "check it with `capinfos`") from error
    return Trace(np.array(t_s, np.float64), np.array(n_bytes, np.float64), 0.0)


def _frames_of(reader: RawPcapReader) -> Iterable[tuple[float, int]]:
    """Yield the time in seconds from the first record, exact to the nanosecond, and the length on the wire."""
    first_ns: int | None = None
    whole = reader.f.tell()
    for _, meta in cast(Any, reader):  # annotated as if it returned packets
        if isinstance(reader, RawPcapNgReader):
            now_ns = ((meta.tshigh << 32) + meta.tslow) * NS_PER_S // int(meta.tsresol)
        else:
            whole += _PCAP_RECORD_BYTES + meta.caplen
            now_ns = meta.sec * NS_PER_S + (meta.usec if reader.nano else meta.usec * 1000)
        first_ns = now_ns if first_ns is None else first_ns
        yield (now_ns - first_ns) / NS_PER_S, meta.wirelen
    # Scapy takes a record that is cut off for the end of the file; a trace that lost its tail is another trace
    complete = _ends_with_a_block(reader) if isinstance(reader, RawPcapNgReader) else reader.f.tell() == whole
    if not complete:
        raise ValueError("the file is cut off within it")


def _ends_with_a_block(reader: RawPcapNgReader) -> bool:
    """Whether the last four bytes are the length of a block that begins so far before the end."""
    end = reader.f.tell()
    reader.f.seek(max(0, end - 4))
    (length,) = struct.unpack(reader.endian + "I", reader.f.read(4))
    if not 12 <= length <= end:
        return False
    reader.f.seek(end - length + 4)
    return bool(struct.unpack(reader.endian + "I", reader.f.read(4))[0] == length)
