"""Where a result comes from: everything a reader needs to trust it or to make it again.

What is asked of other programs is asked of all of them at once, because the answer is wanted before the trial starts
and each of them takes tens of milliseconds.  What cannot be found out is absent; nothing is guessed.  No host name, no
user name and no path beyond the command line as typed: a run directory may be published.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import testbed
from testbed.files.reading import Source

COMMANDS: Mapping[str, tuple[str, ...]] = {
    "openvswitch": ("ovs-vswitchd", "--version"),
    "clang": ("clang", "--version"),
    "bpftool": ("bpftool", "version"),
    "iproute2": ("ip", "-V"),
}
PACKAGES = ("numpy", "pyarrow", "pydantic", "os-ken", "ryu", "scapy", "pyroute2", "torch", "onnxruntime", "mininet")
SYSCTLS = (
    "net.core.bpf_jit_enable",
    "net.core.default_qdisc",
    "net.core.dev_weight",
    "net.core.netdev_budget",
    "net.core.netdev_budget_usecs",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.ipv4.ip_forward",
    "kernel.sched_rt_runtime_us",
    "kernel.perf_event_paranoid",
    "kernel.unprivileged_bpf_disabled",
)
ANSWER_TIMEOUT_S = 5.0
_MAX_HASHED_BYTES = 256 * 10**6


def collect(
    argv: Sequence[str],
    *,
    hashes: Mapping[str, str],
    seeds: Mapping[str, int],
    facts: Mapping[str, Any],
    ovs_datapath: str | None = None,
    asked: Asked | None = None,
) -> dict[str, Any]:
    """Return the manifest of a run that starts now, as JSON data.

    Args:
        argv: the command line as typed.
        hashes: name (``scenario``, ``plan``, ``model``, ``bpf/node.o``…) to the hash of `sha256_of`.
        seeds: every derived seed by the name of its stream.
        facts: `RunFacts.to_record()`.
        ovs_datapath: the datapath type of the run's switch, when it has one.
        asked: what was asked of other programs before; None: it is asked now.
    """
    answers = (asked or Asked()).answers()
    tools = {name: _version(answers[name]) for name in COMMANDS if answers.get(name)}
    switch = {"version": tools.pop("openvswitch", None), "datapath": ovs_datapath}
    return {
        "started_utc": utc_now(),
        "project": _project(answers),
        "command": [as_text(word) for word in argv],
        "machine": machine(),
        "openvswitch": {key: value for key, value in switch.items() if value is not None},
        "tools": {**tools, "python": platform.python_version(), **_packages()},
        "sysctls": sysctls(),
        "hashes": dict(hashes),
        "seeds": dict(seeds),
        "facts": dict(facts),
    }


def utc_now() -> str:
    """Return the wall-clock time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def sha256_of(content: bytes | Path) -> str:
    """Return ``sha256:…`` of bytes or of a file's content.

    Raises:
        InputError: when the file cannot be read.
    """
    data = content if isinstance(content, bytes) else Source(content, "reinstall it").read(_MAX_HASHED_BYTES)
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def machine() -> dict[str, Any]:
    """Return kernel, CPU and memory of this machine."""
    facts = {
        "kernel": f"{platform.system()} {platform.release()}",
        "kernel_build": platform.version(),
        "architecture": platform.machine(),
        "distribution": _distribution(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "memory_bytes": _memory_bytes(),
        "clocksource": _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "cpu_governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    }
    return {key: value for key, value in facts.items() if value is not None}


def sysctls() -> dict[str, str]:
    """Return the kernel settings that a result may depend on, as this network namespace sees them."""
    found = {name: _text("/proc/sys/" + name.replace(".", "/")) for name in SYSCTLS}
    return {name: value for name, value in found.items() if value is not None}


def _project(answers: Mapping[str, str]) -> dict[str, Any]:
    commit = answers.get("git commit", "")
    project: dict[str, Any] = {"name": testbed.__name__, "version": testbed.__version__}
    if re.fullmatch(r"[0-9a-f]{40,64}", commit):
        project["git_commit"] = commit
        project["git_modified"] = bool(answers.get("git modified"))
    return project


def _git_questions() -> dict[str, tuple[str, ...]]:
    root = Path(testbed.__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return {}  # installed as a package: a repository further up is somebody else's
    # Without optional locks: `status` would write the index anew, and leave its lock behind when it is ended.
    git = ("git", "--no-optional-locks", "-c", "safe.directory=*", "-C", str(root))
    return {
        "git commit": (*git, "rev-parse", "HEAD"),
        "git modified": (*git, "status", "--porcelain", "--untracked-files=no"),
    }


class Asked:
    """Questions to other programs, all asked at once; they think of the answers while something else is done."""

    def __init__(self, questions: Mapping[str, Sequence[str]] | None = None) -> None:
        """Ask what a manifest says, or other questions: commands by their names."""
        questions = {**COMMANDS, **_git_questions()} if questions is None else questions
        self._asked = {name: process for name, argv in questions.items() if (process := _start(argv)) is not None}

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        """End those whose answer nobody waited for."""
        for process in self._asked.values():
            process.kill()
            process.communicate()

    def answers(self) -> dict[str, str]:
        """Return the answers, once; those that are missing, fail or hang are left out."""
        asked, self._asked = self._asked, {}
        answers = {}
        for name, process in asked.items():
            try:
                output, _ = process.communicate(timeout=ANSWER_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                continue
            if process.returncode == 0:
                answers[name] = output.strip()
        return answers


def as_text(word: str) -> str:
    """Return a word of a command line as text: bytes that are none (PEP 383) as escapes, as no reader takes them."""
    return word.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _start(argv: Sequence[str]) -> subprocess.Popen[str] | None:
    try:
        return subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
    except OSError:
        return None


def _version(answer: str) -> str:
    found = re.search(r"\d+(?:\.\d+)+\S*", answer)
    return found.group(0).rstrip(",") if found else answer.splitlines()[0][:80]


def _packages() -> dict[str, str]:
    return {name: version for name in PACKAGES if (version := _package_version(name)) is not None}


def _package_version(name: str) -> str | None:
    """Return the version of a package; of its description only that line is read, as to parse all takes 9 ms."""
    try:
        description = metadata.distribution(name).read_text("METADATA") or ""
    except metadata.PackageNotFoundError:
        return None
    found = re.search(r"^Version: *(\S+)", description, re.MULTILINE)
    return found[1] if found else metadata.version(name)


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _field(path: str, pattern: str) -> str | None:
    found = re.search(pattern, _text(path) or "", re.MULTILINE)
    return found.group(1).strip() if found else None


def _distribution() -> str | None:
    return _field("/etc/os-release", r'^PRETTY_NAME="?([^"\n]+)')


def _cpu_model() -> str | None:
    return _field("/proc/cpuinfo", r"^model name\s*:\s*(.+)$") or platform.processor() or None


def _memory_bytes() -> int | None:
    kilobytes = _field("/proc/meminfo", r"^MemTotal:\s*(\d+) kB")
    return int(kilobytes) * 1024 if kilobytes else None
