"""The common part of the XDP programs: loading, attaching, a consistent reading of their state.

State that packets change is read through a shared mapping, without a system call.  A program makes a sequence number
odd while it writes (``bpf/sequence.h``), so a copy made between two readings of the same even number is consistent.
Mappings survive a fork, so a program that is loaded before the agents are forked can be read and controlled by them.

A program attached through netlink belongs to the interface.  It is removed with its namespace, not with this process.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from testbed.emulation.dataplane import libbpf
from testbed.emulation.dataplane.times_map import TimesMap
from testbed.emulation.dataplane.xdp_abi import PACKET_RANGE
from testbed.errors import InputError, MachineError, ToolError
from testbed.system import places
from testbed.traffic.numbers import MAX_NUMBERS, PacketNumbers

XdpMode = Literal["native", "generic"]

_T = TypeVar("_T")
_Self = TypeVar("_Self", bound="XdpProgram")
READ_ATTEMPTS = 10_000
_NO_FALLBACK = (errno.EBUSY, errno.EEXIST, errno.EPERM, errno.ENODEV, errno.ENXIO)


NO_PACKETS = PacketNumbers(np.zeros(1, dtype=np.int64))


def within(name: str, value: int, low: int, high: int) -> int:
    """Return the value.

    Raises:
        InputError: it is out of range.
    """
    if not low <= value <= high:
        raise InputError("setting up an XDP program", f"{name} is {value}", f"it must be within {low}..{high}")
    return value


def packet_ranges(numbers: PacketNumbers) -> NDArray[np.void]:
    """Return the numbers of every flow's packets as the programs know them: `PACKET_RANGE`, shape [f].

    Raises:
        InputError: there are too many packets.
    """
    within("number of packets", numbers.total, 0, MAX_NUMBERS)
    ranges = np.zeros(len(numbers.count), PACKET_RANGE)
    ranges["first"], ranges["count"] = numbers.first, numbers.count
    return ranges


def write_ranges(loaded: libbpf.BpfObject, numbers: PacketNumbers) -> None:
    """Write the map `ranges` of a loaded object (``bpf/ranges.h``)."""
    ranges = packet_ranges(numbers).tobytes()
    with libbpf.map_array(loaded.map_fd("ranges"), len(ranges)) as mapped:
        mapped[: len(ranges)] = ranges


class XdpProgram:
    """A loaded object with one program of the same name.

    Attributes:
        name: of the object and the program.
        program_fd: descriptor of the program.
        mode: how it is attached, None before.
        native_refusal: why native mode was refused, empty when it was not.
    """

    name: str

    def __init__(self, log_directory: Path | None = None, times: TimesMap | None = None) -> None:
        """Load the program; a verifier log goes to `log_directory` if the kernel refuses it."""
        self._log_directory, self._times = log_directory, times
        self.mode: XdpMode | None = None
        self.native_refusal = ""
        self._load(locked=False)

    def _configure(self, opened: libbpf.BpfObject, locked: bool) -> None:
        """Set global data and sizes of an opened object; `locked`: it may run on several CPUs at once."""

    def _map(self) -> None:
        """Map what is read and written while packets flow."""

    def _unmap(self) -> None:
        """Undo `_map`."""

    def _load(self, locked: bool) -> None:
        opened = libbpf.BpfObject(places.bpf_object(self.name))
        try:
            self._configure(opened, locked)
            if self._times is not None:
                self._times.give(opened)
            opened.load(self._log_directory)
            if self._times is not None:
                self._times.keep(opened)
            self.program_fd = opened.program_fd(self.name)
        except BaseException:
            opened.close()
            raise
        self._object = opened
        self._map()

    def attach(self, interface: int) -> XdpMode:
        """Attach to the interface of that index in the current network namespace: natively, else in generic mode.

        In generic mode the kernel may run the program on several CPUs at once; it is then reloaded with a lock and
        fresh counters, so attach before you fork.  `native_refusal` says why it came to that.

        Raises:
            MachineError: when the interface has several receive queues, or neither mode is possible.
            ToolError: when another program is attached already, or there is no such interface.
        """
        attempted = f"attaching the XDP program {self.name} to interface {interface}"
        try:
            queues = libbpf.receive_queues(interface)
            if queues > 1:
                raise MachineError(
                    attempted,
                    f"it has {queues} receive queues, so several CPUs would run the program at once",
                    "reduce them to one: `ethtool -L INTERFACE rx 1`",
                )
            self.mode = self._attach_somehow(interface)
        except OSError as error:
            kind = ToolError if error.errno in _NO_FALLBACK else MachineError
            raise kind(attempted, error.strerror or str(error), "`ip -d link` shows what is attached") from error
        return self.mode

    def _attach_somehow(self, interface: int) -> XdpMode:
        once = libbpf.XDP_UPDATE_IF_NOEXIST
        try:
            libbpf.attach_xdp(interface, self.program_fd, once | libbpf.XDP_NATIVE_MODE)
        except OSError as error:
            if error.errno in _NO_FALLBACK:
                raise
            self.native_refusal = error.strerror or str(error)
        else:
            return "native"
        self.reload_locked()
        libbpf.attach_xdp(interface, self.program_fd, once | libbpf.XDP_GENERIC_MODE)
        return "generic"

    def reload_locked(self) -> None:
        """Reload the program with a lock: generic mode may run it on several CPUs at once.  Counters start again."""
        self.close()
        self._load(locked=True)

    def _consistently(self, sequence: memoryview, read: Callable[[], _T]) -> _T:
        """Return what `read` copied out of a mapping while the program did not write."""
        for _ in range(READ_ATTEMPTS):
            before = sequence[0]
            copy = read()
            if not before & 1 and sequence[0] == before:
                return copy
        raise ToolError(
            f"reading the state of the XDP program {self.name}",
            f"it changed during each of {READ_ATTEMPTS} reads",
            "lower the packet rate",
        )

    def run(self, packet: bytes, repeat: int = 1) -> libbpf.PacketRun:
        """Give a packet to the program without any interface (``BPF_PROG_TEST_RUN``)."""
        return libbpf.run_packet(self.program_fd, packet, repeat)

    def close(self) -> None:
        """Unmap and close; attached programs continue to run."""
        self._unmap()
        self._object.close()

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PassProgram(XdpProgram):
    """Passes everything.

    A veth end takes frames that its peer returned by XDP_TX only while it runs a program itself: attach this one to
    the switch's end of a node's link to make deflection possible in native mode.
    """

    name = "pass"
