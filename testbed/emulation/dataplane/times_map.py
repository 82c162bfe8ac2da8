"""When each planned packet was seen at a node and a sink: the map that a run's programs share (``bpf/times.h``)."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from testbed.emulation.dataplane import libbpf
from testbed.emulation.dataplane.xdp_abi import PACKET_TIME

_NAME = "times"


class TimesMap:
    """The map of the packets of a run; the first program that is loaded makes it, the others are given it."""

    def __init__(self, packets: int) -> None:
        """Prepare for so many packets."""
        self._packets = packets
        self._descriptor: int | None = None

    def give(self, opened: libbpf.BpfObject) -> None:
        """Let a program that is not loaded yet use it."""
        if self._descriptor is None:
            opened.set_max_entries(_NAME, self._packets)
        else:
            opened.reuse_map(_NAME, self._descriptor)

    def keep(self, loaded: libbpf.BpfObject) -> None:
        """Take it from the first program that is loaded; it outlives that program."""
        if self._descriptor is None:
            self._descriptor = os.dup(loaded.map_fd(_NAME))

    def read(self) -> NDArray[np.void]:
        """Return a copy: `PACKET_TIME`, shape [packets], in the order of their numbers."""
        assert self._descriptor is not None
        length = PACKET_TIME.itemsize * self._packets
        with libbpf.map_array(self._descriptor, length) as memory:
            return np.frombuffer(memory[:length], PACKET_TIME)
