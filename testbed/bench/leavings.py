"""What trials leave behind on the machine: looked for by the benchmarks that kill them.

Processes are found without a list of ours: a process that adopts all orphans below it (`kernel.adopting_orphans`) is
the ancestor of whatever outlives its parents, a sandbox's PID 1 included, however it was started.  Namespaces live as
long as their processes, a mount or a descriptor, and programs of the data plane as long as their interface or a pin:
those are looked for where they show.  A program that a living process holds is another trial's.
"""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from testbed.system import probes

_FOLDERS = ("/run", "/run/netns", "/run/openvswitch", "/sys/fs/bpf", "/dev/shm", "/dev/mqueue")
_TEMPORARY = "testbed-probe-*"  # what a trial makes of its own in the folder for temporary files
_OUR_INTERFACE = re.compile(r"([cnbms]\d+(-eth\d+)?|probe\d|ovs-netdev)")
_PROGRAM_TYPES = ("xdp", "sched_cls")
_LOOK_S = 0.005


class Surroundings:
    """The machine as it was; `left` says what is there beyond that."""

    def __init__(self) -> None:
        self._before = set(_things())
        self._programs_before = _programs()

    def left(self, within_s: float) -> list[str]:
        """Return what is left, as soon as that is nothing and after `within_s` at the latest."""
        deadline = time.monotonic() + within_s
        while (found := self._found()) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        return found

    def _found(self) -> list[str]:
        _bury_children()
        found = [*_processes(), *sorted(set(_things()) - self._before)]
        programs = _programs() - self._programs_before
        unheld = programs - _held_programs() if programs else programs  # else it is another trial's
        return found + [f"BPF program {number}" for number in sorted(unheld)]


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid`, parents first."""
    children = _children(pid)
    return [*children, *(below for child in children for below in descendants(child))]


def end_descendants() -> None:
    """Kill what is left below this process, so that one failure does not count again and again."""
    while below := descendants(os.getpid()):
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _bury_children()
        time.sleep(_LOOK_S)


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        tasks = [task.read_text(encoding="ascii") for task in Path(f"/proc/{pid}/task").glob("*/children")]
        return [int(child) for text in tasks for child in text.split()]
    return []


def _bury_children() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _processes() -> Iterator[str]:
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
            yield f"process/{state.split()[0]} {pid} ({words[:60]})"


def _things() -> Iterator[str]:
    for folder in _FOLDERS:
        with suppress(OSError):
            yield from (f"{folder}/{name}" for name in os.listdir(folder))
    yield from map(str, Path(tempfile.gettempdir()).glob(_TEMPORARY))
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        yield from (f"mount {line.split()[4]}" for line in mounts)
    yield from (f"interface {name}" for name in os.listdir("/sys/class/net") if _OUR_INTERFACE.fullmatch(name))


def _programs() -> set[int]:
    try:
        listed = json.loads(probes.command("bpftool", "-j", "prog"))
    except OSError:
        return set()
    return {program["id"] for program in listed if program.get("type") in _PROGRAM_TYPES}


def _held_programs() -> set[int]:
    """Return the BPF programs that some process holds, as such or by a link."""
    held = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            held |= _programs_of(folder)
    return held


def _programs_of(process: Path) -> set[int]:
    held = set()
    for number in os.listdir(process / "fd"):
        with suppress(OSError):
            if os.readlink(process / "fd" / number) in ("anon_inode:bpf-prog", "anon_inode:bpf_link"):
                lines = (process / "fdinfo" / number).read_text(encoding="ascii").splitlines()
                held |= {int(line.split()[1]) for line in lines if line.startswith("prog_id:")}
    return held
