"""Plug-ins: a user's policies beside ours, and the clear end of each one that is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import testbed
from testbed.errors import InputError, PolicyError, TestbedError
from testbed.files.reading import Source
from testbed.scenario import loading, plugins
from testbed.scenario.tables import BALANCER_POLICIES, BUFFER_POLICIES
from testbed.system import places
from testbed.trials.replay import replay
from tests.plugin_files import none_left, writer  # noqa: F401 (a fixture for every test)

OWN_POLICY = places.scenarios() / "plugins" / "ewma_peak.py"
SCENARIO = {
    **{"version": 1, "name": "small", "seed": 3, "duration": "300ms", "plugins": ["./own.py"]},
    "topology": {"family": "cluster", "nodes": 2, "clients": 1, "node_rate": "10Mbit"},
    "buffer": {"policy": "own", "min": "0.05MB", "max": "1MB"},
    "traffic": [{"name": "base", "from": "c1", "shape": "poisson", "rate": "12Mbit", "flows": 20}],
}
BUFFER = """
import numpy as np
from testbed.policies.buffer import BufferPolicy
{head}
class Rule:
    asks_always = False
    ticks = 0
    def __init__(self, count): self.count = count
    def initial_bytes(self): return {initial}
    def wish_bytes(self, sample, predicted_bytes, severity_ratio):
        self.ticks += 1
        return {wish}
ROWS = ({row},)
"""
ROW = 'BufferPolicy(name="own", doc="of a test", rule=lambda spec, count, members, ops: Rule(count))'
GOOD = {"head": "", "initial": "np.full(self.count, 60000)", "wish": "0 * sample.backlog_bytes + 70000", "row": ROW}
BALANCER = """
import numpy as np
from testbed.policies.balancer_view import BalancerRow
class First:
    heeds_state = True
    def slots(self, current, view): return {slots}
ROWS = (BalancerRow(name="own-first", doc="all to the first that serves", rule=lambda slots, nodes, rng: First()),)
"""
FAMILY = """
from testbed.scenario.tables import FamilyTraits
from testbed.topologies import cluster
ROWS = (FamilyTraits(name="own-pair", doc="two nodes", describe=cluster.describe, defaults={"nodes": 2, "clients": 1}),)
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    return writer(tmp_path, SCENARIO)


def good(**changes: str) -> str:
    return BUFFER.format(**{**GOOD, **changes})


def shell(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "testbed", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=cwd)


def test_a_policy_outside_the_tree_runs_replays_and_is_kept_with_the_run(written: Callable[..., Path]) -> None:
    path = written(good())
    run = testbed.simulate(path, out=path.parent / "run")
    assert run.verdict == "VALID"
    assert run.summary["buffer"]["policy"] == "own"
    copy = run.path / run.scenario["plugins"][0]
    assert copy.read_bytes() == (path.parent / "own.py").read_bytes()
    assert run.manifest["hashes"]["plugin/own.py"].startswith("sha256:")
    (path.parent / "own.py").unlink()
    assert replay(run.path) is None


def test_a_run_replays_with_its_copy_whatever_the_file_has_become(written: Callable[..., Path]) -> None:
    path = written(good())
    run = testbed.simulate(path, out=path.parent / "run")
    (path.parent / "own.py").write_text(good(wish="0 * sample.backlog_bytes + 90000"))
    assert replay(run.path) is None
    other = testbed.simulate(path, out=path.parent / "other")
    assert list(other.events("SetBufferLimit")) != list(run.events("SetBufferLimit"))


def test_a_balancer_and_a_family_come_in_the_same_way(written: Callable[..., Path]) -> None:
    slots = "np.full(len(current), int(np.flatnonzero(view.serving)[0]))"
    path = written(good(), plugins=["./own.py", "./balancer.py", "./family.py"], topology={"family": "own-pair"})
    (path.parent / "balancer.py").write_text(BALANCER.format(slots=slots))
    (path.parent / "family.py").write_text(FAMILY)
    run = testbed.simulate(testbed.load(path, set={"balancer.policy": "own-first"}), out=path.parent / "run")
    table = run.samples.to_pydict()
    arrived = dict.fromkeys(table["node"], 0)
    for node, count in zip(table["node"], table["arrived_pkts"], strict=True):
        arrived[node] += count
    assert arrived["n1"] > 2 * arrived["n2"]
    assert replay(run.path) is None


