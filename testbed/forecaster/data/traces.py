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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from testbed.errors import InputError
from testbed.files import npz
from testbed.forecaster.data.dataset import TRAIN_STREAM, Dataset, dataset_of
from testbed.forecaster.data.generate import BITS_PER_BYTE, MS_PER_S, NodeTraffic
from testbed.traffic.trace_file import contents, refusal

HELD_OUT = 4
_TRAIN_UNTIL, _VALIDATE_FROM = 0.70, 0.75
_STRETCH = (2, 5, 10)
_INTERVAL_MS = 10
_HOSTS = (4, 16)
_LOAD = (0.3, 0.9)
_MIN_MS = 800  # after stretching
_MAX_BYTES_A_MS = 10**11  # beyond any link, and far from overflow
_MAX_VALUES = 20_000_000
_REMEDY = (
    "give an .npz with bytes_per_ms (integers, all hosts) and seg_len (milliseconds of each host), or with windows"
)
_HOSTS_KEYS, _RACKS, _WINDOWS = ("bytes_per_ms", "seg_len"), "seg_rack", "windows"


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
    return host_trace(contents(path), str(path))


def holds_hosts(content: bytes | bytearray) -> bool:
    """Tell whether a file is of hosts, damaged or not."""
    if not npz.is_npz(content):
        return False
    try:
        return bool(npz.keys(content) & {*_HOSTS_KEYS, _WINDOWS})
    except ValueError:
        return False  # the reader of the other kind reports what is wrong


def host_trace(content: bytes | bytearray, name: str) -> HostTrace:
    """Return the hosts in the unpacked content of a file; see `load_host_trace`."""
    try:
        held = npz.arrays(content, (*_HOSTS_KEYS, _RACKS, _WINDOWS))
        simultaneous = _WINDOWS not in held
        flat, lengths, racks = _hosts_in(held) if simultaneous else _windows_in(held[_WINDOWS])
        _check(flat, lengths, racks)
    except ValueError as error:
        raise refusal(name, str(error), _REMEDY) from error
    hosts = np.split(flat.astype(np.int64), np.cumsum(lengths)[:-1])
    return HostTrace(tuple(_groups(hosts, racks)), hashlib.sha256(content).hexdigest(), simultaneous)


Arrays = tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic]]


def _hosts_in(held: Mapping[str, NDArray[np.generic]]) -> Arrays:
    """Return the bytes of all hosts one after another, the length of each and its rack."""
    missing = [key for key in _HOSTS_KEYS if key not in held]
    if missing:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    lengths = held["seg_len"]
    return held["bytes_per_ms"], lengths, held.get(_RACKS, np.zeros_like(lengths))


def _windows_in(windows: NDArray[np.generic]) -> Arrays:
    """Return the same of windows [hosts, milliseconds, columns], as hosts of one rack."""
    if windows.ndim != 3 or not windows.size:
        raise ValueError(f"windows has shape {windows.shape}, expected [hosts, milliseconds, columns]")
    hosts, length, _ = windows.shape
    return windows[:, :, 0].ravel(), np.full(hosts, length), np.zeros(hosts, dtype=np.int64)


def notices_of(path: Path) -> list[str]:
    """Return the notices that a model trained on the trace at `path` must carry."""
    return [file.read_text(encoding="utf-8") for start, file in _LICENCES.items() if path.name.startswith(start)]


def _check(flat: NDArray[np.generic], lengths: NDArray[np.generic], racks: NDArray[np.generic]) -> None:
    """Raise ValueError for arrays that are not hosts one after another."""
    if flat.ndim != 1 or lengths.ndim != 1 or racks.shape != lengths.shape:
        raise ValueError("its arrays are not one-dimensional, with one length per host")
    if not all(np.issubdtype(array.dtype, np.integer) for array in (flat, lengths)):
        raise ValueError("its arrays are not integers")
    if len(flat) > _MAX_VALUES:
        raise ValueError(f"it has {len(flat):,} values, more than {_MAX_VALUES:,}")
    if not len(lengths) or int(np.min(lengths)) <= 0 or sum(lengths.tolist()) != len(flat):
        raise ValueError(f"seg_len does not add up to the {len(flat)} values of bytes_per_ms")
    if int(flat.min()) < 0:
        raise ValueError("a byte count is negative")
    if int(flat.max()) > _MAX_BYTES_A_MS:
        raise ValueError(f"a byte count is larger than {_MAX_BYTES_A_MS:,}")


def _groups(hosts: Sequence[NDArray[np.int64]], racks: NDArray[np.generic]) -> Iterator[NDArray[np.int64]]:
    by_rack: dict[object, list[NDArray[np.int64]]] = {}
    for host, rack in zip(hosts, racks.tolist(), strict=True):
        by_rack.setdefault(rack, []).append(host)
    for _, members in sorted(by_rack.items()):
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
