"""The same map of many BPF programs in one contiguous range of addresses, so that one array covers all of them.

    reserved:  | map of n1 ... | map of n2 ... | map of n3 ... |        mmap(2) with MAP_FIXED, one after the other

A program makes a sequence number odd while it writes (``bpf/sequence.h``).  `consistently` copies all maps at once, and
then copies again those that were written meanwhile; at ordinary packet rates these are few.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from testbed.emulation.dataplane.xdp_program import READ_ATTEMPTS
from testbed.errors import ToolError
from testbed.records.events import Ints

_Copies = TypeVar("_Copies", bound=tuple[Ints, ...])
_MAP_FIXED = 0x10
_PROT_NONE = 0
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)


class StackedMaps:
    """Maps of one layout, read only.  They stay mapped as long as the process lives.

    Attributes:
        words: all of them: int64, shape [n, words of a map].
    """

    def __init__(self, descriptors: Sequence[int], length_bytes: int) -> None:
        """Map `length_bytes` of each map (BPF_F_MMAPABLE)."""
        stride = -(-length_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
        base = _map(None, stride * len(descriptors), _PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1)
        for place, descriptor in enumerate(descriptors):
            _map(base + place * stride, stride, mmap.PROT_READ, mmap.MAP_SHARED | _MAP_FIXED, descriptor)
        memory = (ctypes.c_char * (stride * len(descriptors))).from_address(base)
        self.words: Ints = np.frombuffer(memoryview(memory), dtype=np.int64).reshape(len(descriptors), -1)
        self._sequence = self.words[:, 0]

    def consistently(self, copy: Callable[[int | slice], _Copies]) -> _Copies:
        """Return what `copy` copies of all maps (a slice) or of one (its row), all of a map of one instant.

        Raises:
            ToolError: a map changed during every look.
        """
        before = self._sequence.copy()
        copies = copy(slice(None))
        torn = (before & 1) | (before != self._sequence)
        if np.count_nonzero(torn):
            for row in np.flatnonzero(torn).tolist():
                for copied, again in zip(copies, self._one(copy, row), strict=True):
                    copied[row] = again
        return copies

    def _one(self, copy: Callable[[int | slice], _Copies], row: int) -> _Copies:
        for _ in range(READ_ATTEMPTS):
            before = int(self._sequence[row])
            copies = copy(row)
            if not before & 1 and self._sequence[row] == before:
                return copies
        happened = f"it changed during each of {READ_ATTEMPTS} reads"
        raise ToolError("reading the state of an XDP program", happened, "lower the packet rate")


def _map(address: int | None, length: int, protection: int, flags: int, descriptor: int) -> int:
    mapped = _mmap(address, length, protection, flags, descriptor, 0)
    if mapped is None or mapped == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, f"mapping BPF maps: {os.strerror(number)}")
    return int(mapped)
