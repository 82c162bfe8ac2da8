"""From trace files to the series an evaluation runs over: bytes a millisecond at a node.

A trace of bins is laid on the grid of milliseconds along its rising curve of bytes; the rows of a trace of bursts
(CSV without equal distances, pcap) leave behind one another on a line of `BURST_LINE_BPS` (ten times the mean rate,
where that is more), as `traffic/traces.py` replays them.  An ``.npz`` with ``bytes_per_ms`` and ``seg_len`` gives one
series a segment, so no window crosses the end of a record.

What a trace was recorded on is not its business here: the rate of the node that serves it is a parameter.  Left out,
it is what the mean load fills to `USUAL_LOAD`.  All series are then scaled to one rate, `REFERENCE_BPS`: only ratios
to the rate matter to forecasts and queues, and a link of 100 kbit/s does not drown in the rounding to whole kB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from testbed.errors import InputError
from testbed.forecaster.data.traces import holds_hosts, host_trace
from testbed.policies import fluid
from testbed.records.events import Floats, Ints
from testbed.scenario.sources import RowKind
from testbed.traffic.trace_file import contents
from testbed.traffic.traces import BURST_LINE_BPS, Trace, parse
from testbed.units import NS_PER_MS

USUAL_LOAD = 0.6
REFERENCE_BPS = 10**9
MAX_MS = 3_600_000
_MS_PER_S = 1000.0
_MAX_BYTES = 1e15  # beyond any hour of any link; keeps sums exact in float64
_LINE_OVER_MEAN = 10.0


@dataclass(frozen=True, eq=False)
class Series:
    """What arrives at one node.

    Attributes:
        name: file and segment.
        arrived_bytes: a millisecond, float64 [bins], at `rate_bps`.
        rate_bps: at which the node serves.
        new_flows: expected first packets of flows a millisecond, [bins]; None where the trace does not have them.
        announced: whether a precursor is in progress, bool [bins]; None where nobody knows.
        notes: what the reader of the file found out.
    """

    name: str
    arrived_bytes: Floats
    rate_bps: float = 0.0
    new_flows: Floats | None = None
    announced: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None = None
    notes: tuple[str, ...] = ()

    @property
    def mean_bps(self) -> float:
        """Return the mean rate of the arrivals."""
        return float(self.arrived_bytes.mean()) * 8 * _MS_PER_S


def read_series(
    path: Path, stretch: float, interval_ms: int, rows: RowKind | None = None, bin_s: float | None = None
) -> list[Series]:
    """Return the series of a trace file, in the order of the file.

    Args:
        path: of a trace (``testbed/traffic/traces.py``) or of hosts (`traces`).
        stretch: times are multiplied by it, above 0.
        interval_ms: between samples; bins must not be longer.
        rows: what the rows of a CSV are.
        bin_s: how long the bins of a CSV are.

    Raises:
        InputError: names the file and what is wrong with it.
    """
    content = contents(path)
    if holds_hosts(content):
        hosts = [row for group in host_trace(content, str(path)).groups for row in group]
        traces = [Trace(np.arange(len(row)) / _MS_PER_S, row.astype(np.float64), 1 / _MS_PER_S) for row in hosts]
    else:
        traces = [parse(content, str(path), rows, bin_s)]
    names = [path.name] if len(traces) == 1 else [f"{path.name}[{index}]" for index in range(len(traces))]
    named = zip(names, traces, strict=True)
    return [Series(name, _per_ms(path, trace, stretch, interval_ms), notes=trace.notes) for name, trace in named]


def _refusal(path: Path, happened: str, remedy: str) -> InputError:
    return InputError(f"evaluating the trace {path}", happened, remedy)


def _per_ms(path: Path, trace: Trace, stretch: float, interval_ms: int) -> Floats:
    if float(trace.n_bytes.sum()) > _MAX_BYTES:
        raise _refusal(path, f"it carries {trace.n_bytes.sum():.3g} bytes", f"at most {_MAX_BYTES:.0e} are evaluated")
    bin_ms = trace.bin_s * stretch * _MS_PER_S
    if bin_ms > interval_ms * (1 + 1e-9):
        happened = f"its bins of {bin_ms:g} ms are longer than a sample interval of {interval_ms} ms"
        fitting = f"--stretch {stretch * interval_ms / bin_ms:.3g} makes one bin per sample"
        raise _refusal(path, happened, f"{fitting}, since forecasts do not depend on absolute time")
    start_ms = trace.t_s * stretch * _MS_PER_S
    span_ms = float(start_ms[-1]) + bin_ms
    if span_ms > MAX_MS:
        raise _refusal(path, f"it spans {span_ms / _MS_PER_S:,.0f} s", f"cut it to {MAX_MS / _MS_PER_S:,.0f} s")
    return _binned(start_ms, bin_ms, trace.n_bytes) if trace.bin_s else _paced(start_ms, trace.n_bytes)


def _binned(start_ms: Floats, bin_ms: float, n_bytes: Floats) -> Floats:
    """Return the bytes of bins on the grid of milliseconds, along the straight curve within each bin."""
    edges = np.append(start_ms, start_ms[-1] + bin_ms)
    curve = np.concatenate(([0.0], np.cumsum(n_bytes)))
    grid = np.arange(max(1, int(np.ceil(edges[-1] - 1e-6))) + 1, dtype=np.float64)
    return np.asarray(np.maximum(np.diff(np.interp(grid, edges, curve)), 0.0))


def _paced(start_ms: Floats, n_bytes: Floats) -> Floats:
    """Return the bytes a millisecond of bursts that leave one behind another on a line."""
    ready = np.bincount(start_ms.astype(np.int64), weights=n_bytes)
    line = max(BURST_LINE_BPS / 8 / _MS_PER_S, _LINE_OVER_MEAN * float(ready.mean()))
    waiting = fluid.backlog_path(ready[None], np.array([line]), np.zeros(1))[0]
    left = ready - np.diff(waiting, prepend=0.0)
    return np.asarray(np.maximum(np.append(left, [line] * int(waiting[-1] // line) + [waiting[-1] % line]), 0.0))


def summed(series: Sequence[Series]) -> Series:
    """Return the sum of several series over the time that all of them cover."""
    shortest = min(len(one.arrived_bytes) for one in series)
    total = np.sum([one.arrived_bytes[:shortest] for one in series], axis=0)
    return Series(f"sum of {len(series)} series", total)


def at_rate(series: Series, rate_bps: int | None) -> Series:
    """Return the series with the rate that serves it, given or `USUAL_LOAD`, and its bytes at `REFERENCE_BPS`."""
    rate = float(rate_bps) if rate_bps else max(series.mean_bps / USUAL_LOAD, 1.0)
    scaled = series.arrived_bytes * (REFERENCE_BPS / rate)
    return Series(series.name, scaled, rate, series.new_flows, series.announced)


def whole(arrived: Floats) -> Ints:
    """Return whole bytes with the sums of `arrived` [..., bins] kept to one byte."""
    return np.diff(np.rint(np.cumsum(arrived, axis=-1)), axis=-1, prepend=0.0).astype(np.int64)


def reference_unit(interval_ms: int) -> float:
    """Return the bytes served in a sample interval at `REFERENCE_BPS`."""
    return float(fluid.service_bytes(np.array(REFERENCE_BPS), interval_ms * NS_PER_MS))
