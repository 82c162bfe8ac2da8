"""Recorded traffic for training: sums of random hosts on one slower link.

The file is an ``.npz`` with ``bytes_per_ms`` (all hosts, one after another), ``seg_len`` (milliseconds of each host)
and optionally ``seg_rack``.  What a host received was counted behind its own switch, so one host alone makes no
queue: several of one rack, summed at the same time, on a link that their mean loads to 30–90 %, do.  Time is
stretched rather than bytes shrunk: a millisecond of the record becomes 2, 5 or 10.

Training takes hosts whose position among the sorted hosts is not a multiple of `HELD_OUT`, and the first 70 % of the
time; validation takes the others, and the last 25 %.  Neither a host nor a moment is in both.  No window crosses the
end of a record.

An ``.npz`` with ``windows`` [hosts, milliseconds, columns], bytes in the first column, holds short records of different
hosts at different times.  Their sums are sums of strangers; the split is by host alone, as time has no order there.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from testbed.errors import InputError
from testbed.forecaster.data.dataset import TRAIN_STREAM, Dataset, dataset_of
from testbed.forecaster.data.generate import BITS_PER_BYTE, MS_PER_S, NodeTraffic

HELD_OUT = 4
_TRAIN_UNTIL, _VALIDATE_FROM = 0.70, 0.75
_STRETCH = (2, 5, 10)
_INTERVAL_MS = 10
_HOSTS = (4, 16)
_LOAD = (0.3, 0.9)
_MIN_MS = 800  # after stretching
_MAX_BYTES_A_MS = 10**11  # beyond any link, and far from overflow
MAX_FILE_BYTES = 256 * 10**6
_REMEDY = (
    "give an .npz with bytes_per_ms (integers, all hosts) and seg_len (milliseconds of each host), or with windows"
)
_WINDOWS = "windows"


# Data whose licence asks to be quoted where the data was used, by the beginning of the file's name.
_LICENCES = {"meta_": Path(__file__).parents[1] / "models" / "MILLISAMPLER-LICENSE.txt"}


@dataclass(frozen=True)
class HostTrace:
    """Bytes a millisecond of hosts, one array for each group (rack), [hosts, ms].

    Attributes:
        groups: of hosts.
        sha256: of the file.
        simultaneous: whether the hosts of a group were recorded at the same time.
    """

    groups: tuple[NDArray[np.int64], ...]
    sha256: str
    simultaneous: bool = True


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
            simultaneous = _WINDOWS not in archive
            flat, lengths, racks = _hosts_in(archive) if simultaneous else _windows_in(np.asarray(archive[_WINDOWS]))
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"reading the trace {path}", str(error), _REMEDY) from error
    _check(path, flat, lengths, racks)
    hosts = np.split(flat.astype(np.int64), np.cumsum(lengths)[:-1])
    return HostTrace(tuple(_groups(hosts, racks)), hashlib.sha256(raw).hexdigest(), simultaneous)


Arrays = tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic]]


def _hosts_in(archive: Mapping[str, NDArray[np.generic]]) -> Arrays:
    """Return the bytes of all hosts one after another, the length of each and its rack."""
    flat, lengths = np.asarray(archive["bytes_per_ms"]), np.asarray(archive["seg_len"])
    return flat, lengths, np.asarray(archive["seg_rack"]) if "seg_rack" in archive else np.zeros_like(lengths)


def _windows_in(windows: NDArray[np.generic]) -> Arrays:
    """Return the same of windows [hosts, milliseconds, columns], as hosts of one rack."""
    if windows.ndim != 3 or not windows.size:
        raise ValueError(f"windows has shape {windows.shape}, expected [hosts, milliseconds, columns]")
    hosts, length, _ = windows.shape
    return windows[:, :, 0].ravel(), np.full(hosts, length), np.zeros(hosts, dtype=np.int64)


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


def split_of(group: NDArray[np.int64], stream: int, simultaneous: bool = True) -> NDArray[np.int64]:
    """Return the hosts of a group, and their span of time, that belong to training or to validation."""
    held_out: NDArray[np.bool_] = np.arange(len(group)) % HELD_OUT == 0
    length = group.shape[1]
    if not simultaneous:
        return group[~held_out] if stream == TRAIN_STREAM else group[held_out]
    if stream == TRAIN_STREAM:
        return group[~held_out, : int(length * _TRAIN_UNTIL)]
    return group[held_out, int(length * _VALIDATE_FROM) :]


def trace_datasets(trace: HostTrace, samples: float, seed: int, stream: int) -> list[Dataset]:
    """Return sums of random hosts of the split, one data set of the same size for each group and stretch.

    Args:
        trace: the hosts.
        samples: about how many samples all of them have together.
        seed: of the choice of hosts and loads.
        stream: names the split.

    Raises:
        InputError: when no group is large and long enough.
    """
    sums = [(stretch, part) for part in usable_parts(trace, stream) for stretch in _STRETCH if _long(part, stretch)]
    parts = []
    for index, (stretch, part) in enumerate(sums):
        length = part.shape[1] * stretch // _INTERVAL_MS
        count = max(1, round(samples / len(sums) / length))
        name = (seed, stream, index)
        parts.append(dataset_of(host_sums(part, stretch, count, name), _INTERVAL_MS, name))
    return parts


def usable_parts(trace: HostTrace, stream: int | None) -> list[NDArray[np.int64]]:
    """Return what of each group belongs to `stream` (None: all of it), where that is enough to be summed.

    Raises:
        InputError: when no group is large and long enough.
    """
    parts = [g if stream is None else split_of(g, stream, trace.simultaneous) for g in trace.groups]
    usable = [part for part in parts if len(part) >= _HOSTS[0] and _long(part, _STRETCH[-1])]
    if not usable:
        least = _MIN_MS // _STRETCH[-1]
        raise InputError(
            "adding up the hosts of a trace", f"no group has {_HOSTS[0]} hosts of {least} ms left", _REMEDY
        )
    return usable


def _long(part: NDArray[np.int64], stretch: int) -> bool:
    return bool(part.shape[1] * stretch >= _MIN_MS)


def host_sums(hosts: NDArray[np.int64], stretch: int, series: int, seed: tuple[int, ...]) -> NodeTraffic:
    """Return sums of random hosts [hosts, ms], at random loads; times are multiplied by `stretch`."""
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
