"""Runs that somebody changes while they go on: what was done is named, undone or not; where nobody does, nothing is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from testbed.bench import process_touches, touches
from testbed.bench.disturbances import AT_MS, SCENARIO
from testbed.bench.running_trial import RunningTrial
from testbed.bench.touches import Touch

pytestmark = pytest.mark.requires("root", "bpf", "ovs", "mininet")

HOLD_S = 0.02  # several ticks of an agent, and packets for every node
TBF = {"kind": "tbf", "rate": 5_000_000, "burst": 20_000, "limit": 2 * 10**7}
TOUCHES = {
    "link c1-eth0 mtu": touches.link("c1", "c1-eth0", {"mtu": 1400}, {"mtu": 1500}),
    "qdisc root on n1-eth1": touches.qdisc("n1", "n1-eth1", {"kind": "pfifo", "limit": 1000}, TBF),
    "process ovsdb-server state": process_touches.stop("ovsdb-server"),
    "buffer limit": touches.control("limit_bytes", 1),
    "link n2-eth0 xdp.xdp_prog_id": touches.netlink("n2", "n2-eth0", touches.detach),
}


def changes_of(folder: Path, *done: Touch) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Run, do and undo each thing for some milliseconds, and return the summary and the changes by what changed."""
    trial = RunningTrial(folder, {**SCENARIO, "duration": f"{2 + len(done)}s"})
    try:
        trial.wait_until_ms(AT_MS)
        for touch in done:
            with touches.done_to(trial, touch):
                time.sleep(HOLD_S)
        summary = trial.finish()
    finally:
        trial.kill()
    changes = json.loads((trial.out / "evidence.json").read_text())["changes"]
    return summary, {f"{change['kind']} {change['thing']}": change["values"] for change in changes}


def test_a_run_that_nobody_touches_has_no_changes(tmp_path: Path) -> None:
    assert changes_of(tmp_path)[1] == {}


def test_what_was_done_in_the_middle_of_a_run_is_named_though_it_was_undone(tmp_path: Path) -> None:
    summary, found = changes_of(tmp_path, *TOUCHES.values())
    assert summary["verdict"] == "INVALID"
    assert set(TOUCHES) <= set(found)
    assert found["link c1-eth0 mtu"] == ["1500", "1400", "1500"]
    kinds = [value.partition(",")[0] for value in found["qdisc root on n1-eth1"]]
    assert (kinds[0], "kind pfifo" in kinds, kinds[-1]) == ("kind tbf", True, "kind tbf")
    assert found["link n2-eth0 xdp.xdp_prog_id"][-1] == "absent"
