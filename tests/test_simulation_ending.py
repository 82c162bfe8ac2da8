"""How a simulated run ends: queues drain for so long and no longer, and a request to stop is obeyed wherever it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.engine import LONGEST_DRAIN_NS, STOPPED_DRAIN_NS
from testbed.results.accounting import account
from testbed.scenario.model import Scenario
from testbed.scenario.network import bucket_bytes
from testbed.simulation import packet_plane
from testbed.simulation.course import Course
from testbed.simulation.engine import SETTLE_NS, TICKED_NS
from testbed.simulation.queues import QueueBank
from testbed.system.interrupts import Stopping
from testbed.units import NS_PER_MS, NS_PER_S
from tests import simulated_run
from tests.command import environment


def slow(node_rate: str, **more: Any) -> Scenario:
    """A load of 20 Mbit/s for half a second into nodes as slow as a sensor's link."""
    return Scenario.model_validate(
        {
            **{"version": 1, "name": "slow", "duration": "500ms"},
            "topology": {"family": "cluster", "nodes": 2, "clients": 1, "node_rate": node_rate},
            "buffer": {"policy": "static-max"},
            "traffic": [{"name": "base", "from": "c1", "shape": "poisson", "rate": "20Mbit", "flows": 50}],
            **more,
        }
    )


# ------------------------------------------------------------------------------------------------------- the drain


@pytest.mark.parametrize(("node_rate", "rate_bps"), [("1bit", 1), ("10kbit", 10_000), ("100kbit", 100_000)])
def test_what_a_slow_link_has_not_served_in_time_is_in_flight(node_rate: str, rate_bps: int) -> None:
    run = simulated_run.run(slow(node_rate))
    books = account(run.evidence)
    assert books.unaccounted_pkts == 0
    assert books.sent_pkts == len(run.plan) == books.delivered_pkts + books.in_flight_pkts
    assert max(run.recorded.column("t_ns")) <= 500 * NS_PER_MS + TICKED_NS + NS_PER_MS
    if rate_bps == 100_000:
        assert books.in_flight_pkts == 0
    served_ns = 500 * NS_PER_MS + LONGEST_DRAIN_NS + SETTLE_NS
    for node in run.evidence.nodes:
        most_bytes = bucket_bytes(rate_bps) + served_ns * rate_bps // (8 * NS_PER_S)
        assert most_bytes - 1500 - 100 <= node.delivered_bytes <= most_bytes + 1 or not node.in_flight_pkts
        assert node.delay is not None
        assert node.delay.total == node.delivered_pkts


def test_a_short_drain_is_ticked_to_its_end() -> None:
    course = Course(0)
    run = simulated_run.run(simulated_run.scenario("static-max"), course=course)
    assert course.drains_ns is not None
    assert course.drains_ns < TICKED_NS
    assert max(run.recorded.column("t_ns")) > 2 * NS_PER_S + course.drains_ns
    assert account(run.evidence).in_flight_pkts == 0


def test_the_course_says_what_is_done() -> None:
    told: list[tuple[str, int]] = []
    course = Course(NS_PER_S, lambda what, for_ns: told.append((what, for_ns)), now_ns=400 * NS_PER_MS)
    for clock_ns in (5 * NS_PER_S, 5 * NS_PER_S + 1, 6 * NS_PER_S):
        course.say(clock_ns)
    assert told == [("simulating: 0.4 of 1.0 s of virtual time", for_ns) for for_ns in (0, NS_PER_S)]
    assert "0.4 of 0.4 s" in Course(400 * NS_PER_MS, now_ns=NS_PER_S).words(), "never more than all"
    assert "drain for 1,000.0 s of virtual time" in Course(NS_PER_S, drains_ns=1000 * NS_PER_S).words()


def test_serving_without_arrivals_takes_any_time() -> None:
    rates, limits = np.array([1, 10_000, 100 * 10**9]), np.full(3, 10**9)
    bank = QueueBank(rates, np.array([1, 100, 10**7]), limits)
    bank._debt = np.array([8 * 10**18, 5 * 10**14, 10**15])
    bank.idle_until(10**15)
    assert bank.backlog_bytes().tolist() == [999_875_000, 0, 0]
    assert bank._debt.tolist()[1:] == bank._floor.tolist()[1:]


