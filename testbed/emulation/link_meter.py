"""Counts the frames that the switch gives to a link, and cuts it (``bpf/link.bpf.c``)."""

from __future__ import annotations

import socket
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError

from testbed import places
from testbed.emulation import libbpf
from testbed.emulation.xdp_abi import LINK_MEMORY
from testbed.errors import MachineError

_NAME = "link"
_CLSACT = 0xFFFF0000
_CLSACT_PARENT = 0xFFFFFFF1
_EGRESS = 0xFFFFFFF3


class LinkMeter:
    """The meter of one interface; it ends with the interface."""

    def __init__(self, interface: str, log_directory: Path | None = None) -> None:
        """Load the program and put it before what `interface`, of the current network namespace, sends.

        Raises:
            MachineError: this kernel has no classifier for BPF.
        """
        self._object = libbpf.BpfObject(places.bpf_object(_NAME))
        self._object.load(log_directory)
        self._memory = libbpf.map_array(self._object.map_fd(".bss"), LINK_MEMORY.itemsize)
        self._words = memoryview(self._memory).cast("Q")
        try:
            self._attach(interface)
        except NetlinkError as error:
            attempted = f"counting what {interface} is given"
            remedy = "boot a kernel with cls_bpf and clsact, as distributions have"
            raise MachineError(attempted, f"this kernel takes no BPF classifier ({error})", remedy) from error

    def _attach(self, interface: str) -> None:
        with IPRoute() as netlink:
            index = socket.if_nametoindex(interface)
            netlink.tc("add", "clsact", index=index, parent=_CLSACT_PARENT, handle=_CLSACT)
            fd = self._object.program_fd(_NAME)
            netlink.tc("add-filter", "bpf", index=index, parent=_EGRESS, fd=fd, name=_NAME, direct_action=True)

    def given_pkts(self) -> int:
        """Return how many frames it was given so far."""
        return int(self._words[0])

    def cut(self, cut: bool) -> None:
        """Let frames go nowhere from now on, still counted; or let them pass again."""
        self._words[1] = int(cut)

    def close(self) -> None:
        """Unmap and close; what is attached goes on."""
        self._words.release()
        self._memory.close()
        self._object.close()
