"""libbpf through ctypes: open and load an object, find maps and programs, attach XDP, run a program on a packet.

Each function is one or two calls of libbpf whose error becomes an exception.  Both ``libbpf.so.1`` (Debian 12, Ubuntu
24.04) and ``libbpf.so.0`` (Ubuntu 22.04: 0.5) work.  Every function used exists in both, except attaching, whose name
changed in between; `_prototypes` refuses a library that lacks a function.

libbpf reports the log of the verifier through its print callback.  The callback keeps the last messages.  When a load
fails, they become part of the error and, if the caller names a directory, are written to a file.

Source: libbpf, ``libbpf.h``, ``bpf.h`` and ``libbpf.map`` (which version has which symbol); linux/ethtool.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import itertools
import mmap
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyroute2 import IPRoute

from testbed import installing
from testbed.errors import MachineError, TestbedError, ToolError

XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = range(5)
XDP_UPDATE_IF_NOEXIST, XDP_GENERIC_MODE, XDP_NATIVE_MODE = 1 << 0, 1 << 1, 1 << 2

_LIBRARIES = ("libbpf.so.1", "libbpf.so.0")
_CLEAN_POINTERS, _DIRECT_ERRORS = 1, 2  # strict mode of 0.x: the error conventions of 1.x
_LEVEL_INFO = 1
_MAX_MESSAGES = 4000
_MESSAGE_BYTES = 1 << 20  # a verifier log comes as one message
_SIOCETHTOOL, _ETHTOOL_GCHANNELS = 0x8946, 0x3C

_PRINTER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "bpf_object__open_file": (ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_void_p)),
    "bpf_object__load": (ctypes.c_int, (ctypes.c_void_p,)),
    "bpf_object__close": (None, (ctypes.c_void_p,)),
    "bpf_object__find_map_by_name": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)),
    "bpf_object__find_program_by_name": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)),
    "bpf_map__fd": (ctypes.c_int, (ctypes.c_void_p,)),
    "bpf_map__reuse_fd": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int)),
    "bpf_map__set_max_entries": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_uint32)),
    "bpf_map__set_initial_value": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t)),
    "bpf_program__fd": (ctypes.c_int, (ctypes.c_void_p,)),
    "bpf_prog_test_run_opts": (ctypes.c_int, (ctypes.c_int, ctypes.c_void_p)),
    "libbpf_set_print": (ctypes.c_void_p, (_PRINTER,)),
    "libbpf_set_strict_mode": (ctypes.c_int, (ctypes.c_uint32,)),
}


class VerifierError(ToolError):
    """The kernel refused a program.

    Attributes:
        verifier_log: everything libbpf and the verifier said.
    """

    def __init__(self, attempted: str, happened: str, remedy: str, verifier_log: str) -> None:
        self.verifier_log = verifier_log
        super().__init__(attempted, happened, remedy)


class PacketRun(NamedTuple):
    """Outcome of one packet given to a program."""

    verdict: int
    packet: bytes
    ns_per_run: int


class _RunOptions(ctypes.Structure):
    """``struct bpf_test_run_opts`` of libbpf 0.5; later versions only append fields, and `size` says we have none."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
    ]


# ------------------------------------------------------------------------------------------------------ the library

_messages: deque[str] = deque(maxlen=_MAX_MESSAGES)
_libc = ctypes.CDLL(None, use_errno=True)


def _keep_message(level: int, form: bytes, arguments: int) -> int:
    if level <= _LEVEL_INFO:
        buffer = ctypes.create_string_buffer(_MESSAGE_BYTES)
        _libc.vsnprintf(buffer, ctypes.c_size_t(_MESSAGE_BYTES), form, ctypes.c_void_p(arguments))
        _messages.append(buffer.value.decode(errors="replace"))
    return 0


_printer = _PRINTER(_keep_message)  # libbpf keeps the pointer: this must live as long as the process


