"""`ps`, `exec` and `clean`: what is under way is found while it lives and not a moment longer."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.results import running
from testbed.results.run_directory import RunDirectory
from tests import synthetic_run
from tests.command import write_tiny

WRITER = """
import sys, os, time
from pathlib import Path
from testbed.results.running import announced
with announced(Path(sys.argv[1])):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "testbed", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that writes `tmp_path`, with a child that may outlive it."""
    argv = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        yield process, child
        for pid in (process.pid, child):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def writer_pids(writer: tuple[subprocess.Popen[str], int]) -> tuple[int, int]:
    process, child = writer
    return process.pid, child


def listed() -> dict[str, dict[str, object]]:
    return {row["run"]: row for row in json.loads(call("ps", "--json").stdout)}


def paths() -> list[Path]:
    return [found.path for found in running.running()]


def test_a_run_is_found_while_it_is_announced(tmp_path: Path) -> None:
    with running.announced(tmp_path):
        assert running.RunningRun(os.getpid(), tmp_path.resolve()) in running.running()
    assert tmp_path.resolve() not in paths()


def test_a_forked_process_is_not_taken_for_the_writer(
    writer: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, _ = writer
    assert [found.pid for found in running.running() if found.path == tmp_path.resolve()] == [process.pid]
    assert not set(running.orphans()) & set(writer_pids(writer))


def unprivileged(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call the command line as a user who is not root."""
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "testbed", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.requires("root")
def test_another_user_is_told_that_there_may_be_trials_of_others(tmp_path: Path) -> None:
    code = "import os, time; child = os.fork(); print(child, flush=True) if child else None; time.sleep(60)"
    argv = [sys.executable, "-c", code, "testbed", "run", "x.yaml"]  # looks like one of root's, and has forked
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            done = unprivileged("ps")
        finally:
            for pid in (process.pid, child):
                os.kill(pid, signal.SIGKILL)
    assert (done.returncode, done.stdout) == (0, "none of your trials is running\n")
    named = re.search(r"some seem to be running: process ([\d, ]+)\)", done.stderr)
    assert named is not None
    assert {process.pid, child} & set(map(int, named[1].split(", "))) == {process.pid}
    assert done.stderr.rstrip().endswith(f"use: sudo {sys.executable} -m testbed ps")
    assert unprivileged("clean").stdout == "no leftovers of your trials were found\n"
    assert json.loads(unprivileged("ps", "--json").stdout) == []


def test_after_kill_nothing_runs_and_what_outlived_it_is_ended(
    writer: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, child = writer
    process.kill()
    process.wait()
    assert tmp_path.resolve() not in paths()
    assert child in running.orphans()
    assert (
        f"ended process {child}, which was still running after the end of its trial"
        in call("clean", str(tmp_path)).stdout
    )
    assert child not in running.orphans()


def test_clean_removes_torn_files_of_killed_runs_only(tmp_path: Path) -> None:
    made = synthetic_run.make(synthetic_run.facts(seconds=1))
    dead = {"pid": 2**22 + 1, "start_ticks": 1, "boot": "another"}
    for name in ("killed", "running"):
        run = RunDirectory.create(tmp_path / name, {"facts": made.facts.to_record()})
        (run.path / ".samples.parquet.new").write_text("half")
        if name == "killed":
            run.write_json("manifest.json", {**run.manifest, "process": dead})
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / ".their.new").write_text("theirs")
    said = call("clean", str(tmp_path)).stdout
    assert said.count("removed") == 1
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/.*.new"))
    assert left == ["foreign/.their.new", "running/.samples.parquet.new"]
    assert call("clean", str(tmp_path)).stdout == "no leftovers of trials were found\n"


def test_exec_refuses_a_run_that_is_over(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    run.finish("completed")
    done = call("exec", str(run.path), "n1", "--", "true")
    assert done.returncode == 2
    assert "the run is completed" in done.stderr


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_a_command_runs_inside_a_node_and_ends_with_the_trial(tmp_path: Path) -> None:
    settings = ("duration=300s", "topology.family=cluster", "topology.nodes=3", "topology.clients=2")  # it is killed
    argv = [sys.executable, "-m", "testbed", "run", str(write_tiny(tmp_path))]
    argv += [word for setting in settings for word in ("--set", setting)]
    trial = subprocess.Popen([*argv, "--out", str(tmp_path / "run"), "--no-live", "--quiet"])
    while not _hosts_are_up(tmp_path / "run"):
        assert trial.poll() is None
    row = listed()[str(tmp_path / "run")]
    assert (row["pid"], row["scenario"], row["nodes"]) == (trial.pid, "tiny", 3)
    inside = call("exec", str(tmp_path / "run"), "n2", "--", "sh", "-c", "ls /sys/class/net; exit 7")
    assert inside.returncode == 7
    assert inside.stdout.split() == ["lo", "n2-eth0", "n2-eth1", "n2-eth2"]
    for switch in ("s1", "m1"):  # they are in the namespace of the sandbox itself
        beside = call("exec", str(tmp_path / "run"), switch, "--", "sh", "-c", "ls /sys/class/net")
        assert {"s1-eth1", "m1"} <= set(beside.stdout.split()), beside.stderr
    there = call("exec", str(tmp_path / "run"), "n2", "--", "ping", "-c", "1", "-W", "5", "n1")  # by its name
    assert there.returncode == 0, there.stderr + there.stdout
    code, said = _in_a_terminal("shell", str(tmp_path / "run"), "n2", typed="tty; cat /proc/$$/comm; exit 5\n")
    assert code == 5
    assert "/dev/pts/" in said
    unknown = call("exec", str(tmp_path / "run"), "n9", "--", "true")
    assert unknown.returncode == 2
    assert "there are b1, b2, b3, c1, c2, m1, n1, n2, n3, s1" in unknown.stderr
    argv = [sys.executable, "-m", "testbed", "exec", str(tmp_path / "run"), "n2", "--"]
    argv += ["sh", "-c", "echo inside; exec sleep 600"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == "inside\n"
        trial.kill()
        trial.wait()
        assert sleeper.wait(timeout=30) == 128 + signal.SIGKILL
    assert str(tmp_path / "run") not in listed()


def _in_a_terminal(*words: str, typed: str) -> tuple[int, str]:
    """Run a verb in a terminal, type there, and return its exit code and what was printed."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "SHELL": "/bin/sh"}
    argv = [sys.executable, "-m", "testbed", *words]
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        said = b""
        with contextlib.suppress(OSError):  # of the end
            while data := os.read(ours, 4096):
                said += data
    os.close(ours)
    return process.returncode, said.decode()


def _hosts_are_up(path: Path) -> bool:
    return (path / "manifest.json").exists() and call("exec", str(path), "n2", "--", "true").returncode == 0


@pytest.mark.parametrize(
    "mark", [b"", b"{", b"[]", b'{"process": 3}', b'{"path": 7, "process": {"pid": 1}}', b"x" * 10**6]
)
def test_a_mark_that_somebody_else_made_is_passed_over(mark: bytes) -> None:
    planted = os.memfd_create(running.MARK)
    try:
        os.write(planted, mark)
        assert os.getpid() not in [*(found.pid for found in running.running()), *running.orphans()]
    finally:
        os.close(planted)


def test_a_run_directory_whose_name_is_no_text_is_found(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"r\xff %41")
    with running.announced(path):
        assert path in [found.path for found in running.running()]
