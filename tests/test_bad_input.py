"""What makes no experiment is refused by `validate` and by `simulate` alike, in a few lines that name the key."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from testbed import cli
from testbed.errors import EXIT_BAD_INPUT

SCENARIO = """
version: 1
name: bad
duration: 1s
topology: {family: cluster, nodes: 3, clients: 1, node_rate: 10Mbit}
buffer: {policy: static-min}
traffic:
  - {name: load, from: c1, shape: constant, rate: 1Mbit}
"""
TRACED = "traffic=[{name: load, from: c1, trace: trace.csv}]"
BINS = "time_s,bytes\n0.0,9000\n0.1,9000\n0.2,9000\n"
REFUSALS = [
    ("topology.link_delay=-1ms", "topology.link_delay", "got '-1ms'"),
    ("topology.node_rate=0Mbit", "topology.node_rate", "more than 0"),
    ("topology.nodes=1000000", "topology.nodes", "at most 1000"),
    ("topology.nodes=0", "topology.nodes", "got 0"),
    ("buffer.max=0MB", "buffer.max", "more than 0"),
    ("buffer.max=2GB", "buffer.max", "2GB is more than the 1GB of a node"),
    ("buffer.actuation_delay=-5ms", "buffer.actuation_delay", "got '-5ms'"),
    ("traffic=[{name: load, from: c9, shape: constant, rate: 1Mbit}]", "traffic.0.from", "no client 'c9'"),
    ("faults=[{at: 100ms, crash: n9}]", "faults.0.crash", "no node 'n9'"),
    ("faults=[{at: 100ms, pause: n4, for: 30ms}]", "faults.0.pause", "no node 'n4'"),
    ("faults=[{at: 100ms, link_down: s1-n9}]", "faults.0.link_down", "no node 'n9'"),
    ("faults=[{at: 100ms, link_down: c1-s1}]", "faults.0.link_down", "no link 'c1-s1'"),
    ("faults=[{at: 100ms, partition: [[n1], [n2, n9]]}]", "faults.0.partition", "every node exactly once"),
    (TRACED, "trace", "it ends after 0.3 s, the run after 1"),
]


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["testbed", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    code = ended.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "trace.csv").write_text(BINS, encoding="utf-8")
    return path


@pytest.mark.parametrize("verb", ["validate", "simulate"])
@pytest.mark.parametrize(("setting", "key", "said"), REFUSALS, ids=[row[0].split("=")[0] + row[2] for row in REFUSALS])
def test_bad_input_is_refused(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    setting: str, key: str, said: str, verb: str,
) -> None:  # fmt: skip
    out = [] if verb == "validate" else ["--out", str(scenario.parent / "run")]
    assert called(monkeypatch, verb, str(scenario), "--set", setting, *out) == EXIT_BAD_INPUT
    message = capsys.readouterr().err
    assert key in message
    assert said in message
    assert len(message.strip().splitlines()) <= 5
    assert not (scenario.parent / "run").exists()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("traffic.0={name: bulk, from: c1, shape: tcp}", "no model of congestion control"),
        ("faults=[{at: 100ms, crash: n2}]", "with 301 nodes"),
    ],
)
def test_what_only_the_simulation_cannot_do_is_fine_to_validate(
    scenario: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], setting: str, said: str
) -> None:
    planned = "{name: load, from: c1, shape: constant, rate: 1Mbit}"
    setting = setting.replace("traffic.0={", f"traffic=[{planned}, {{") + ("]" if "traffic" in setting else "")
    settings = ["--set", setting, *(["--set", "topology.nodes=301"] if "faults" in setting else [])]
    assert called(monkeypatch, "validate", str(scenario), *settings) == 0
    out = scenario.parent / "run"
    assert called(monkeypatch, "simulate", str(scenario), *settings, "--out", str(out)) == EXIT_BAD_INPUT
    assert said in capsys.readouterr().err
    assert not out.exists()
