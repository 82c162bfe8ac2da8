"""What a run does to the kernel, tried once on a small scale; each refusal is kept in the kernel's words.

Versions lie: kernels are configured, containers confined, distributions backport.  Everything is tried in a separate
process, ``python -m testbed.system.kernel_probes PROCESSES``, most of it in new namespaces; when it ends, the kernel
takes everything with it.

Source: linux/bpf.h for the commands and the layout of ``union bpf_attr``; linux/if_tun.h for those of a tap.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from testbed.system import probes

_KINDS = {"mount": 0x20000, "UTS": 0x4000000, "IPC": 0x8000000, "network": 0x40000000}
_CLONE_NEWPID = 0x20000000
_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_SYS_PIDFD_GETFD = 438
_BPF_MAP_CREATE, _BPF_PROG_LOAD, _BPF_LINK_CREATE = 0, 5, 28
_BPF_MAP_TYPE_ARRAY, _BPF_PROG_TYPE_XDP, _BPF_ATTACH_XDP = 2, 6, 37
_BPF_F_MMAPABLE = 1 << 10
_XDP_DRV_MODE = 1 << 2
_MOV_R0_XDP_PASS = struct.pack("<BBhi", 0xB7, 0, 0, 2)
_EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)
_MS_REC_PRIVATE = 0x4000 | 1 << 18
_TUNSETIFF, _IFF_TAP_NO_PI = 0x400454CA, 0x1002
_PRIORITY = 12  # the highest a run asks for
_REAL_TIME_S = 2.0
_SMALL_STACK_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1
_PRIVATE_FOLDER = Path("/run")

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


# ---------------------------------------------------------------------------------------------------------- BPF


def _bpf(operation: int, attributes: bytes) -> int:
    """Do one bpf(2) call and return its file descriptor."""
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of the bpf call on {platform.machine()} is not known")
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    return _checked("bpf", int(_libc.syscall(number, operation, buffer, 128)))


def _load_xdp() -> int:
    """Load the shortest XDP program there is, XDP_PASS, and return its descriptor."""
    code = ctypes.create_string_buffer(_MOV_R0_XDP_PASS + _EXIT)
    licence = ctypes.create_string_buffer(b"GPL")
    return _bpf(
        _BPF_PROG_LOAD,
        struct.pack("=IIQQ", _BPF_PROG_TYPE_XDP, 2, ctypes.addressof(code), ctypes.addressof(licence)),
    )


def _try_bpf() -> None:
    """Create the kind of map a limit lives in and load an XDP program."""
    os.close(_bpf(_BPF_MAP_CREATE, struct.pack("=IIIII", _BPF_MAP_TYPE_ARRAY, 4, 8, 1, _BPF_F_MMAPABLE)))
    os.close(_load_xdp())


def _try_native_xdp() -> None:
    """Attach an XDP program to an interface in native mode and let go of it."""
    program = _load_xdp()
    try:
        index = socket.if_nametoindex("probe0")
        os.close(_bpf(_BPF_LINK_CREATE, struct.pack("=IIII", program, index, _BPF_ATTACH_XDP, _XDP_DRV_MODE)))
    finally:
        os.close(program)


# ----------------------------------------------------------------------------------------------------- processes


def _in_child(attempt: Callable[[], None], limit_s: float) -> None:
    """Make an attempt in a child that may take `limit_s`; raise what it raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, _reason(attempt).encode())
        os._exit(0)
    os.close(writing)
    if not _ended(child, limit_s):
        os.sched_setscheduler(child, os.SCHED_OTHER, os.sched_param(0))  # else it might never get to its end
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise OSError(errno.ETIME, f"it did not get {limit_s:g} s of processor time")
    with os.fdopen(reading, "rb") as told:
        refusal = told.read().decode()
    if refusal:
        raise OSError(errno.EPERM, refusal)


def _ended(child: int, limit_s: float) -> bool:
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if os.waitpid(child, os.WNOHANG)[0]:
            return True
        time.sleep(0.001)
    return False


def _be_real_time() -> None:
    """Take a fixed priority, and do something with it."""
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    sum(range(10_000))


