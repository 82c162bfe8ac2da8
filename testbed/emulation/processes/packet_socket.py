"""A packet socket and the structures of ``sendmmsg``: many frames in one system call.

Source: packet(7), sendmmsg(2); PACKET_QDISC_BYPASS in Documentation/networking/packet_mmap.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket

import numpy as np
from numpy.typing import NDArray

from testbed.errors import MachineError, ToolError
from testbed.traffic.frames import FrameSet

_SEND_BUFFER_BYTES = 8 * 10**6
_SOL_PACKET, _PACKET_QDISC_BYPASS, _SO_SNDBUFFORCE = 263, 20, 32

# struct mmsghdr of 64-bit Linux: a msghdr of 56 bytes and the length that was sent
_MMSGHDR = np.dtype(
    {
        "names": ["name", "namelen", "iov", "iovlen", "control", "controllen", "flags", "sent"],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)
_libc = ctypes.CDLL(None, use_errno=True)
sendmmsg = _libc.sendmmsg
sendmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)
sendmmsg.restype = ctypes.c_int


def message_headers(frames: FrameSet) -> tuple[NDArray[np.uint64], NDArray[np.void]]:
    """Return the iovec pairs, uint64 [n, 2, 2], and the mmsghdr array [n] that points at them."""
    n = len(frames)
    row = np.arange(n, dtype=np.uint64)
    iovecs = np.empty((n, 2, 2), np.uint64)
    width = frames.headers.shape[1]
    iovecs[:, 0, 0] = row * np.uint64(width) + np.uint64(frames.headers.ctypes.data)
    iovecs[:, 0, 0] += (width - frames.header_bytes).astype(np.uint64)
    iovecs[:, 0, 1] = frames.header_bytes
    iovecs[:, 1, 0] = frames.padding.ctypes.data
    iovecs[:, 1, 1] = frames.size_bytes - frames.header_bytes
    messages = np.zeros(n, _MMSGHDR)
    messages["iov"] = row * np.uint64(32) + np.uint64(iovecs.ctypes.data)
    messages["iovlen"] = 2
    return iovecs, messages


def packet_socket(interface: str, past_qdisc: bool) -> socket.socket:
    """Return a packet socket that sends, past the queueing discipline or through it, and receives nothing."""
    attempted = f"opening a packet socket on {interface}"
    try:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError as error:
        raise MachineError(attempted, "not permitted", "run as root") from error
    try:
        raw.bind((interface, 0))
        raw.setsockopt(_SOL_PACKET, _PACKET_QDISC_BYPASS, int(past_qdisc))
        with contextlib.suppress(PermissionError):
            raw.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER_BYTES)
    except OSError as error:
        raw.close()
        raise ToolError(attempted, error.strerror or str(error), "check the interface and its namespace") from error
    return raw
