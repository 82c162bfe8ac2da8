"""Counts the frames that the switch sends on a link, and cuts the link (``bpf/link.bpf.c``)."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
from pyroute2 import IPRoute, NetlinkError

from testbed.emulation.dataplane import libbpf
from testbed.emulation.dataplane.xdp_abi import LINK_CONFIG, LINK_MEMORY
from testbed.emulation.dataplane.xdp_program import NO_PACKETS, write_ranges
from testbed.errors import MachineError
from testbed.system import places
from testbed.traffic.numbers import PacketNumbers, Words

_NAME = "link"
_CLSACT = 0xFFFF0000
_CLSACT_PARENT = 0xFFFFFFF1
_EGRESS = 0xFFFFFFF3


class LinkMeter:
    """The meter of one interface; it ends with the interface."""

    def __init__(
        self,
        interface: str,
        run: int = 0,
        numbers: PacketNumbers = NO_PACKETS,
        log_directory: Path | None = None,
    ) -> None:
        """Load the program and put it before what `interface`, of the current network namespace, sends.

        Args:
            interface: the link's near end.
            run: number of the run whose packets are noted one by one when the link is cut.
            numbers: of those packets.
            log_directory: where the verifier's log goes if the kernel refuses the program.

        Raises:
            MachineError: this kernel has no classifier for BPF.
        """
        self._object = libbpf.BpfObject(places.bpf_object(_NAME))
        config = np.zeros((), LINK_CONFIG)
        config["run"] = run
        self._object.set_data(".rodata", config.tobytes())
        self._object.set_max_entries("ranges", len(numbers.count))
        self._object.set_max_entries("swallowed", numbers.words)
        self._object.load(log_directory)
        write_ranges(self._object, numbers)
        self._swallowed = libbpf.map_array(self._object.map_fd("swallowed"), 8 * numbers.words)
        self._set_bytes = 8 * numbers.words
        self._memory = libbpf.map_array(self._object.map_fd(".bss"), LINK_MEMORY.itemsize)
        self._words = memoryview(self._memory).cast("Q")
        try:
            self._attach(interface)
        except NetlinkError as error:
            attempted = f"counting the packets sent to {interface}"
            remedy = "boot a kernel with cls_bpf and clsact, as distributions have"
            raise MachineError(attempted, f"this kernel does not accept a BPF classifier ({error})", remedy) from error

    def _attach(self, interface: str) -> None:
        with IPRoute() as netlink:
            index = socket.if_nametoindex(interface)
            netlink.tc("add", "clsact", index=index, parent=_CLSACT_PARENT, handle=_CLSACT)
            fd = self._object.program_fd(_NAME)
            netlink.tc("add-filter", "bpf", index=index, parent=_EGRESS, fd=fd, name=_NAME, direct_action=True)

    def given_pkts(self) -> int:
        """Return how many frames it was given so far."""
        return int(self._words[0])

    def passed_pkts(self) -> int:
        """Return how many of them went on their way."""
        while True:
            given, swallowed = self._words[0], self._words[2]
            if self._words[0] == given:
                return int(given - swallowed)

    def cut_pkts(self) -> int:
        """Return how many of them went nowhere."""
        return int(self._words[2])

    def cut_planned_pkts(self) -> int:
        """Return how many packets of the plan went nowhere."""
        return int(self._words[3])

    def swallowed(self) -> Words:
        """Return the set of those packets."""
        return np.frombuffer(self._swallowed[: self._set_bytes], np.uint64)

    def cut(self, cut: bool) -> None:
        """Let frames go nowhere from now on, still counted; or let them pass again."""
        self._words[1] = int(cut)

    def close(self) -> None:
        """Unmap and close; attached programs continue to run."""
        self._words.release()
        self._swallowed.close()
        self._memory.close()
        self._object.close()
