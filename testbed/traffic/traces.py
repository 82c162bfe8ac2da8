"""Recorded traffic: reading a trace file, and replaying it as packets of one size.

Three kinds of file, recognised by their content (``trace_file.py``), packed with gzip or not:

* CSV with the header ``time_s,bytes``.  Its rows are *bins* (the bytes passed evenly between that instant and the next)
  or *bursts* (they were there at that instant), as the source says or as inferred from the times: ``bins.py``.
* NumPy's ``.npz`` with ``bytes_per_bin`` (1-D) and ``bin_s``: bins.
* A capture, pcap or pcapng: each packet is a burst of its original length (``capture.py``).

Times count from the first row.  `stretch` multiplies times, `rate_scale` multiplies bytes.  The trace is then a rising
curve of bytes over time, and packet k leaves when the curve reaches k x packet_bytes: bytes are kept to within one
packet over any span, whatever the size of the recorded packets.  The bytes of a burst leave at no more than
`BURST_LINE_BPS`, one behind the other, as a host behind a link of that rate would send them.  A trace longer than the
run is cut.  With `replay: packets` the packets of a capture leave one by one instead (``captured_packets.py``).  Bins
that end before the run does are refused: the rest would be a silence that nobody recorded.  Bursts
have no such end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from testbed.files import npz
from testbed.records.events import Floats, Ints
from testbed.scenario.sources import MIN_PACKET6_BYTES, MIN_PACKET_BYTES, RowKind, TraceSpec
from testbed.traffic import bins, capture, csv_rows
from testbed.traffic.capture_order import in_order
from testbed.traffic.captured_packets import CapturedPackets, packets_in
from testbed.traffic.pcap import is_pcap, read_pcap
from testbed.traffic.pcapng import is_pcapng, read_pcapng
from testbed.traffic.shape import Packets, check_count, spread
from testbed.traffic.trace_file import contents, refusal
from testbed.units import NS_PER_S

BURST_LINE_BPS = 10**9
MAX_ROWS = csv_rows.MAX_ROWS
_MAX_TIME_S = 1e9
_ETHERNET = 1
_MOST_HELD = 4
_BIN_TOLERANCE = 1e-3  # of the run: times are often written with few decimals
_CAPTURES = (".pcap", ".pcapng", ".cap")
_BYTES_ALONE = (
    "replay: bytes: its bytes over time, as packets of {spec.packet_bytes} bytes on {spec.flows} flows of the testbed; "
    "replay: packets keeps sizes, five-tuples and gaps"
)
_WANTED = "an .npz trace holds bytes_per_bin (1-D) and bin_s"


@dataclass(frozen=True, eq=False)
class Trace:
    """What a file holds: bytes over time.

    Attributes:
        t_s: float64 [n], seconds from the first row, ascending; the beginnings of bins or the instants of bursts.
        n_bytes: float64 [n].
        bin_s: length of the bins, which follow each other without a gap; 0.0 when the rows are bursts.
        notes: what was found out or mended, and nobody had said, each a line.
        captured: whether it is of a capture.
    """

    t_s: Floats
    n_bytes: Floats
    bin_s: float
    notes: tuple[str, ...] = ()
    captured: bool = False


def load(path: Path, rows: RowKind | None = None, bin_s: float | None = None) -> Trace:
    """Read a trace file.

    Args:
        path: the file.
        rows: what the rows of a CSV are; None: inferred from their times.
        bin_s: how long the bins of a CSV are; None: inferred from their times.

    Raises:
        InputError: names the file, and the row where there is one; for a file that is missing, too large, malformed,
            or holds nothing, no bytes, negative or infinite values, or times that decrease.
    """
    return parse(contents(path), str(path), rows, bin_s)


def parse(content: bytes | bytearray, name: str, rows: RowKind | None = None, bin_s: float | None = None) -> Trace:
    """Read a trace from the unpacked content of a file; see `load`."""
    if is_pcap(content) or is_pcapng(content):
        _refuse_declared(name, rows == "bins" or bin_s is not None, "the packets of a capture are bursts")
        trace = _of_capture(content, name)
    elif npz.is_npz(content):
        _refuse_declared(name, rows == "bursts" or bin_s is not None, "an .npz holds bins, and says how long they are")
        trace = _of_npz(content, name)
    else:
        _refuse_foreign(content, name)
        trace = _of_csv(content, name, rows, bin_s)
    if not np.any(trace.n_bytes > 0):
        raise refusal(name, "it contains no bytes", "use a trace with traffic")
    return trace


def _refuse_declared(name: str, wrong: bool, happened: str) -> None:
    if wrong:
        raise refusal(name, happened, "remove `rows` and `bin`, which are for CSV")


def _refuse_foreign(content: bytes | bytearray, name: str) -> None:
    """Refuse what is no CSV either, by the name it has: its own kind is what is expected of it."""
    found, plain = capture.foreign(content), name.lower().removesuffix(".gz")
    if found:
        raise refusal(name, f"it is {found}", "convert it: `editcap -F pcap IN OUT`")
    if content.lstrip(b"\xef\xbb\xbf").startswith(b"time_s"):
        return
    begins = f"it begins with {bytes(content[:8])!r}" if content else "it is empty"
    kind = Path(plain).suffix
    if kind in _CAPTURES:
        raise refusal(name, f"{begins}, unlike a pcap or pcapng file", capture.CHECK_IT)
    if kind == ".npz":
        raise refusal(name, f"{begins}, unlike an .npz file", _WANTED)
    if kind != ".csv":
        happened = f"unknown kind {kind or 'without an ending'}: {begins}"
        raise refusal(name, happened, f"known are .csv, .npz, {', '.join(_CAPTURES)}, optionally compressed with gzip")


class TraceFiles:
    """Reads the traces of a scenario; each once, for as long as this lives and a few others do not push it out."""

    def __init__(self, base_dir: Path) -> None:
        """Read paths relative to `base_dir`, the folder of the scenario."""
        self._base_dir, self._load = base_dir, lru_cache(maxsize=_MOST_HELD)(load)
        self._captured = lru_cache(maxsize=_MOST_HELD)(load_packets)

    def for_run(self, spec: TraceSpec, duration_ns: int) -> Trace:
        """Return the trace of a source, for a run of that length.

        Raises:
            InputError: as `load`, and for bins that end before the run does.
        """
        path = self._base_dir / spec.trace
        trace = self._load(path, spec.rows, None if spec.bin_ns is None else spec.bin_ns / NS_PER_S)
        lasts_s = (float(trace.t_s[-1]) + trace.bin_s) * spec.stretch
        if trace.bin_s and lasts_s < (duration_ns / NS_PER_S) * (1 - _BIN_TOLERANCE):
            happened = f"it ends after {lasts_s:g} s, the run after {duration_ns / NS_PER_S:g}"
            raise refusal(str(path), happened, "shorten the duration, or raise the source's stretch")
        return trace

    def captured(self, spec: TraceSpec) -> CapturedPackets:
        """Return the packets of the capture of a source.

        Raises:
            InputError: it is no capture of Ethernet frames, or holds one that is longer than the source's `packet`.
        """
        path = self._base_dir / spec.trace
        found = self._captured(path)
        found.refuse_longer(spec.packet_bytes, str(path))
        return found

    def notes(self, spec: TraceSpec, duration_ns: int) -> tuple[str, ...]:
        """Return what was found out or mended in the trace of a source, and how a capture is replayed, a line each."""
        if spec.replay == "packets":
            found = self.captured(spec)
            return (*found.notes, *found.words(least_bytes(spec), spec.flows))
        trace = self.for_run(spec, duration_ns)
        return (*trace.notes, *([_BYTES_ALONE.format(spec=spec)] if trace.captured else []))


def load_packets(path: Path) -> CapturedPackets:
    """Read the packets of a capture, with the five-tuple of each; see `load`."""
    content = contents(path)
    if not (is_pcap(content) or is_pcapng(content)):
        raise refusal(str(path), "it is not a capture", "replay: packets is for pcap and pcapng; remove it")
    found, notes = in_order(capture_in(content, str(path)), str(path))
    return packets_in(content, found, notes, str(path))


def least_bytes(spec: TraceSpec) -> int:
    """Return how long a planned frame is at least: headers and the testbed's own mark."""
    return MIN_PACKET_BYTES if spec.ip == 4 else MIN_PACKET6_BYTES