def _try_borrowing() -> None:
    """Get a descriptor of another process, as the sockets of the switch are got."""
    child = os.fork()
    if child == 0:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pause()
    try:
        pidfd = os.pidfd_open(child)
        os.close(_checked("pidfd_getfd", int(_libc.syscall(_SYS_PIDFD_GETFD, pidfd, 0, 0))))
        os.close(pidfd)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _try_processes(count: int) -> None:
    """Have `count` more threads at once: to the kernel's limits they are what processes are, and cost less to make."""
    threading.stack_size(_SMALL_STACK_BYTES)
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(count)]
    started = 0
    try:
        for thread in threads:
            thread.start()
            started += 1
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, f"{count} are needed, but only {started} could be started") from error
    finally:
        end.set()
        for thread in threads[:started]:
            thread.join()


def _try_raw_socket() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()


def _try_terminal() -> None:
    for end in os.openpty():
        os.close(end)


# ---------------------------------------------------------------------------------------------------- namespaces


def _try_namespaces() -> None:
    """Leave for new namespaces, one kind after the other."""
    for kind, flag in _KINDS.items():
        _unshare(kind, flag)


def _unshare(kind: str, flag: int) -> None:
    try:
        _checked("unshare", _libc.unshare(flag))
    except OSError as error:
        words = f"{kind} namespace: {error.strerror}"
        if error.errno == errno.ENOSPC:  # not the disk: a limit of their number
            words = f"{kind} namespace: the limit is reached (sysctl user.max_*_namespaces)"
        raise OSError(error.errno, words) from error


def _mount(kind: str, target: str, flags: int = 0) -> None:
    result = _libc.mount(b"none", target.encode(), kind.encode(), ctypes.c_ulong(flags), b"")
    _checked(f"mounting {kind or 'flags'} on {target}", result)


def _try_mounts() -> None:
    _mount("", "/", _MS_REC_PRIVATE)
    _mount("sysfs", "/sys")
    _mount("tmpfs", "/run")


def _try_pid_namespace() -> None:
    """Go where the first child is PID 1, and let it mount its /proc; after it this process can start no other."""
    _unshare("PID", _CLONE_NEWPID)
    _in_child(lambda: _mount("proc", "/proc"), _REAL_TIME_S)


# ------------------------------------------------------------------------------------------------------- network


def _tc(*arguments: str) -> None:
    probes.command("tc", "qdisc", "add", "dev", "probe0", "root", *arguments)
    probes.command("tc", "qdisc", "del", "dev", "probe0", "root")


def _try_veth() -> None:
    probes.command("ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1")


def _try_tap() -> None:
    """Make the kind of interface that the switch has for itself."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", b"probe2", _IFF_TAP_NO_PI))
    finally:
        os.close(tap)


_IN_OWN_NETWORK: dict[str, Callable[[], None]] = {
    "raw_sockets": _try_raw_socket,
    "veth": _try_veth,
    "native_xdp": _try_native_xdp,
    "tbf": lambda: _tc("tbf", "rate", "10mbit", "burst", "10kb", "limit", "100kb"),
    "netem": lambda: _tc("netem", "delay", "1ms"),
    "tap": _try_tap,
}


def _reason(attempt: Callable[[], None]) -> str:
    """Return why `attempt` failed, or an empty text."""
    try:
        attempt()
    except OSError as error:
        about = f": {error.filename}" if error.filename else ""
        return (error.strerror or str(error)) + about
    return ""


def _tried(processes: int) -> Iterator[tuple[str, str]]:
    """Try everything, leaving for new namespaces on the way; only for a process that ends right after."""
    yield "bpf", _reason(_try_bpf)
    yield "real_time", _reason(lambda: _in_child(_be_real_time, _REAL_TIME_S))
    yield "borrowed_sockets", _reason(_try_borrowing)
    yield "terminals", _reason(_try_terminal)
    yield "processes", _reason(lambda: _try_processes(processes))
    refusal = _reason(_try_namespaces)
    if refusal:
        yield "namespaces", refusal
        return
    unmounted = _reason(_try_mounts)
    yield "mounts", unmounted
    yield from ((name, _reason(attempt)) for name, attempt in _IN_OWN_NETWORK.items())
    yield "openvswitch", probes.open_vswitch(None if unmounted else _PRIVATE_FOLDER)
    yield "namespaces", _reason(_try_pid_namespace)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dict(_tried(int(sys.argv[1])))))