def test_options_are_those_of_the_plug_in(tmp_path: Path) -> None:
    scenario = places.scenarios() / "plugins" / "own-policy.yaml"
    assert testbed.load(scenario, set={"buffer.options.alpha": 0.5}).scenario.buffer.options == {"alpha": 0.5}
    with pytest.raises(TestbedError, match=r"options\.alhpa of ewma-peak.*its options: alpha, margin"):
        testbed.load(scenario, set={"buffer.options.alhpa": 0.5})
    with pytest.raises(TestbedError, match=r"options\.alpha"):
        testbed.load(scenario, set={"buffer.options.alpha": 2})


def test_nothing_is_executed_without_consent(written: Callable[..., Path], tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    path = written(f"import pathlib; pathlib.Path({str(executed)!r}).touch()\n" + good())
    done = shell("validate", path)
    assert done.returncode == 2
    assert "small.yaml" in done.stderr
    assert "a plug-in is code" in done.stderr
    assert not executed.exists()
    assert shell("validate", "--plugins", "allow", path).returncode == 0
    assert executed.exists()
    run = testbed.simulate(path, out=tmp_path / "run")
    executed.unlink()
    assert shell("replay", run.path).returncode == 2
    assert not executed.exists()
    assert shell("replay", "--plugins", "allow", run.path).returncode == 0


def test_a_file_of_the_command_line_serves_a_scenario_that_names_none(written: Callable[..., Path]) -> None:
    path = written(good(), plugins=[])
    assert "own" in shell("simulate", path, "--out", path.parent / "x").stderr
    done = shell("simulate", path, "--plugin", path.parent / "own.py", "--out", path.parent / "run", "--quiet")
    assert done.returncode == 0, done.stderr
    assert list((path.parent / "run" / "plugins").iterdir())


def test_an_installed_package_brings_a_policy_and_its_file_is_executed_once(tmp_path: Path) -> None:
    count = tmp_path / "count"
    (tmp_path / "brought.py").write_text(f"open({str(count)!r}, 'a').write('x')\n" + good())
    about = tmp_path / "brought-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[testbed.plugins]\nany = brought\n")
    argv = [sys.executable, "-m", "testbed", "list", "policies", "--json"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "own" in {line["name"] for line in json.loads(done.stdout)}
    assert count.read_text() == "x"


def test_a_sweep_holds_a_plug_in_against_ours_and_notices_when_it_changes(written: Callable[..., Path]) -> None:
    path = written(good(), duration="100ms")
    sweep = path.parent / "two.yaml"
    sweep.write_text(
        "# Which?\nversion: 1\nname: two\nscenario: small.yaml\nset: {buffer.policy: [own, reactive]}\nseeds: [1]\n"
    )
    swept = testbed.sweep(sweep, engine="simulation", out=path.parent / "out")
    assert [row["parameters"]["buffer.policy"] for row in swept.rows] == ["own", "reactive"]
    (path.parent / "own.py").write_text(good(wish="0 * sample.backlog_bytes + 90000"))
    with pytest.raises(TestbedError, match=r"plugin/own\.py"):
        testbed.sweep(sweep, engine="simulation", out=path.parent / "out")


BROKEN = {
    "syntax": ("def x(:\n", 2, "own.py: line 1: SyntaxError"),
    "import": ("import nothing_of_the_kind\n", 2, "own.py: line 1: ModuleNotFoundError"),
    "raises": ("x = 1\nraise ValueError('no')\n", 2, "own.py: line 2: ValueError: no"),
    "leaves": ("import sys\nsys.exit(0)\n", 2, "own.py: line 2: SystemExit"),
    "no rows": ("x = 1\n", 2, "declares no ROWS"),
    "another row": (good(row="42"), 2, "hold a int"),
    "no doc": (good(row=ROW.replace("of a test", "")), 2, "its doc is empty"),
    "name of ours": (good(row=ROW.replace('"own"', '"lstm"')), 2, "this name is already in use"),
    "shape": (good(wish="np.zeros(7)"), 4, "Rule.wish_bytes: it returned sizes of shape [7]"),
    "NaN": (good(wish="sample.backlog_bytes * float('nan')"), 4, "that are no numbers"),
    "negative": (good(wish="0 * sample.backlog_bytes - 5"), 4, "negative sizes: -5 bytes"),
    "text": (good(wish="'large'"), 4, "not numbers"),
    "nothing": (good(wish="None"), 4, "not numbers"),
    "first sizes": (good(initial="np.zeros(self.count + 1)"), 4, "Rule.initial_bytes: it returned sizes of shape"),
    "tick 20": (good(wish="[0][self.ticks // 20] + 0 * sample.backlog_bytes"), 4, "own.py, line 12, in wish_bytes"),
    "signature": (good(row=ROW.replace("spec, count, members, ops", "spec, count")), 4, "own.py"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plug_in_is_named_with_its_line_and_never_taken_for_ours(
    written: Callable[..., Path], name: str
) -> None:
    source, code, said = BROKEN[name]
    path = written(source)
    done = shell("simulate", path, "--out", path.parent / "run")
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "own.py" in done.stderr
    assert "our own bug" not in done.stderr
    summary = path.parent / "run" / "summary.json"
    assert not summary.exists() or json.loads(summary.read_text())["verdict"] != "VALID"


@pytest.mark.parametrize(
    ("slots", "said"),
    [
        ("np.zeros(3, dtype=int)", "slots of shape"),
        ("np.full(len(current), 9)", "a slot for node 9 of 2"),
        ("np.zeros(len(current))", "not whole numbers"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_broken_balancer_is_named(written: Callable[..., Path], slots: str, said: str) -> None:
    path = written(BALANCER.format(slots=slots), buffer={"policy": "static-min"}, balancer={"policy": "own-first"})
    with pytest.raises(TestbedError) as raised:
        testbed.simulate(path, out=path.parent / "run")
    assert said in str(raised.value) or said in str(raised.value.__cause__) or isinstance(raised.value, PolicyError)


def test_two_plug_ins_of_one_name_are_refused(written: Callable[..., Path]) -> None:
    path = written(good(), plugins=["./own.py", "./again.py"])
    (path.parent / "again.py").write_text(good())
    with pytest.raises(TestbedError, match="declares the same name"):
        loading.load(path)


def test_a_plug_in_too_large_or_missing_is_refused(
    written: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(good(), plugins=["./nothing.py"])
    with pytest.raises(TestbedError, match="there is no such file"):
        loading.load(path)
    monkeypatch.setattr(plugins, "MAX_BYTES", 10)
    with pytest.raises(TestbedError, match="larger than 10 bytes"):
        loading.load(written(good()))
    assert Source(path, "").exists()


def test_a_row_that_came_in_is_not_ours() -> None:
    plugins.load(OWN_POLICY)
    assert not BUFFER_POLICIES.is_ours("ewma-peak")
    assert BUFFER_POLICIES.is_ours("lstm")
    assert BALANCER_POLICIES.is_ours("hash")


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_a_policy_outside_the_tree_runs_on_the_real_kernel(written: Callable[..., Path]) -> None:
    path = written(good(), duration="500ms")
    run = testbed.run(path, out=path.parent / "run")
    assert run.summary["traffic"]["unaccounted_packets"] == 0
    assert {limit for event in run.events("SetBufferLimit") for limit in event["limit_bytes"]} == {70000}
    assert replay(run.path) is None


def test_a_link_to_itself_is_refused_in_words(tmp_path: Path) -> None:
    """`Path.resolve` raises RuntimeError for one."""
    (tmp_path / "loop.py").symlink_to("loop.py")
    with pytest.raises(InputError, match="symbolic link"):
        plugins.load(tmp_path / "loop.py")
