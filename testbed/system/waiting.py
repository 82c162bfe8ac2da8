"""Waiting for descriptors, to the microsecond and whatever their numbers.

`select.select` cannot wait for a descriptor above 1023, which a trial of some hundred nodes has, and Python's `poll`
and `epoll` round the time up to a millisecond, which is a tenth of a heartbeat.  ppoll(2) does neither.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from testbed.units import NS_PER_S

_POLLIN = 1


class _Watched(ctypes.Structure):
    _fields_ = (("descriptor", ctypes.c_int), ("wanted", ctypes.c_short), ("got", ctypes.c_short))


class _Time(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


_libc = ctypes.CDLL(None, use_errno=True)


def readable(descriptors: Sequence[int], within_ns: int) -> list[int]:
    """Return those that can be read, or whose other end is gone, as soon as there are any.

    Args:
        descriptors: file descriptors; with none this is a sleep that a signal ends.
        within_ns: how long to wait at most; then, and when a signal was handled meanwhile, there are none.

    Raises:
        OSError: what the kernel refuses.
    """
    watched = (_Watched * len(descriptors))(*(_Watched(descriptor, _POLLIN, 0) for descriptor in descriptors))
    limit = _Time(*divmod(max(0, within_ns), NS_PER_S))
    if not _ppoll(watched, limit):
        return []
    return [entry.descriptor for entry in watched if entry.got]


def _ppoll(watched: ctypes.Array[_Watched], limit: _Time) -> bool:
    """Return whether something can be read."""
    found = int(_libc.ppoll(ctypes.byref(watched), ctypes.c_ulong(len(watched)), ctypes.byref(limit), None))
    number = ctypes.get_errno()
    if found < 0 and number != 4:  # EINTR: a handler ran
        raise OSError(number, f"ppoll: {os.strerror(number)}")
    return found > 0
