"""The emulated run as a user meets it: one command, real kernel, and nothing left whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from testbed.doctor import resources
from testbed.results.recorded_run import RecordedRun
from testbed.scenario.loading import load
from testbed.system import places

pytestmark = pytest.mark.requires("root", "bpf", "ovs", "mininet")

SMOKE = places.scenarios() / "smoke.yaml"


def start(out: Path, *options: str, scenario: Path = SMOKE) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "testbed", "run", str(scenario), "--out", str(out), "--no-live", *options]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_traffic(out: Path, process: subprocess.Popen[str]) -> None:
    """Wait until samples with arrivals have reached the run directory."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        samples = out / "samples.parquet"
        if samples.exists() and sum(pq.read_table(samples)["arrived_pkts"].to_pylist()) > 0:
            return
        time.sleep(0.05)
    pytest.fail(f"no traffic: {process.communicate(timeout=30)}")


def descendants(pid: int) -> set[int]:
    """Return the processes below `pid`, seen from here."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.parent.name)] = int(fields[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def held_by(pid: int) -> tuple[int, int]:
    """Return the files that process `pid` has open, and its threads; none when it has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return 0, 0


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is more than an entry that its new parent, PID 1, has yet to read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def network_namespaces(processes: Collection[int] = ()) -> set[str]:
    """Return those of the given processes, of all without any."""
    found = set()
    entries = [Path(f"/proc/{pid}/ns/net") for pid in processes] or Path("/proc").glob("[0-9]*/ns/net")
    for entry in entries:
        try:
            found.add(os.readlink(entry))
        except OSError:
            continue
    return found


def bpf_programs() -> set[int]:
    listed = subprocess.run(["bpftool", "-j", "prog"], capture_output=True, text=True, check=True).stdout
    return {program["id"] for program in json.loads(listed) if program["type"] == "xdp"}


def test_static_min_never_resizes_and_loses(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "--json", "--set", "buffer.policy=static-min", "--set", "buffer.min=50kB")
    summary = json.loads(process.communicate(timeout=60)[0])
    assert summary["buffer"]["resizes"] == 0
    assert summary["traffic"]["dropped_packets"]["buffer"] > 0
    assert summary["traffic"]["unaccounted_packets"] == 0


def test_the_largest_packets_pass_natively(tmp_path: Path) -> None:
    scenario = tmp_path / "large.yaml"
    scenario.write_text(
        "version: 1\nname: large\nduration: 1s\ntopology: {family: single, node_rate: 50Mbit}\n"
        "traffic: [{name: base, from: c1, shape: constant, rate: 40Mbit, flows: 4, packet: 3500B}]\n"
    )
    process = start(tmp_path / "run", "--json", scenario=scenario)
    summary = json.loads(process.communicate(timeout=60)[0])
    assert summary["traffic"]["delivered_packets"] == summary["traffic"]["sent_packets"] > 1000
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["xdp_modes"] == {"n1": "native"}


def test_a_run_keeps_to_what_it_is_refused_without(tmp_path: Path) -> None:
    options = [word for key in ("nodes=5", "clients=2") for word in ("--set", f"topology.{key}")]
    spec = load(SMOKE, options[1::2]).scenario
    process = start(tmp_path / "run", "--quiet", "--set", "duration=1s", *options)
    files, processes = 0, 0
    while process.poll() is None:
        held = [held_by(pid) for pid in descendants(process.pid)]
        files = max(files, *(count for count, _ in held), 0)
        processes = max(processes, sum(threads for _, threads in held))
        time.sleep(0.02)
    process.communicate()
    assert 5 * 20 < files <= resources.files(spec)
    assert 5 * 4 < processes <= resources.processes(spec)


def test_kill_9_leaves_nothing_and_loses_nothing_written(tmp_path: Path) -> None:
    namespaces, programs = network_namespaces(), bpf_programs()
    mounts = Path("/proc/self/mountinfo").read_text()
    process = start(tmp_path / "run")
    wait_for_traffic(tmp_path / "run", process)
    below = descendants(process.pid)
    assert len(below) > 10
    # Of the whole machine; what another test makes meanwhile is not ours, so only what is there now counts.
    ours, loaded = network_namespaces(below) - namespaces, bpf_programs() - programs
    assert ours
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (any(map(is_running, below)) or bpf_programs() & loaded):
        time.sleep(0.05)
    assert [pid for pid in below if is_running(pid)] == []
    assert network_namespaces() & ours == set()
    assert bpf_programs() & loaded == set()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    run = RecordedRun.open(tmp_path / "run")
    assert run.status == "killed"
    assert run.samples().num_rows > 0
    assert any(event["kind"] == "BalancerReady" for event in run.events())


def test_ctrl_c_ends_in_order(tmp_path: Path) -> None:
    process = start(tmp_path / "run", "--set", "duration=20s")
    wait_for_traffic(tmp_path / "run", process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "interrupted"
    assert summary["verdict"] != "VALID"
    assert any("interrupted after" in reason for reason in summary["verdict_reasons"])
    assert summary["traffic"]["unaccounted_packets"] == 0
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "interrupted"


def test_a_disturbed_run_is_not_valid(tmp_path: Path) -> None:
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        output, _ = start(tmp_path / "run", "--json").communicate(timeout=90)
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    summary = json.loads(output)
    assert summary["verdict"] != "VALID"
    assert summary["traffic"]["unaccounted_packets"] == 0


def test_two_runs_do_not_see_each_other(tmp_path: Path) -> None:
    processes = [start(tmp_path / name, "--json") for name in ("one", "two")]
    for process in processes:
        summary = json.loads(process.communicate(timeout=90)[0])
        assert summary["traffic"]["unaccounted_packets"] == 0
        assert summary["traffic"]["sent_packets"] > 10_000


def test_an_existing_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    process = start(tmp_path / "run")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "exists already" in errors
    assert len(errors.strip().splitlines()) <= 5
    assert list((tmp_path / "run").iterdir()) == []


def test_what_the_machine_has_of_its_own_is_left_alone(tmp_path: Path) -> None:
    stand_in = Path(__file__).with_name("stand_in_machine.py")
    machine = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    argv = [*machine, sys.executable, str(stand_in), str(SMOKE), str(tmp_path / "run")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=True)
    answer = json.loads(done.stdout)
    assert answer["code"] in (0, 5), done.stderr
    assert answer["same"], done.stderr
    assert answer["pinging"]
