"""What the machine did to a run: quotas of either version, suspension; a step of the wall clock is nothing to it."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed.emulation.cpu_quota import CpuQuota
from testbed.emulation.machine import MachineWatch
from testbed.records.evidence import ClientEvidence, Evidence
from testbed.records.samples import by_node
from testbed.results.accounting import account
from testbed.results.fidelity import judge
from testbed.units import NS_PER_MS, NS_PER_S
from tests import synthetic_run


def process(folder: Path, groups: str, mounts: str) -> Path:
    """Write what ``/proc`` says of a process, with ``@`` for `folder`."""
    (folder / "proc").mkdir()
    (folder / "proc/cgroup").write_text(groups)
    (folder / "proc/mountinfo").write_text(mounts.replace("@", str(folder)))
    return folder / "proc"


def group(folder: Path, stat: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.stat").write_text(stat)
    return folder / "cpu.stat"


V2 = "30 20 0:26 / @/sys rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 20 0:27 / @/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
    "32 20 0:28 / @/memory rw - cgroup cgroup rw,memory\n"
)


def test_a_quota_of_the_unified_hierarchy_is_read_on_the_whole_way_up(tmp_path: Path) -> None:
    own = group(tmp_path / "sys/user/run", "usage_usec 5\nnr_throttled 1\nthrottled_usec 70\n")
    group(tmp_path / "sys/user", "usage_usec 5\nthrottled_usec 30\n")
    group(tmp_path / "sys", "usage_usec 9\n")
    quota = CpuQuota(process(tmp_path, "0::/user/run\n", V2))
    assert quota.throttled_ns() == 100_000
    own.write_text("usage_usec 5\nnr_throttled 2\nthrottled_usec 170\n")
    assert quota.throttled_ns() == 200_000
    quota.close()


def test_a_quota_of_the_first_version_is_that_of_the_controller_of_processors(tmp_path: Path) -> None:
    group(tmp_path / "cpu/docker/c0ffee", "nr_periods 9\nnr_throttled 2\nthrottled_time 4000\n")
    group(tmp_path / "memory/docker/c0ffee", "throttled_time 7\n")
    groups = "5:memory:/docker/c0ffee\n4:cpu,cpuacct:/docker/c0ffee\n3:cpuset:/other\n0::/\n"
    quota = CpuQuota(process(tmp_path, groups, V1))
    assert quota.throttled_ns() == 4000
    quota.close()


def test_a_container_sees_its_own_group_as_the_root_of_the_mount(tmp_path: Path) -> None:
    group(tmp_path / "cpu", "throttled_time 55\n")
    mounts = V1.replace(" / @/cpu", " /docker/c0ffee @/cpu")
    quota = CpuQuota(process(tmp_path, "4:cpu,cpuacct:/docker/c0ffee\n", mounts))
    assert quota.throttled_ns() == 55
    quota.close()


def test_a_mount_point_with_a_blank_is_found(tmp_path: Path) -> None:
    group(tmp_path / "my groups/run", "throttled_usec 3\n")
    mounts = V2.replace("@/sys", "@/my\\040groups")
    quota = CpuQuota(process(tmp_path, "0::/run\n", mounts))
    assert quota.throttled_ns() == 3000
    quota.close()


def test_without_a_quota_nothing_was_stopped_and_without_groups_nobody_knows(tmp_path: Path) -> None:
    group(tmp_path / "sys", "usage_usec 9\n")
    with_root = CpuQuota(process(tmp_path, "0::/\n", V2))
    assert with_root.throttled_ns() == 0
    with_root.close()
    (tmp_path / "bare").mkdir()
    assert CpuQuota(process(tmp_path / "bare", "0::/\n", "")).throttled_ns() is None


def watched(folder: Path, monkeypatch: pytest.MonkeyPatch, meanwhile: dict[str, int]) -> dict[str, float | int | None]:
    """Return what a watch finds when the clocks have moved by so much (ns, by name) at its end."""
    clocks = {"time_ns": 10**18, "monotonic_ns": 10**12, "boot": 2 * 10**12}
    monkeypatch.setattr(time, "time_ns", lambda: clocks["time_ns"])
    monkeypatch.setattr(time, "monotonic_ns", lambda: clocks["monotonic_ns"])
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _: clocks["boot"])
    watch = MachineWatch(CpuQuota(process(folder, "0::/\n", "")))
    for name, ns in meanwhile.items():
        clocks[name] += ns
    watch.tick()
    return watch.finish()


def test_a_step_of_the_wall_clock_is_no_caveat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = {"monotonic_ns": 3 * NS_PER_S, "boot": 3 * NS_PER_S}
    found = watched(tmp_path, monkeypatch, {**run, "time_ns": 3 * NS_PER_S - 800 * NS_PER_S})
    assert found["suspended_ns"] == 0
    assert not [name for name in found if "step" in name]


def test_a_suspended_machine_is_found_by_the_clock_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watched(tmp_path, monkeypatch, {"monotonic_ns": 3 * NS_PER_S, "boot": 3 * NS_PER_S + 40 * NS_PER_MS})
    assert found["suspended_ns"] == 40 * NS_PER_MS


def test_what_other_networks_of_the_machine_drop_is_none_of_the_run() -> None:
    made = synthetic_run.make(synthetic_run.facts("static-min", seconds=4))
    foreign = judge(replaced(made, softnet_dropped_pkts=10_000), by_node(made.samples), made.facts)
    assert foreign.verdict == "VALID"
    first = made.evidence.clients[0]
    lost = ClientEvidence("c1", first.planned_pkts, first.sent_pkts + 3, first.sent_bytes, link_dropped_pkts=3)
    books = account(replaced(made, clients=(lost,)))
    assert (books.dropped_pkts["other"], books.unaccounted_pkts) == (3, 0)


def replaced(made: synthetic_run.Made, **fields: Any) -> Evidence:
    return replace(made.evidence, **fields)
