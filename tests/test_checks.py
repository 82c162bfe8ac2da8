"""One entry point for checks without running: `validate`, sweeps and runs refuse the same, for the same engine."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed import topologies
from testbed.emulation import bounds as emulated
from testbed.emulation import supervisor
from testbed.emulation.dataplane import xdp_abi
from testbed.engine import TrialPlan
from testbed.errors import InputError
from testbed.scenario.buffer import MAX_BUFFER_BYTES
from testbed.scenario.document import parse_value
from testbed.scenario.loading import load
from testbed.scenario.overrides import Setting
from testbed.traffic.plan import make_plan
from testbed.trials import checks, sweep
from testbed.trials.run import RunOptions, run

SCENARIO = """\
version: 1
name: tiny
duration: 200ms
topology: {family: cluster, nodes: 3, clients: 2, node_rate: 10Mbit}
buffer: {policy: static-min}
traffic:
  - {name: base, from: c1, shape: poisson, rate: 5Mbit, flows: 20}
"""
CONSTANT = "{{name: {name}, from: {client}, shape: constant, rate: {rate}, flows: {flows}, packet: {packet}}}"
BURSTS = "{{name: bursts, from: c2, shape: on-off, on: {on}, off: {off}, peak: {peak}, flows: {flows}}}"


def constant(name="base", client="c1", rate="1Mbit", flows=20, packet="1000B") -> str:
    """Return a source of a constant rate."""
    return CONSTANT.format(name=name, client=client, rate=rate, flows=flows, packet=packet)


def bursts(on="{constant: 10ms}", off="{constant: 10ms}", peak="1Mbit", flows=20) -> str:
    """Return a source of bursts."""
    return BURSTS.format(on=on, off=off, peak=peak, flows=flows)


def traffic(*sources: str) -> str:
    """Return the setting of these sources."""
    return f"traffic=[{', '.join(sources)}]"


@pytest.fixture
def scenario(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO)
    return path


BOTH = {
    "buffer beyond a node's": ["buffer.max=2GB"],
    "threshold beyond a node's": ["buffer.ecn_threshold=1.1GB"],
    "rate": ["traffic.base.rate=1000Gbit"],
    "peak": [traffic(bursts(peak="101Gbit"))],
    "node rate": ["topology.node_rate=101Gbit"],
    "link delay": ["topology.link_delay=11s"],
    "no packet": ["traffic.base.rate=1bit"],
    "no packet at a constant rate": [traffic(constant(rate="1kbit"))],
    "no packet since no burst comes": [traffic(bursts(off="{constant: 1h}", peak="90Gbit"))],
    "source ports": [traffic(*(constant(f"s{k}", flows=20_000) for k in range(3)))],
    "source ports of many": [traffic(*(constant(f"s{k}", flows=100) for k in range(600)))],
    "too many sources": [traffic(*(constant(f"s{k}", flows=1) for k in range(1001)))],
    "too many packets": [traffic(constant(rate="90Gbit", packet="74B")), "duration=1s"],
    "too many packets together": [
        traffic(*(constant(name, rate="20Gbit", packet="74B") for name in ("a", "b"))),
        "duration=1s",
    ],
    "too many bursts": [traffic(bursts("{constant: 1ns}", "{constant: 1ns}"))],
    "more flows a burst than there are": [traffic(bursts(flows=5))],
    "frames larger than the largest": ["traffic.base.packet=3501B"],
    "frames smaller than their headers": ["traffic.base.packet=93B", "traffic.base.ip=6"],
    "a name twice": [traffic(constant(), constant(client="c2"))],
    "a client that is not there": [traffic(constant(client="c3"))],
    "nodes": ["topology.nodes=1001"],
    "nodes of a single one": ["topology.family=single", "topology.clients=1"],
    "nothing to deflect to": ["topology.family=single", "topology.nodes=1", "buffer.deflect=true"],
    "a fault after the end": ["faults=[{at: 200ms, crash: n1}]"],
    "a fault of nobody": ["faults=[{at: 1ms, crash: ''}]"],
    "a fault of no link": ["faults=[{at: 1ms, link_down: ''}]"],
    "a flap that flaps too often": ["faults=[{at: 1ms, flap: s1-n1, for: 1h, period: 2ms}]"],
    "an expectation of nothing": ["expect=[nothing.here == 0]"],
    "a trace that is not there": ["traffic=[{name: t, from: c1, trace: none.csv}]"],
    "a trace that is too short": ["traffic=[{name: t, from: c1, trace: short.csv}]"],
    "a trace without a packet": ["traffic=[{name: t, from: c1, trace: small.csv}]"],
    "a trace whose packets come later": ["traffic=[{name: t, from: c1, trace: late.csv}]"],
}
ONLY_EMULATED = {
    "TCP": [traffic(constant(), "{name: bulk, from: c1, shape: tcp}")],
    "per-flow": ["balancer.policy=per-flow"],
    "a large mesh": ["topology.nodes=301", "faults=[{at: 1ms, crash: n1}]"],
    "hogs": ["faults=[{at: 1ms, cpu_hog: 2, for: 1ms}]"],
    "loss beside deflection": ["buffer.deflect=true", "faults=[{at: 1ms, loss: s1-n1, ratio: 0.5}]"],
}
ONLY_SIMULATED = {"fast nodes": ["topology.node_rate=35Gbit"], "slow nodes": ["topology.node_rate=999bit"]}


def _traces(folder: Path) -> None:
    (folder / "short.csv").write_text("time_s,bytes\n0,9000\n0.05,9000\n0.1,9000\n")
    (folder / "small.csv").write_text("time_s,bytes\n0,900\n0.3,90\n")
    (folder / "late.csv").write_text("time_s,bytes\n0,900\n0.3,9000\n")


def checked(path: Path, settings: list[str], engine) -> str:
    """Return why the checks refuse, "" when they do not."""
    try:
        checks.check(load(path, settings), engine)
    except InputError as error:
        return str(error)
    return ""


def refused(path: Path, settings: list[str]) -> str:
    """Return why a simulation refuses to begin, "" when it does not."""
    try:
        run(load(path, settings), RunOptions("simulation", path.parent / "run", live=False, quiet=True))
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("settings", BOTH.values(), ids=list(BOTH))
def test_what_no_engine_runs_is_refused_by_the_checks_as_by_a_run(scenario, settings):
    _traces(scenario.parent)
    assert checked(scenario, settings, "emulation")
    assert checked(scenario, settings, "simulation")
    assert refused(scenario, settings) == checked(scenario, settings, "simulation")
    assert not (scenario.parent / "run").exists()


@pytest.mark.parametrize("settings", ONLY_EMULATED.values(), ids=list(ONLY_EMULATED))
def test_what_only_the_emulation_runs_is_refused_for_the_simulation(scenario, settings):
    assert checked(scenario, settings, "emulation") == ""
    assert "use --engine emulation" in checked(scenario, settings, "simulation") or "fewer nodes" in checked(
        scenario, settings, "simulation"
    )
    assert refused(scenario, settings) == checked(scenario, settings, "simulation")


@pytest.mark.parametrize("settings", ONLY_SIMULATED.values(), ids=list(ONLY_SIMULATED))
def test_what_only_the_simulation_runs_is_refused_for_the_emulation(scenario, settings):
    assert checked(scenario, settings, "simulation") == ""
    assert "use --engine simulation" in checked(scenario, settings, "emulation")
    loaded = load(scenario, settings).scenario
    network = topologies.describe(loaded.topology)
    plan = TrialPlan(loaded, network, make_plan(loaded, network, scenario.parent), None, None, None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="topology.node_rate"):
        supervisor.emulate(plan, None)  # type: ignore[arg-type]


def test_bounds_of_the_specification_are_those_of_the_engines():
    assert MAX_BUFFER_BYTES == xdp_abi.QUEUE_CAP_BYTES
    assert emulated.LARGEST_RATE_BPS // 8 < 2**32


rates = st.sampled_from(["1bit", "1kbit", "10kbit", "99kbit", "1Mbit"])
lengths = st.sampled_from(["1ns", "1us", "1ms", "50ms", "1s", "1h"])
periods = st.one_of(
    st.builds("{{constant: {}}}".format, lengths),
    st.builds("{{exponential: {{mean: {}}}}}".format, lengths),
    st.builds("{{pareto: {{mean: {}, alpha: {}}}}}".format, lengths, st.sampled_from(["1.01", "1.5", "1e9"])),
)
sources = st.one_of(st.builds(constant, rate=rates), st.builds(bursts, periods, periods, rates))


@given(sources, st.integers(0, 50))
def test_what_the_checks_let_pass_can_be_planned(tmp_path_factory, source, seed):
    path = tmp_path_factory.mktemp("checks") / "tiny.yaml"
    path.write_text(SCENARIO)
    loaded = load(path, [traffic(source)], seed)
    with contextlib.suppress(InputError):
        checks.check(loaded, "simulation")
        network = topologies.describe(loaded.scenario.topology)
        assert len(make_plan(loaded.scenario, network, path.parent))
        return
    with pytest.raises(InputError):
        make_plan(loaded.scenario, topologies.describe(loaded.scenario.topology), path.parent)


def test_everything_that_is_wrong_is_told_at_once_with_its_line(scenario):
    _traces(scenario.parent)
    text = scenario.read_text().replace(
        "base, from: c1, shape: poisson, rate: 5Mbit", "base, from: c1, trace: short.csv"
    )
    scenario.write_text(text + "expect: [nothing.here == 0]\nbalancer: {policy: per-flow}\n")
    lines = checked(scenario, [], "simulation").splitlines()
    where = [line.partition("tiny.yaml:")[2].split(": ")[:2] for line in lines]
    assert where == [["7", "traffic.0.trace"], ["8", "expect.0"], ["9", "balancer.policy"]]


# ------------------------------------------------------------------------------------------------------------ sweeps


def swept(folder: Path, **keys) -> Path:
    """Write a sweep over the scenario."""
    path = folder / "sweep.yaml"
    path.write_text(json.dumps({"version": 1, "name": "swept", "scenario": "tiny.yaml", **keys}))
    return path


def test_a_sweep_is_refused_before_its_first_trial(scenario):
    path = swept(scenario.parent, set={"buffer.max": ["1MB", "2GB"]}, seeds=[1])
    with pytest.raises(InputError, match=r"sweep\.yaml:.*buffer\.max: 2GB is more than the 1GB of a node"):
        sweep.checked(path, "simulation")


@pytest.mark.parametrize("settings", [*ONLY_EMULATED.values()], ids=list(ONLY_EMULATED))
def test_a_sweep_is_checked_for_the_engine_it_is_for(scenario, settings):
    pairs = [setting.split("=", 1) for setting in settings]
    path = swept(scenario.parent, set={key: [parse_value(value, "")] for key, value in pairs}, seeds=[1])
    sweep.checked(path, "emulation")
    out = scenario.parent / "out"
    with pytest.raises(InputError):
        sweep.sweep(path, out, "simulation", quiet=True)
    assert not out.exists()


def test_every_seed_of_a_sweep_is_checked(scenario):
    text = traffic(bursts(off="{exponential: {mean: 1s}}", peak="10Mbit")).partition("=")[2]
    value = parse_value(text, "")  # not PyYAML, to which `on` is a boolean
    said = {}
    for seed in range(1, 30):
        with contextlib.suppress(InputError):
            checks.check(load(scenario, [Setting("test", "traffic", value)], seed), "simulation")
            said[seed] = "fine"
    good, bad = min(said), min(set(range(1, 30)) - said.keys())
    sweep.checked(swept(scenario.parent, set={"traffic": [value]}, seeds=[good]), "simulation")
    with pytest.raises(InputError, match="no source sends a single packet"):
        sweep.checked(swept(scenario.parent, set={"traffic": [value]}, seeds=[good, bad]), "simulation")


def test_what_traces_were_taken_for_is_said_once_in_a_sweep(scenario):
    (scenario.parent / "t.csv").write_text("time_s,bytes\n0,9000\n0.1,9000\n0.2,9000\n")
    told: list[str] = []
    keys = {"traffic": [[{"name": "t", "from": "c1", "trace": "t.csv"}]], "buffer.policy": ["static-min", "reactive"]}
    sweep.checked(swept(scenario.parent, set=keys, seeds=[1, 2]), "simulation", told.append)
    assert [line.rpartition("read as ")[2] for line in told] == ["bins of 100ms; `rows: bursts` overrides this"]
