"""What this machine lets us do, found out by trying: programs, libraries and, in a process of its own, the kernel."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from testbed.system import commands

_SECONDS = 60  # under software emulation a start of Python alone takes 20 s
_POLL_S = 0.002


def environment() -> dict[str, str]:
    """Return the environment for system tools: their folders are not in every user's PATH."""
    return {**os.environ, "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}


def tool(name: str) -> str | None:
    """Return the full path of a program, None when this machine does not have it."""
    return shutil.which(name, path=environment()["PATH"])


class Started:
    """A command without input that runs while something else is done; leaving the block ends it."""

    def __init__(
        self, argv: Sequence[str], folder: str | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        """Start it in `folder`, with further environment `variables`; OSError: it is not there."""
        self._program = argv[0]
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=folder,
            env={**environment(), **(variables or {})},
            preexec_fn=commands.dies_with_us(),  # noqa: PLW1509 - one system call
        )

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()

    def output(self) -> str:
        """Wait for its end and return its output, once.

        Raises:
            OSError: when it fails (with its last line) or takes longer than a minute.
        """
        try:
            output, errors = self._process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired as expired:
            raise OSError(errno.ETIMEDOUT, f"{self._program} did not end within {_SECONDS} s") from expired
        if self._process.returncode != 0:
            said = (errors.strip() or output.strip() or f"status {self._process.returncode}").splitlines()[-1]
            raise OSError(errno.EIO, f"{self._program}: {said}")
        return output


def command(*argv: str, folder: str | None = None, **variables: str) -> str:
    """Run a command without input, in `folder` and with further environment `variables`, and return its output.

    Raises:
        OSError: when it is not there, fails (with its last line) or takes longer than a minute.
    """
    with Started(argv, folder, variables) as started:
        return started.output()


def probing_kernel(processes: int = 0) -> Started:
    """Begin to try what a run does to the kernel, for `kernel_features`; takes about 0.2 s.

    Raises:
        OSError: it cannot be started.
    """
    modules = os.pathsep.join(path for path in sys.path if os.path.isabs(path))
    # In a folder where nothing lies that Python could take for a module.
    argv = (sys.executable, "-m", "testbed.system.kernel_probes", str(processes))
    return Started(argv, "/", {"PYTHONPATH": modules})


def kernel_features(processes: int = 0) -> dict[str, str]:
    """Return, for each thing a run does to the kernel, why it cannot be done here; an empty text where it can.

    The names are those of `testbed.system.kernel_probes`; what takes namespaces is absent where there are none.
    `probing` is why nothing could be tried at all.  With so many processes at once.
    """
    try:
        with probing_kernel(processes) as probe:
            return features_found(probe)
    except OSError as error:
        return dict.fromkeys(("probing", "bpf", "namespaces"), str(error.strerror))


def features_found(probe: Started) -> dict[str, str]:
    """Return what `probing_kernel` has found, as `kernel_features` does."""
    try:
        found: dict[str, str] = json.loads(probe.output())
    except OSError as error:
        return dict.fromkeys(("probing", "bpf", "namespaces"), str(error.strerror))
    return {"probing": "", **found}


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


def open_vswitch(folder: Path | None = None) -> str:
    """Start a private OVS database server, ask it for its name and stop it; return why that failed, or "".

    The switch daemon itself wants no more of the machine than this, a tap and a network namespace.

    Args:
        folder: where its files may lie; None: in a temporary one.
    """
    for name in ("ovs-vswitchd", "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-appctl"):
        if tool(name) is None:
            return f"{name} is not installed"
    if folder is not None:
        return _reason(lambda: _try_database(folder))
    return _reason(_try_database_somewhere)


def _try_database_somewhere() -> None:
    with tempfile.TemporaryDirectory(prefix="testbed-probe-") as folder:
        _try_database(Path(folder))


def _reason(attempt: Callable[[], None]) -> str:
    """Return why `attempt` failed, or an empty text."""
    try:
        attempt()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _try_database(folder: Path) -> None:
    schema = "/usr/share/openvswitch/vswitch.ovsschema"
    command("ovsdb-tool", "create", f"{folder}/db", schema)
    # Every path is named, since the default ones belong to the machine's own Open vSwitch.
    own_paths = (f"--remote=punix:{folder}/sock", f"--unixctl={folder}/ctl", f"--pidfile={folder}/pid")
    with _serving(folder, tool("ovsdb-server") or "ovsdb-server", f"{folder}/db", *own_paths):
        command("ovs-vsctl", "--timeout=3", "--retry", f"--db=unix:{folder}/sock", "--no-wait", "init")


@contextmanager
def _serving(folder: Path, *argv: str) -> Iterator[None]:
    """Have a server, which dies with us, for the length of the block; it has made `sock` when that begins."""
    log = folder / "log"
    with log.open("wb") as output:
        server = commands.tethered(argv, output)
    try:
        _wait_until_made(folder / "sock", server, log)
        yield
    finally:
        server.kill()
        server.wait()


def _wait_until_made(made: Path, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while not made.exists():
        if server.poll() is not None:
            said = log.read_text(encoding="utf-8", errors="replace").strip() or f"status {server.returncode}"
            raise OSError(errno.EIO, f"ovsdb-server: {said.splitlines()[-1]}")
        if time.monotonic() > deadline:
            raise OSError(errno.ETIMEDOUT, f"{log.parent}: no server within {_SECONDS} s")
        time.sleep(_POLL_S)
