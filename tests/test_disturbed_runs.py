"""Runs that are disturbed from outside: what stood still is found and named, whatever it is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.disturbed_run import Disturbed, run

pytestmark = pytest.mark.requires("root", "bpf", "ovs", "mininet")

STOPS_MS = 300
# the process that is stopped, the check that finds it, who is named
VICTIMS = [
    ("agents", "longest stall of an agent", "the agent of n"),
    ("mesh", "longest stall of a mesh member", "the mesh member of n"),
    ("balancer", "longest stall of a controller", "the balancer"),
    ("sender c1", "longest stall of a sender", "the sender of c1"),
]


def test_processes_that_are_stopped_are_named(tmp_path: Path) -> None:
    def disturb(disturbed: Disturbed) -> None:
        for victim, _, _ in VICTIMS:
            disturbed.stop(victim, STOPS_MS)
            disturbed.rest(200)

    summary = run(tmp_path, disturb)
    assert summary["verdict"] == "INVALID"
    for _, check, who in VICTIMS:
        found = summary["checks"][check]
        assert found["verdict"] == "INVALID", found
        assert found["value"] > STOPS_MS - 11
        assert who in found["cause"]


def test_a_switch_that_is_stopped_is_named(tmp_path: Path) -> None:
    summary = run(tmp_path, lambda disturbed: disturbed.stop("ovs-vswitchd", 100), duration="2s")
    found = summary["checks"]["longest stall of the way from client to node"]
    assert found["verdict"] == summary["verdict"] == "INVALID"
    assert found["value"] > 90
    assert "the switch (ovs-vswitchd) did not forward" in found["cause"]
    assert "n1, n2, n3" in found["cause"]


def test_a_sender_whose_mtu_is_cut_is_named_with_all_it_did_not_send(tmp_path: Path) -> None:
    def disturb(disturbed: Disturbed) -> None:
        inside = ["nsenter", "-t", str(disturbed.pids()["sender c1"]), "-n"]
        subprocess.run([*inside, "ip", "link", "set", "c1-eth0", "mtu", "600"], check=True)

    summary = run(tmp_path, disturb, duration="2s")
    assert summary["verdict"] == "INVALID"
    cause = summary["checks"]["senders that failed"]["cause"]
    assert "the sender of c1 failed sending packet" in cause
    assert "Message too long (EMSGSIZE)" in cause
    assert summary["checks"]["planned packets not sent"]["evidence"]["failed"] > 100
    assert summary["checks"]["planned packets that nobody sent or gave up"]["value"] == 0
    assert summary["traffic"]["unaccounted_packets"] == 0