def _open_library(names: tuple[str, ...] = _LIBRARIES) -> ctypes.CDLL:
    for name in names:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(name, use_errno=True)
    raise MachineError(
        "opening libbpf",
        f"neither {' nor '.join(names)} is installed",
        installing.program("libbpf"),
    )


def _prototypes(library: ctypes.CDLL) -> None:
    """Declare what we call, so that ctypes checks it."""
    for name, (result, arguments) in _PROTOTYPES.items():
        try:
            function = getattr(library, name)
        except AttributeError:
            raise MachineError("opening libbpf", f"it has no {name}", "install libbpf 0.5 or newer") from None
        function.restype, function.argtypes = result, arguments


@functools.cache
def library() -> ctypes.CDLL:
    """Return libbpf, opened once.

    Raises:
        MachineError: when it is missing or too old.
    """
    opened = _open_library()
    _prototypes(opened)
    opened.libbpf_set_strict_mode(_CLEAN_POINTERS | _DIRECT_ERRORS)
    opened.libbpf_set_print(_printer)
    return opened


@contextlib.contextmanager
def _listening() -> Iterator[deque[str]]:
    """Collect what libbpf says within the block."""
    library()
    _messages.clear()
    yield _messages


# ---------------------------------------------------------------------------------------------------------- objects


class BpfObject:
    """One compiled object file, its maps and programs.

    Between opening and `load`, the initial values of global data and the sizes of maps can be set.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            ToolError: when libbpf cannot read it.
        """
        self._name = path.name.removesuffix(".bpf.o")
        with _listening() as said:
            self._handle: int | None = library().bpf_object__open_file(os.fsencode(path), None)
            if not self._handle:
                raise ToolError(
                    f"reading the BPF object {path}", "; ".join(said).strip() or "no BPF object", installing.bpf()
                )

    def set_data(self, section: str, value: bytes) -> None:
        """Set the initial value of a section of global data, such as ``.rodata``; `value` is all of it."""
        status = library().bpf_map__set_initial_value(self._map(section), value, len(value))
        if status:
            raise ToolError(
                f"setting {section} of the BPF program {self._name}",
                os.strerror(-status),
                f"recompile it: {installing.bpf()}",
            )

    def set_max_entries(self, name: str, entries: int) -> None:
        """Set the number of entries of the map `name`."""
        status = library().bpf_map__set_max_entries(self._map(name), entries)
        if status:
            raise ToolError(f"sizing the map {name} of the BPF program {self._name}", os.strerror(-status))

    def reuse_map(self, name: str, descriptor: int) -> None:
        """Let `name` be a map that another program has made, instead of one of this program alone."""
        status = library().bpf_map__reuse_fd(self._map(name), descriptor)
        if status:
            raise ToolError(f"sharing the map {name} with the BPF program {self._name}", os.strerror(-status))

    def load(self, log_directory: Path | None = None) -> None:
        """Hand maps and programs to the kernel.

        Args:
            log_directory: where ``{name}.verifier.log`` is written when the kernel refuses.

        Raises:
            MachineError: when we may not load BPF programs.
            VerifierError: when the kernel refuses the program.
        """
        with _listening() as said:
            status = library().bpf_object__load(self._handle)
            if status:
                raise self._load_error(-status, "".join(said), log_directory)

    def _load_error(self, code: int, log: str, directory: Path | None) -> TestbedError:
        attempted = f"loading the BPF program {self._name}"
        if code == errno.EPERM:
            return MachineError(attempted, "the kernel does not permit it", "run as root, not in a confined container")
        remedy = "this kernel differs from those tested: please report the log"
        if directory is not None:
            path = directory / f"{self._name}.verifier.log"
            path.write_text(log, encoding="utf-8")
            remedy = f"the verifier's log is in {path}"
        return VerifierError(attempted, _verifier_reason(log) or os.strerror(code), remedy, log)

    def map_fd(self, name: str) -> int:
        """Return the descriptor of a map, or of the map behind a section such as ``.bss``; closed with the object."""
        return int(library().bpf_map__fd(self._map(name)))

    def program_fd(self, name: str) -> int:
        """Return the descriptor of a program; it is closed with the object."""
        program = library().bpf_object__find_program_by_name(self._handle, name.encode())
        if not program:
            raise ToolError(f"looking for the program {name} in the BPF object {self._name}", "there is none")
        return int(library().bpf_program__fd(program))

    def _map(self, name: str) -> int:
        # Sections are maps named after the object; libbpf 1.x would also know them by the section alone.
        full = f"{self._name[:8]}{name}" if name.startswith(".") else name
        found = library().bpf_object__find_map_by_name(self._handle, full.encode())
        if not found:
            raise ToolError(f"looking for the map {name} in the BPF object {self._name}", "there is none")
        return int(found)

    def close(self) -> None:
        """Close all descriptors; what is attached stays attached, what is mapped stays mapped."""
        if self._handle:
            library().bpf_object__close(self._handle)
        self._handle = None