# ---------------------------------------------------------------------------------------------------- a request to stop

_CRASH = [{"at": "100ms", "crash": "n1", "for": "200ms"}]


@pytest.mark.parametrize("asked", [0, 1, 7, 100, 333, 1000, 4000])
@pytest.mark.parametrize("kind", ["plain", "faults", "deflecting"])
def test_a_run_stopped_anywhere_adds_up(kind: str, asked: int) -> None:
    spec = simulated_run.scenario("reactive", duration="600ms", deflect=kind == "deflecting")
    if kind == "faults":
        spec = Scenario.model_validate({**spec.resolved(), "faults": _CRASH})
    turns, course = count(), Course(0)
    run = simulated_run.run(spec, should_stop=lambda: next(turns) >= asked, course=course)
    books = account(run.evidence)
    assert books.unaccounted_pkts == 0
    assert next(turns) <= asked + 2 or books.sent_pkts == len(run.plan)
    assert run.evidence.ran_ns <= 600 * NS_PER_MS
    assert run.evidence.ran_ns <= course.now_ns + NS_PER_S
    last_ns = max(run.recorded.column("t_ns"), default=0) if run.recorded.columns else 0
    assert last_ns <= run.evidence.ran_ns or books.sent_pkts == len(run.plan)


def test_a_request_cuts_the_drain_short() -> None:
    course = Course(0)
    run = simulated_run.run(slow("100kbit"), should_stop=lambda: course.now_ns > 600 * NS_PER_MS, course=course)
    assert run.evidence.ran_ns == 500 * NS_PER_MS
    served_bytes = (course.now_ns + STOPPED_DRAIN_NS) * 100_000 // (8 * NS_PER_S)
    for node in run.evidence.nodes:
        assert 0 < node.delivered_bytes <= served_bytes + bucket_bytes(100_000)
        assert node.in_flight_pkts > 0
    assert account(run.evidence).unaccounted_pkts == 0


@pytest.mark.parametrize("kind", ["plain", "faults", "deflecting"])
def test_the_length_of_a_step_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = simulated_run.scenario("reactive", duration="600ms", deflect=kind == "deflecting", sample_interval="100ms")
    if kind == "faults":
        spec = Scenario.model_validate({**spec.resolved(), "faults": _CRASH})
    whole = simulated_run.run(spec)
    monkeypatch.setattr(packet_plane, "_STEP_PKTS", 5)
    turns = count()
    parted = simulated_run.run(spec, should_stop=lambda: next(turns) < 0)
    assert next(turns) > len(whole.plan) / 5
    assert parted.evidence.to_record() == whole.evidence.to_record()
    assert parted.recorded.events == whole.recorded.events


def test_who_does_not_hear_of_a_request_is_interrupted() -> None:
    def never_asks() -> None:
        with Stopping(patience_s=0.001) as stopping:
            os.kill(os.getpid(), signal.SIGTERM)
            assert stopping.asked
            while True:  # such as a policy that does not come to an end
                pass

    with pytest.raises(KeyboardInterrupt):
        never_asks()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_who_hears_of_a_request_has_time_to_stop_in_order() -> None:
    with Stopping(patience_s=1000.0) as stopping:
        assert not stopping.heard()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
        assert stopping.heard()
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_the_first_signal_ends_a_long_simulation(tmp_path: Path) -> None:
    scenario = tmp_path / "long.yaml"
    topology = "{family: cluster, nodes: 2, clients: 1, node_rate: 10kbit}"
    scenario.write_text(
        f"version: 1\nname: long\nduration: 1h\ntopology: {topology}\nbuffer: {{policy: static-max}}\n"
        "traffic: [{name: base, from: c1, shape: poisson, rate: 40kbit}]\n",
        encoding="utf-8",
    )
    out = tmp_path / "out"
    argv = [sys.executable, "-m", "testbed", "simulate", str(scenario), "--out", str(out)]
    with subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        while not (out / "events.jsonl").exists() or not (out / "events.jsonl").stat().st_size:
            assert run.poll() is None, run.communicate()
            time.sleep(0.01)
        run.send_signal(signal.SIGTERM)
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 130
    assert "interrupted" in said
    assert "0 unaccounted" in said
    assert '"status": "interrupted"' in (out / "manifest.json").read_text(encoding="utf-8")
