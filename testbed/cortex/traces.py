"""Recorded traffic for training: sums of random hosts on one slower link.

The file is an ``.npz`` with ``bytes_per_ms`` (all hosts, one after another), ``seg_len`` (milliseconds of each host)
and optionally ``seg_rack``.  What a host received was counted behind its own switch, so one host alone makes no
queue: several of one rack, summed at the same time, on a link that their mean loads to 30–90 %, do.  Time is
stretched rather than bytes shrunk: a millisecond of the record becomes 2, 5 or 10.

Training takes hosts whose position among the sorted hosts is not a multiple of `HELD_OUT`, and the first 70 % of the
time; validation takes the others, and the last 25 %.  Neither a host nor a moment is in both.  No window crosses the
end of a record.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from testbed.cortex.dataset import TRAIN_STREAM, Dataset, dataset_of
from testbed.cortex.generate import BITS_PER_BYTE, MS_PER_S, NodeTraffic
from testbed.errors import InputError

HELD_OUT = 4
_TRAIN_UNTIL, _VALIDATE_FROM = 0.70, 0.75
_STRETCH = (2, 5, 10)
_INTERVAL_MS = 10
_HOSTS = (4, 16)
_LOAD = (0.3, 0.9)
_MIN_MS = 400
_MAX_BYTES_A_MS = 10**11  # beyond any link, and far from overflow
MAX_FILE_BYTES = 256 * 10**6
_REMEDY = "give an .npz with bytes_per_ms (integers, all hosts) and seg_len (milliseconds of each host)"


# Data whose licence asks to be quoted where the data was used, by the beginning of the file's name.
_LICENCES = {"meta_": Path(__file__).parent / "models" / "MILLISAMPLER-LICENSE.txt"}


@dataclass(frozen=True)
class HostTrace:
    """Bytes a millisecond of hosts recorded at the same time, one array for each group (rack), [hosts, ms]."""

    groups: tuple[NDArray[np.int64], ...]
    sha256: str


def load_host_trace(path: Path) -> HostTrace:
    """Return the hosts of `path`, those of a group cut to the shortest of them.

    Raises:
        InputError: when the file is missing, damaged, or holds something else.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"reading the trace {path}", f"it is larger than {MAX_FILE_BYTES:,} bytes", "cut it")
        raw = path.read_bytes()
        _check_unpacked(path)
        with np.load(path, allow_pickle=False) as archive:
            flat, lengths = np.asarray(archive["bytes_per_ms"]), np.asarray(archive["seg_len"])
            racks = np.asarray(archive["seg_rack"]) if "seg_rack" in archive else np.zeros_like(lengths)
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"reading the trace {path}", str(error), _REMEDY) from error
    _check(path, flat, lengths, racks)
    hosts = np.split(flat.astype(np.int64), np.cumsum(lengths)[:-1])
    return HostTrace(tuple(_groups(hosts, racks)), hashlib.sha256(raw).hexdigest())


def _check_unpacked(path: Path) -> None:
    """Refuse an archive that unpacks to more than memory should hold."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_FILE_BYTES:
        raise InputError(f"reading the trace {path}", f"it unpacks to {size:,} bytes", "cut it")


def notices_of(path: Path) -> list[str]:
    """Return the notices that a model trained on the trace at `path` must carry."""
    return [file.read_text(encoding="utf-8") for start, file in _LICENCES.items() if path.name.startswith(start)]


def _check(path: Path, flat: NDArray[np.generic], lengths: NDArray[np.generic], racks: NDArray[np.generic]) -> None:
    def refuse(happened: str) -> InputError:
        return InputError(f"reading the trace {path}", happened, _REMEDY)

    if flat.ndim != 1 or lengths.ndim != 1 or racks.shape != lengths.shape:
        raise refuse("its arrays do not have one dimension and one length a host")
    if not (np.issubdtype(flat.dtype, np.integer) and np.issubdtype(lengths.dtype, np.integer)):
        raise refuse("its arrays are not integers")
    if not len(lengths) or int(np.min(lengths)) <= 0 or int(lengths.sum()) != len(flat):
        raise refuse(f"seg_len does not add up to the {len(flat)} values of bytes_per_ms")
    if int(flat.min()) < 0:
        raise refuse("a byte count is negative")
    if int(flat.max()) > _MAX_BYTES_A_MS:
        raise refuse(f"a byte count is larger than {_MAX_BYTES_A_MS:,}")


def _groups(hosts: Sequence[NDArray[np.int64]], racks: NDArray[np.generic]) -> Iterator[NDArray[np.int64]]:
    for rack in np.unique(racks):
        members = [host for host, of in zip(hosts, racks, strict=True) if of == rack]
        shortest = min(len(member) for member in members)
        yield np.stack([member[:shortest] for member in members])


def split_of(group: NDArray[np.int64], stream: int) -> NDArray[np.int64]:
    """Return the hosts and the span of time of a group that belong to training or to validation."""
    position, length = np.arange(len(group)), group.shape[1]
    if stream == TRAIN_STREAM:
        return group[position % HELD_OUT != 0, : int(length * _TRAIN_UNTIL)]
    return group[position % HELD_OUT == 0, int(length * _VALIDATE_FROM) :]


def trace_datasets(trace: HostTrace, series: int, seed: int, stream: int) -> list[Dataset]:
    """Return about `series` sums of random hosts of the split, one data set for each group and stretch.

    Raises:
        InputError: when no group is large and long enough.
    """
    parts = [split_of(group, stream) for group in trace.groups]
    usable = [part for part in parts if len(part) >= _HOSTS[0] and part.shape[1] >= _MIN_MS]
    if not usable:
        raise InputError("training on a trace", f"no group has {_HOSTS[0]} hosts of {_MIN_MS} ms left", _REMEDY)
    each = max(1, series // (len(usable) * len(_STRETCH)))
    return [
        dataset_of(_summed(part, stretch, each, (seed, stream, index, stretch)), _INTERVAL_MS, (seed, stream, index))
        for index, part in enumerate(usable)
        for stretch in _STRETCH
    ]


def _summed(hosts: NDArray[np.int64], stretch: int, series: int, seed: tuple[int, ...]) -> NodeTraffic:
    rng = np.random.default_rng(seed)
    shape = (series, hosts.shape[1] * stretch)
    arrived = np.empty(shape, dtype=np.int64)
    rate_bps = np.empty(series, dtype=np.int64)
    for index in range(series):
        chosen = rng.choice(len(hosts), min(int(rng.integers(_HOSTS[0], _HOSTS[1] + 1)), len(hosts)), replace=False)
        total = hosts[chosen].sum(axis=0)
        arrived[index] = np.repeat(total // stretch, stretch)
        mean_bps = max(float(total.mean()), 1.0) / stretch * BITS_PER_BYTE * MS_PER_S
        rate_bps[index] = round(mean_bps / rng.uniform(*_LOAD))
    return NodeTraffic(rate_bps, arrived, np.zeros(shape, dtype=np.float32), np.full(series, np.nan))
