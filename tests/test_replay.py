"""A recorded run is replayed without a difference, and any changed decision is found."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.errors import InputError
from testbed.policies import buffer_reactive
from testbed.trials.replay import replay
from tests import simulated_run

Line = dict[str, Any]


def lines_of(run: Path) -> list[Line]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def rewrite(run: Path, lines: list[Line]) -> None:
    (run / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def change(run: Path, where: Callable[[Line], bool], what: Callable[[Line], object]) -> Line:
    """Change the tenth line that fits and return it."""
    lines = lines_of(run)
    found = [line for line in lines if where(line)][9]
    what(found)
    rewrite(run, lines)
    return found


@pytest.mark.parametrize(
    "policy",
    ["static-min", "static-mean", "static-max", "dynamic-threshold", "reactive", "ewma", "holt", "lstm", "oracle"],
)
def test_every_buffer_policy_decides_again_as_it_did(tmp_path: Path, policy: str) -> None:
    spec = simulated_run.scenario(policy, pool="2MB", actuation_delay="20ms")
    assert replay(simulated_run.write(spec, tmp_path / "run")) is None


@pytest.mark.parametrize("balancer", ["round-robin", "hash", "least-loaded", "two-choices", "headroom"])
def test_every_balancer_policy_decides_again_as_it_did(tmp_path: Path, balancer: str) -> None:
    spec = simulated_run.scenario("reactive", balancer=balancer)
    assert replay(simulated_run.write(spec, tmp_path / "run", cohorts=3)) is None


def test_a_history_in_short_is_enough(tmp_path: Path) -> None:
    spec = simulated_run.scenario("lstm", nodes=150, node_rate="0.5Mbit", duration="1s", pool="50MB")
    run = simulated_run.write(spec, tmp_path / "run", cohorts=2)
    shorts = {line["kind"] for line in lines_of(run) if "rows" in line}
    assert {"TrafficSampled", "NotifyBalancer", "NodesNotified", "SetSlots"} <= shorts
    assert replay(run) is None


def test_a_changed_output_is_found(tmp_path: Path) -> None:
    run = simulated_run.write(simulated_run.scenario("reactive"), tmp_path / "run", cohorts=1)

    def grow(line: Line) -> None:
        line["limit_bytes"][0] += 1

    changed = change(run, lambda line: line["kind"] == "SetBufferLimit", grow)
    difference = replay(run)
    assert difference is not None
    assert (difference.t_ns, difference.policy) == (changed["t_ns"], "brain")
    assert difference.recorded == changed
    assert difference.replayed is not None
    assert difference.replayed["limit_bytes"][0] == changed["limit_bytes"][0] - 1
    assert str(difference).startswith(f"brain at {changed['t_ns'] / 1e9:.6f} s\n  recorded: ")


def test_a_difference_says_when_the_run_had_another_model(tmp_path: Path) -> None:
    run = simulated_run.write(simulated_run.scenario("lstm"), tmp_path / "run")
    change(run, lambda line: line["kind"] == "SetBufferLimit", lambda line: line.update(limit_bytes=[1, 1, 1]))
    assert "another LSTM" not in str(replay(run))
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "hashes": {"model": "sha256:0"}}))
    assert "the run used another LSTM; give it with --model" in str(replay(run))


def test_a_changed_digest_is_found(tmp_path: Path) -> None:
    spec = simulated_run.scenario("reactive", nodes=70, node_rate="1Mbit", duration="1500ms")
    run = simulated_run.write(spec, tmp_path / "run")
    changed = change(run, lambda line: line["kind"] == "NotifyBalancer", lambda line: line.update(sha256="0" * 64))
    difference = replay(run)
    assert difference is not None
    assert difference.recorded == changed


def test_a_decision_that_is_missing_or_too_many_is_found(tmp_path: Path) -> None:
    run = simulated_run.write(simulated_run.scenario("reactive"), tmp_path / "run")
    lines = lines_of(run)
    one = [line for line in lines if line["kind"] == "SetBufferLimit"][4]
    rewrite(run, [line for line in lines if line is not one])
    difference = replay(run)
    assert difference is not None
    assert difference.recorded is None
    assert difference.t_ns == one["t_ns"]
    assert difference.replayed is not None
    assert difference.replayed["kind"] == "SetBufferLimit"
    rewrite(run, [copy for line in lines for copy in ([line, line] if line is one else [line])])
    difference = replay(run)
    assert difference is not None
    assert difference.recorded == one


def test_changed_code_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = simulated_run.write(simulated_run.scenario("reactive"), tmp_path / "run", cohorts=1)
    monkeypatch.setattr(buffer_reactive, "HIGH_RATIO", 0.6)
    difference = replay(run)
    assert difference is not None
    assert difference.policy == "brain"


def test_a_changed_input_is_found(tmp_path: Path) -> None:
    run = simulated_run.write(simulated_run.scenario("lstm"), tmp_path / "run", cohorts=1)

    def fill(line: Line) -> None:
        line["backlog_bytes"] = [900_000] * 3

    change(run, lambda line: line["kind"] == "TrafficSampled", fill)
    assert replay(run) is not None


def test_lines_out_of_order_as_several_processes_write_them(tmp_path: Path) -> None:
    spec = simulated_run.scenario("reactive", actuation_delay="15ms")
    run = simulated_run.write(spec, tmp_path / "run", cohorts=3)
    lines = lines_of(run)
    shuffle = random.Random(1)
    writers = {policy: shuffle.random() * 100e6 for policy in sorted({line["policy"] for line in lines})}
    lines.sort(key=lambda line: line["t_ns"] + writers[line["policy"]] * (line["kind"] != "TrafficSampled"))
    assert [line for line in lines if line["kind"] == "DeadlineReached"]
    rewrite(run, lines)
    assert replay(run) is None


def test_outputs_of_the_question_may_be_written_after_the_answer(tmp_path: Path) -> None:
    """As by an agent that asks the pool on the way through its list of actions."""
    run = simulated_run.write(simulated_run.scenario("reactive"), tmp_path / "run")
    lines = lines_of(run)
    late = [
        (index, line)
        for index, line in enumerate(lines[:-3])
        if line["kind"] == "NotifyBalancer" and lines[index + 1]["policy"] == "pool"
    ]
    assert late
    for index, line in reversed(late):
        answer = next(
            k for k in range(index, len(lines)) if lines[k]["kind"] == "LimitGranted" and lines[k]["direction"] == "in"
        )
        lines.insert(answer + 1, line)
        del lines[index]
    rewrite(run, lines)
    assert replay(run) is None


def test_a_killed_run_is_replayed_as_far_as_it_goes(tmp_path: Path) -> None:
    run = simulated_run.write(simulated_run.scenario("reactive"), tmp_path / "run")
    lines = lines_of(run)
    cut = next(
        k
        for k, line in enumerate(lines)
        if k > 100 and line["kind"] == "TrafficSampled" and lines[k + 1]["direction"] == "out"
    )
    rewrite(run, lines[: cut + 1])
    assert replay(run) is not None
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "status": "running"}))
    assert replay(run) is None


def test_what_cannot_be_replayed_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such directory"):
        replay(tmp_path / "none")
    run = simulated_run.write(simulated_run.scenario("reactive", duration="100ms"), tmp_path / "run")
    lines = lines_of(run)
    rewrite(run, [{**lines[0], "kind": "Unheard"}])
    with pytest.raises(InputError, match="unknown kind Unheard"):
        replay(run)
    rewrite(run, [{**lines[0], "policy": "membership"}])
    with pytest.raises(InputError, match="membership"):
        replay(run)
    rewrite(run, [])
    with pytest.raises(InputError, match="no recorded decisions"):
        replay(run)
    (run / "scenario.yaml").write_text("version: 1\nname: x\n")
    with pytest.raises(InputError, match="duration: field required"):
        replay(run)