def _verifier_reason(log: str) -> str:
    """Return the line before the verifier's summary, which says what it disliked."""
    lines = [line.strip() for line in log.splitlines()]
    for before, line in itertools.pairwise(lines):
        if line.startswith("processed ") and " insns" in line:
            return before
    return lines[-1] if lines else ""


def map_array(descriptor: int, length_bytes: int) -> mmap.mmap:
    """Map a BPF_F_MMAPABLE array into memory, shared with the kernel and with children forked later."""
    return mmap.mmap(descriptor, length_bytes, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def run_packet(program_fd: int, packet: bytes, repeat: int = 1) -> PacketRun:
    """Give `packet` to a program `repeat` times and return the last outcome and the mean time.

    Raises:
        ToolError: when the kernel refuses, as with packets larger than a page.
    """
    source = ctypes.create_string_buffer(packet, len(packet))
    target = ctypes.create_string_buffer(len(packet) + 256)
    options = _RunOptions(
        size=ctypes.sizeof(_RunOptions),
        data_in=ctypes.addressof(source),
        data_size_in=len(packet),
        data_out=ctypes.addressof(target),
        data_size_out=len(target),
        repeat=repeat,
    )
    status = library().bpf_prog_test_run_opts(program_fd, ctypes.byref(options))
    if status:
        raise ToolError(f"running a BPF program on a packet of {len(packet)} bytes", os.strerror(-status))
    return PacketRun(options.retval, target.raw[: options.data_size_out], options.duration)


# --------------------------------------------------------------------------------------------------------- interfaces


def attach_xdp(interface: int, program_fd: int, flags: int) -> None:
    """Attach a program to the interface of that index in the current network namespace (-1 detaches).

    Raises:
        OSError: with the kernel's own words where it gave any.
    """
    with _listening() as said:
        if hasattr(library(), "bpf_xdp_attach"):
            status = library().bpf_xdp_attach(interface, program_fd, flags, None)
        else:
            status = library().bpf_set_link_xdp_fd(interface, program_fd, flags)
        if status < 0:
            words = "".join(said).strip().removeprefix("libbpf: ").removeprefix("Kernel error message: ")
            raise OSError(-status, words or os.strerror(-status))


def receive_queues(interface: int) -> int:
    """Return how many receive queues an interface of the current network namespace uses."""
    name = socket.if_indextoname(interface).encode()
    channels = ctypes.create_string_buffer(struct.pack("9I", _ETHTOOL_GCHANNELS, *[0] * 8), 36)
    request = struct.pack("16sP16x", name, ctypes.addressof(channels))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        try:
            fcntl.ioctl(anything, _SIOCETHTOOL, request)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            return _allocated_queues(interface)
    _, _, _, _, _, receive, _, _, combined = struct.unpack("9I", channels.raw)
    return int(receive + combined)


def _allocated_queues(interface: int) -> int:
    """Return the queues a driver that does not speak of channels has room for."""
    with IPRoute() as netlink:
        link = netlink.get_links(interface)[0]
        return int(link.get_attr("IFLA_NUM_RX_QUEUES") or 1)
