"""What this machine's kernel lets us do, found out by trying.

Versions lie: kernels are configured, containers are confined, distributions backport.  So each feature is used once,
on a small scale, and the error is kept.  The network features are tried in a network namespace of a child process,
``python -m testbed.probes``; when it ends, the kernel takes everything with it.

Source: linux/bpf.h for the commands and the layout of ``union bpf_attr``.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

_CLONE_NEW = {"mount": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "net": 0x40000000}
_CLONE_NEWPID = 0x20000000
_SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_BPF_MAP_CREATE, _BPF_PROG_LOAD, _BPF_LINK_CREATE = 0, 5, 28
_BPF_MAP_TYPE_ARRAY, _BPF_PROG_TYPE_XDP, _BPF_ATTACH_XDP = 2, 6, 37
_BPF_F_MMAPABLE = 1 << 10
_XDP_DRV_MODE = 1 << 2
_MOV_R0_XDP_PASS = struct.pack("<BBhi", 0xB7, 0, 0, 2)
_EXIT = struct.pack("<BBhi", 0x95, 0, 0, 0)
_SECONDS = 10

_libc = ctypes.CDLL(None, use_errno=True)


def environment() -> dict[str, str]:
    """Return the environment for system tools: their folders are not in every user's PATH."""
    return {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}


def tool(name: str) -> str | None:
    """Return the full path of a program, None when this machine does not have it."""
    return shutil.which(name, path=environment()["PATH"])


def command(*argv: str) -> str:
    """Run a command without input and return its output.

    Raises:
        OSError: when it is not there, fails (with its last line) or takes longer than 10 s.
    """
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired as expired:
        raise OSError(errno.ETIMEDOUT, f"{argv[0]} did not end within {_SECONDS} s") from expired
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}").splitlines()[-1]
        raise OSError(errno.EIO, f"{argv[0]}: {said}")
    return done.stdout


def _bpf(operation: int, attributes: bytes) -> int:
    """Do one bpf(2) call and return its file descriptor."""
    number = _SYS_BPF.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of the bpf call on {platform.machine()} is not known")
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    descriptor = int(_libc.syscall(number, operation, buffer, 128))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), f"bpf: {os.strerror(ctypes.get_errno())}")
    return descriptor


def _load_xdp() -> int:
    """Load the shortest XDP program there is, XDP_PASS, and return its descriptor."""
    code = ctypes.create_string_buffer(_MOV_R0_XDP_PASS + _EXIT)
    licence = ctypes.create_string_buffer(b"GPL")
    return _bpf(
        _BPF_PROG_LOAD,
        struct.pack("=IIQQ", _BPF_PROG_TYPE_XDP, 2, ctypes.addressof(code), ctypes.addressof(licence)),
    )


def try_bpf() -> None:
    """Create the kind of map a limit lives in and load an XDP program (OSError when refused)."""
    os.close(_bpf(_BPF_MAP_CREATE, struct.pack("=IIIII", _BPF_MAP_TYPE_ARRAY, 4, 8, 1, _BPF_F_MMAPABLE)))
    os.close(_load_xdp())


def try_native_xdp(interface: str) -> None:
    """Attach an XDP program to `interface` in native mode and let go of it."""
    program = _load_xdp()
    try:
        index = socket.if_nametoindex(interface)
        os.close(_bpf(_BPF_LINK_CREATE, struct.pack("=IIII", program, index, _BPF_ATTACH_XDP, _XDP_DRV_MODE)))
    finally:
        os.close(program)


def _tc(*arguments: str) -> None:
    command("tc", "qdisc", "add", "dev", "probe0", "root", *arguments)
    command("tc", "qdisc", "del", "dev", "probe0", "root")


def _try_veth() -> None:
    command("ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1")


_IN_OWN_NETWORK: dict[str, Callable[[], None]] = {
    "veth": _try_veth,
    "native_xdp": lambda: try_native_xdp("probe0"),
    "tbf": lambda: _tc("tbf", "rate", "10mbit", "burst", "10kb", "limit", "100kb"),
    "netem": lambda: _tc("netem", "delay", "1ms"),
}


def _reason(attempt: Callable[[], None]) -> str:
    """Return why `attempt` failed, or an empty text."""
    try:
        attempt()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), f"unshare: {os.strerror(ctypes.get_errno())}")


def _try_namespaces() -> None:
    _unshare(sum(_CLONE_NEW.values()))


def _try_pid_namespace() -> None:
    _unshare(_CLONE_NEWPID)


def _probe_here() -> dict[str, str]:
    """Leave for new namespaces and try everything; only for a process that ends right after."""
    found = {"bpf": _reason(try_bpf), "namespaces": _reason(_try_namespaces)}
    if not found["namespaces"]:
        found.update({name: _reason(attempt) for name, attempt in _IN_OWN_NETWORK.items()})
        # Last: once the first child after it has ended, such a process can start no other.
        found["namespaces"] = _reason(_try_pid_namespace)
    return found


def kernel_features() -> dict[str, str]:
    """Return, for each kernel feature, why it cannot be used here; an empty text where it can.

    Keys: ``bpf`` and ``namespaces``; where namespaces can be made also ``veth``, ``native_xdp``, ``tbf`` and
    ``netem``.  Takes about 0.2 s.
    """
    try:
        found: dict[str, str] = json.loads(command(sys.executable, "-m", "testbed.probes"))
    except OSError as error:
        return {"bpf": str(error.strerror), "namespaces": str(error.strerror)}
    return found


def congestion_control(name: str) -> str:
    """Return why TCP cannot use the congestion control `name`, empty when it can."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
        try:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
        except OSError as error:
            return os.strerror(error.errno or 0)
    return ""


def libbpf() -> str:
    """Return the file name of the libbpf that programs get here.

    Raises:
        OSError: when there is none.
    """
    for name in ("libbpf.so.1", "libbpf.so.0"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return name
    raise OSError(errno.ENOENT, "neither libbpf.so.1 nor libbpf.so.0 can be loaded")


def open_vswitch() -> str:
    """Start a private OVS database server, ask it for its name and stop it; return why that failed, or "".

    The switch daemon itself wants no more of the machine than this and a network namespace.
    """
    for name in ("ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-appctl"):
        if tool(name) is None:
            return f"{name} is not installed"
    with tempfile.TemporaryDirectory(prefix="testbed-probe-") as folder:
        return _reason(lambda: _try_database(Path(folder)))


def _try_database(folder: Path) -> None:
    schema = "/usr/share/openvswitch/vswitch.ovsschema"
    command("ovsdb-tool", "create", f"{folder}/db", schema)
    # Every path is named, since the default ones belong to the machine's own Open vSwitch.  --detach returns once
    # the server listens.
    own_paths = (f"--remote=punix:{folder}/sock", f"--unixctl={folder}/ctl", f"--pidfile={folder}/pid")
    command("ovsdb-server", f"{folder}/db", *own_paths, "--detach", "--no-chdir")
    try:
        command("ovs-vsctl", "--timeout=3", f"--db=unix:{folder}/sock", "--no-wait", "init")
    finally:
        command("ovs-appctl", f"--target={folder}/ctl", "exit")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_probe_here()))