def replay_packets(spec: TraceSpec, found: CapturedPackets, duration_ns: int) -> Packets:
    """Return the packets of a capture one by one: when, of which flow, how long."""
    t_ns = np.rint(np.minimum(found.t_ns * spec.stretch, _MAX_TIME_S * NS_PER_S)).astype(np.int64)
    count = int(np.searchsorted(t_ns, duration_ns))
    check_count(spec, count)
    size_bytes = np.maximum(found.n_bytes[:count], least_bytes(spec))
    return Packets(t_ns[:count], found.tuple_of[:count].astype(np.int64) % spec.flows, size_bytes)


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


# ------------------------------------------------------------------------------------------------------- the kinds


def _of_csv(content: bytes | bytearray, name: str, kind: RowKind | None, bin_s: float | None) -> Trace:
    t_s, n_bytes = csv_rows.read_csv(content, name)
    if not len(t_s):
        raise refusal(name, "it has no rows", "add at least one")
    _refuse_where(name, ~np.isfinite(t_s), "the time is not a finite number")
    _refuse_bytes(name, n_bytes)
    _refuse_where(name, np.diff(t_s, prepend=-np.inf) < 0, "the time goes back", "sort the rows by time")
    with np.errstate(over="ignore"):
        span_s = t_s[-1] - t_s[0]
    if span_s > _MAX_TIME_S:
        raise refusal(name, f"it spans {span_s:.3g} s", "expected times in seconds")
    rows = bins.meaning_of(t_s, kind, bin_s, name)
    notes = (rows.note,) if rows.note else ()
    if not rows.bin_s:
        return Trace(t_s - t_s[0], n_bytes, 0.0, notes)
    return replace(_of_bins(np.bincount(rows.place, n_bytes).astype(np.float64), rows.bin_s), notes=notes)


