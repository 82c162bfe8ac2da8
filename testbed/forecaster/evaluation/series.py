"""Which series an evaluation judges: those of trace files, sums of recorded hosts, generated ones.

A file of several segments is a set of its own; files of one series make up one set together, and so does a folder with
all that lies in it.  What in a folder cannot be judged is left out and counted; a file that was named is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from testbed.errors import InputError
from testbed.forecaster.data.arrivals import Series, at_rate, read_series, summed
from testbed.forecaster.data.dataset import VALIDATION_STREAM
from testbed.forecaster.data.generate import TrafficProfile, generate
from testbed.forecaster.data.traces import host_sums, load_host_trace, usable_parts
from testbed.forecaster.evaluation.config import EvaluateConfig
from testbed.forecaster.evaluation.rolling import LEAST_SAMPLES
from testbed.forecaster.runtime.artefact import Model

_GENERATED_SERIES, _GENERATED_SAMPLES, _GENERATED_STREAM = 24, 2000, 0xE7A1
_SUMS, _SUM_STREAM, _SUM_STRETCH = 24, 0x5035, 10

LENGTHS = (4000, 2000, 1000, 500, 250, LEAST_SAMPLES)  # samples, where series are cut

Set = tuple[str, list[Series], int]  # name, series, how many were left out


def all_sets(config: EvaluateConfig, model: Model, note: Callable[[str], None] = lambda _: None) -> list[Set]:
    """Return everything that `config` asks to judge; generated series where it names nothing.

    Raises:
        InputError: names the file or folder that cannot be judged and why.
    """
    sets = trace_sets(config, note) if config.traces else []
    sets += sum_sets(config, model)
    if config.generated or not sets:
        sets += [(f"generated, {kind}", generated(kind, config), 0) for kind in ("announced", "unannounced")]
    return sets


def trace_sets(config: EvaluateConfig, note: Callable[[str], None] = lambda _: None) -> list[Set]:
    """Return the series of the trace files, added up where `config` says so; `note` gets what was found out.

    Raises:
        InputError: names the file that cannot be judged and why.
    """
    folders = [path for path in config.traces if path.is_dir()]
    by_file = {path: _read(path, config, note) for path in config.traces if path not in folders}
    within = {folder: _within(folder, config, note) for folder in folders}
    if config.add_up:
        total = summed([one for series in (*by_file.values(), *within.values()) for one in series])
        return [(total.name, _usable([total], config), 0)]
    found = [(path.name, series) for path, series in by_file.items() if len(series) > 1]
    single = [series[0] for series in by_file.values() if len(series) == 1]
    if single:
        name = single[0].name if len(single) == 1 else f"{len(single)} traces"
        found.append((name, single))
    found += [(folder.name, series) for folder, series in within.items()]
    sets = [(name, series, _usable(series, config)) for name, series in found]
    return [(name, usable, len(series) - len(usable)) for name, series, usable in sets]


def _within(folder: Path, config: EvaluateConfig, note: Callable[[str], None]) -> list[Series]:
    """Return the series of all files in a folder and below that are traces."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    found: list[Series] = []
    refused: list[str] = []
    for path in files:
        try:
            found += _read(path, config, lambda _: None)
        except InputError as error:
            refused.append(f"{path.name}: {error.happened}")
    if not found:
        happened = f"none of its {len(files)} files is a trace" + (f" ({refused[0]})" if refused else "")
        raise InputError(f"evaluating the traces in {folder}", happened, "give a folder of CSV, npz or pcap files")
    if refused:
        note(f"{folder.name}: {len(refused)} of {len(files)} files are left out, the first one {refused[0]}")
    return found


def _read(path: Path, config: EvaluateConfig, note: Callable[[str], None]) -> list[Series]:
    series = read_series(path, config.stretch, config.interval_ms, config.rows, config.bin_s)
    for line in series[0].notes:
        note(f"{path.name}: {line}")
    return series


