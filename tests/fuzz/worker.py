"""A process that feeds a reader a stretch of inputs under limits, and tells what it found.

The process is a fork, so the reader's modules are loaded once.  Its address space may grow by `MEMORY_BYTES`.  An
input's memory is the highest resident size while it is read, above that before it; its time is that of the processor,
so that other load on the machine is not held against the reader; and one that waits for ever is woken by a timer.
"""

from __future__ import annotations

import faulthandler
import json
import mmap
import os
import resource
import signal
import struct
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzz import doors, inputs
from tests.fuzz.inputs import Target

CPU_S = 2.0
MEMORY_BYTES = 10**9
HANG_S = 10
MESSAGE_LINES, MESSAGE_CHARS = 5, 3000


@dataclass(frozen=True)
class Finding:
    """An input that a reader did not take as it must."""

    target: str
    seed: int
    number: int
    file: str
    what: str
    trace: str = ""

    @property
    def kind(self) -> str:
        """Return what findings of one cause have in common: the error and where it was raised."""
        frames = [line.strip() for line in self.trace.splitlines() if line.strip().startswith("File ")]
        return f"{self.what[:60]} {frames[-1] if frames else ''}"


@dataclass
class Tally:
    """What became of a stretch of inputs."""

    inputs: int = 0
    read: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    largest_bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    reached: list[str] = field(default_factory=list)  # the readers, as `doors` names them

    def add(self, other: Tally) -> None:
        self.inputs += other.inputs
        self.read += other.read
        self.refused += other.refused
        self.slowest_s = max(self.slowest_s, other.slowest_s)
        self.largest_bytes = max(self.largest_bytes, other.largest_bytes)
        self.findings += other.findings
        self.reached = sorted({*self.reached, *other.reached})


class _Hangs(BaseException):
    pass


class Stretch:
    """A stretch of inputs under way in a process of its own."""

    def __init__(self, target: Target, seed: int, numbers: range) -> None:
        self.target, self.seed, self.numbers = target, seed, numbers
        self._progress = mmap.mmap(-1, 8)
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the result
        self.pid = os.fork()
        if self.pid == 0:
            _child(target, seed, numbers, self._progress, self._told)

    def result(self, status: int) -> tuple[Tally, int]:
        """Return what the ended process found and how many inputs it came through."""
        self._told.seek(0)
        told = self._told.read()
        self._told.close()
        if told:
            found = json.loads(told)
            return Tally(**{**found, "findings": [Finding(**one) for one in found["findings"]]}), len(self.numbers)
        (number,) = struct.unpack("q", self._progress[:])
        ended = f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {status}"
        finding = Finding(self.target.name, self.seed, number, "?", f"the process ended: {ended}")
        return Tally(inputs=1, findings=[finding]), number + 1 - self.numbers.start


def _child(target: Target, seed: int, numbers: range, progress: mmap.mmap, told: Any) -> None:
    code = 1
    faulthandler.disable()  # a process that ends is a finding, not a report
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        tally, reached = Tally(), set[str]()
        doors.record(reached)
        _limit()
        seeds = inputs.seeds_of(target)
        with tempfile.TemporaryDirectory(prefix="testbed-fuzz-") as scratch:
            for one in fed(target, seeds, seed, numbers, Path(scratch) / "input", progress):
                tally.add(one)
        tally.reached = sorted(reached)
        told.write(json.dumps(asdict(tally)).encode())
        told.flush()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _limit() -> None:
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    now_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    resource.setrlimit(resource.RLIMIT_AS, (now_bytes + MEMORY_BYTES, now_bytes + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # a reader that asks gets no answer

    def wake(*_: object) -> None:
        raise _Hangs

    signal.signal(signal.SIGALRM, wake)


def fed(
    target: Target, seeds: Sequence[Mapping[str, bytes]], seed: int, numbers: range, folder: Path, progress: mmap.mmap
) -> Iterator[Tally]:
    """Yield what came of each input."""
    for number in numbers:
        progress[:] = struct.pack("q", number)
        files, name = inputs.make(target, seeds, seed, number)
        inputs.write(files, folder)
        before_bytes = _reset_peak()
        began_s = time.process_time()
        what, trace = _read(target, folder, name)
        took_s, took_bytes = time.process_time() - began_s, max(_memory("VmHWM") - before_bytes, 0)
        what = what or _too_much(took_s, took_bytes)
        findings = [Finding(target.name, seed, number, name, what, trace)] if what not in ("read", "refused") else []
        yield Tally(1, what == "read", what == "refused", took_s, took_bytes, findings)


def _too_much(took_s: float, took_bytes: int) -> str:
    return (
        f"took {took_s:.1f} s"
        if took_s > CPU_S
        else f"took {took_bytes / 1e6:,.0f} MB"
        if took_bytes > MEMORY_BYTES
        else ""
    )


def _read(target: Target, folder: Path, name: str) -> tuple[str, str]:
    """Return "read", "refused" or what is wrong, and where."""
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        began_s = time.process_time()
        target.read(folder, name)
        outcome = "read"
    except target.refusal as error:
        flaw = _flaw_of(error)
        if flaw:
            return flaw, traceback.format_exc()
        outcome = "refused"
    except _Hangs:
        return f"waits for more than {HANG_S} s", traceback.format_exc()
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300], traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took_s, took_bytes = time.process_time() - began_s, _memory("VmHWM") - _memory("VmRSS")
    return (_too_much(took_s, took_bytes) or outcome), ""


def _flaw_of(error: Exception) -> str:
    """Return what is wrong with the words of a refusal, "" for nothing."""
    text = str(error)
    if not text.isprintable() and any(not (c.isprintable() or c == "\n") for c in text):
        return "the refusal has letters that cannot be printed"
    if len(text.splitlines()) > MESSAGE_LINES or len(text) > MESSAGE_CHARS:
        return f"the refusal has {len(text.splitlines())} lines, {len(text)} letters"
    return ""


def _reset_peak() -> int:
    """Begin to measure the highest resident size anew; return the present one."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0