def _of_bins(n_bytes: Floats, bin_s: float) -> Trace:
    return Trace(np.arange(len(n_bytes), dtype=np.float64) * bin_s, n_bytes, bin_s)


def _refuse_bytes(name: str, n_bytes: Floats) -> None:
    _refuse_where(name, ~np.isfinite(n_bytes), "the number of bytes is not a finite number")
    _refuse_where(name, n_bytes < 0, "the number of bytes is negative")


def _refuse_where(name: str, bad: NDArray[np.bool_], happened: str, remedy: str = "correct the row") -> None:
    """Refuse the first row that is bad; rows count from 1, as they stand in the file without its header."""
    if bad.any():
        raise refusal(name, f"row {int(np.argmax(bad)) + 1}: {happened}", remedy)


def _of_npz(content: bytes | bytearray, name: str) -> Trace:
    try:
        held = npz.arrays(content, ("bytes_per_bin", "bin_s"))
    except ValueError as error:
        raise refusal(name, f"it cannot be read ({error})", _WANTED) from error
    missing = {"bytes_per_bin", "bin_s"} - held.keys()
    if missing:
        raise refusal(name, f"it has no {' and no '.join(sorted(missing))}", _WANTED)
    n_bytes, length = held["bytes_per_bin"], held["bin_s"]
    if n_bytes.ndim != 1 or length.size != 1:
        raise refusal(name, f"bytes_per_bin has shape {n_bytes.shape}, bin_s {length.shape}", _WANTED)
    if not 0 < (bin_s := float(length.reshape(-1)[0])) <= _MAX_TIME_S:
        raise refusal(name, f"bin_s is {bin_s:g}", "give the length of a bin in seconds")
    if len(n_bytes) > MAX_ROWS:
        raise refusal(name, f"more than {MAX_ROWS:,} rows", "shorten it or use larger bins")
    if not len(n_bytes):
        raise refusal(name, "it has no rows", "add at least one")
    _refuse_bytes(name, values := n_bytes.astype(np.float64))
    return _of_bins(values, bin_s)


def capture_in(content: bytes | bytearray, name: str) -> capture.Capture:
    """Return the packets of a capture of either format, in the order of the file."""
    return read_pcap(content, name) if is_pcap(content) else read_pcapng(content, name)


def _of_capture(content: bytes | bytearray, name: str) -> Trace:
    found, notes = in_order(capture_in(content, name), name)
    others = sorted(found.link_types - {_ETHERNET})
    if others:
        types = ", ".join(map(str, others))
        notes = (*notes, f"its frames are not all Ethernet (link type {types}); their lengths count as recorded")
    return Trace((found.t_ns - found.t_ns[0]) / NS_PER_S, found.n_bytes.astype(np.float64), 0.0, notes, True)