def sum_sets(config: EvaluateConfig, model: Model) -> list[Set]:
    """Return, for each file of hosts, sums of random hosts that `model` was not trained on.

    Of a file that the model learnt from, only the hosts and the time held out of training are used (`traces`); the
    name of the set says which it is.

    Raises:
        InputError: when a file cannot be read or has too few hosts.
    """
    return [_sum_set(path, config, model) for path in config.sums]


def _sum_set(path: Path, config: EvaluateConfig, model: Model) -> Set:
    trace = load_host_trace(path)
    known = trace.sha256 in model.manifest["training"]["data_sha256"].values()
    stretch = max(1, round(_SUM_STRETCH * config.stretch))
    parts = usable_parts(trace, VALIDATION_STREAM if known else None)
    each = max(1, -(-_SUMS // len(parts)))
    seed = (config.seed, _SUM_STREAM)
    traffic = [host_sums(part, stretch, each, (*seed, index)) for index, part in enumerate(parts)]
    name = f"sums of {'held-out' if known else 'unseen'} hosts of {path.name}, stretched by {stretch}"
    rows = [row for one in traffic for row in zip(one.arrived_bytes, one.rate_bps, strict=True)]
    series = [Series(f"sum {number}", arrived.astype(np.float64)) for number, (arrived, _) in enumerate(rows)]
    rated = [at_rate(one, int(rate)) for one, (_, rate) in zip(series, rows, strict=True) if one.mean_bps > 0]
    return name, rated, 0


def _usable(series: Sequence[Series], config: EvaluateConfig) -> list[Series]:
    """Return the series that carry bytes and are long enough, at their rates; the set says how many are left out."""
    least_ms = LEAST_SAMPLES * config.interval_ms
    kept = [_cut(one, config.interval_ms) for one in series] if config.cut else series
    busy = [one for one in kept if one.mean_bps > 0]
    usable = [at_rate(one, config.rate_bps) for one in busy if len(one.arrived_bytes) >= least_ms]
    if usable:
        return usable
    attempted = f"evaluating {series[0].name}" + (" and others" if len(series) > 1 else "")
    if not busy:
        raise InputError(attempted, "it contains no bytes", "use a trace with traffic")
    longest = max(len(one.arrived_bytes) for one in busy)
    happened = f"{longest} ms are too short: {LEAST_SAMPLES} samples of {config.interval_ms} ms are the least"
    raise InputError(attempted, happened, f"--stretch {least_ms / longest * config.stretch:.3g} or a finer --interval")


def _cut(series: Series, interval_ms: int) -> Series:
    """Return the beginning of a series, of the greatest of `LENGTHS` that it has."""
    bins = next((n * interval_ms for n in LENGTHS if n * interval_ms <= len(series.arrived_bytes)), None)
    return dataclasses.replace(series, arrived_bytes=series.arrived_bytes[:bins])


def generated(kind: str, config: EvaluateConfig) -> list[Series]:
    """Return generated series: bursts all announced by ramps of at least 0.3 of the peak, or none."""
    share = 1.0 if kind == "announced" else 0.0
    profile = TrafficProfile(precursor_share=share, strength=(0.3, 1.0), false_ramp_share=0.25 * share)
    bins = _GENERATED_SAMPLES * config.interval_ms
    seed = (config.seed, _GENERATED_STREAM, int(share))
    traffic = generate(profile, _GENERATED_SERIES, bins, seed, config.interval_ms / 10)
    rows = range(_GENERATED_SERIES)
    ramps = traffic.announced if share and traffic.announced is not None else [None] * _GENERATED_SERIES
    made = [
        Series(f"{kind} {row}", traffic.arrived_bytes[row].astype(np.float64), 0.0, traffic.new_flows[row], ramps[row])
        for row in rows
    ]
    return [at_rate(one, int(rate)) for one, rate in zip(made, traffic.rate_bps, strict=True) if one.mean_bps > 0]
