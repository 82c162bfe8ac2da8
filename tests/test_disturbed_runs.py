"""Runs that are disturbed from outside: what stood still is found and named, whatever it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.disturbed_run import Disturbed, run

pytestmark = pytest.mark.requires("root", "bpf", "ovs", "mininet")

STOPS_MS = 300
# the process that is stopped, the check that finds it, who is named
VICTIMS = [
    ("agent n1", "longest stall of an agent", "the agent of n1"),
    ("mesh n2", "longest stall of a mesh member", "the mesh member of n2"),
    ("balancer", "longest stall of a controller", "the balancer"),
    ("sender c1", "longest stall of a sender", "the sender of c1"),
]


def test_processes_that_are_stopped_are_named(tmp_path: Path) -> None:
    def disturb(disturbed: Disturbed) -> None:
        for k, (victim, _, _) in enumerate(VICTIMS):
            disturbed.wait_until_ms(300 + 600 * k)
            disturbed.stop(victim, STOPS_MS)

    summary = run(tmp_path, disturb)
    assert summary["verdict"] == "INVALID"
    for _, check, who in VICTIMS:
        found = summary["checks"][check]
        assert found["verdict"] == "INVALID", found
        assert found["value"] > STOPS_MS - 11
        assert who in found["cause"]
