"""Shapes of traffic and metrics of a plug-in: planned, counted and kept as ours; broken ones end clearly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import testbed
from testbed.errors import TestbedError
from testbed.scenario import loading
from testbed.trials.replay import replay
from tests.plugin_files import none_left, writer  # noqa: F401 (a fixture for every test)

SCENARIO = {
    **{"version": 1, "name": "small", "seed": 3, "duration": "300ms", "plugins": ["./own.py"]},
    "topology": {"family": "cluster", "nodes": 2, "clients": 1, "node_rate": "10Mbit"},
    "traffic": [{"name": "base", "from": "c1", "shape": "poisson", "rate": "12Mbit", "flows": 20}],
}
SHAPE = """
import numpy as np
from pydantic import Field
from testbed.scenario.base import Spec
from testbed.scenario.tables import TRAFFIC_SHAPES, options_of
from testbed.traffic.shape import Packets, Shape, gap_ns, spread
class Options(Spec):
    lull: int = Field(2, ge=1)
def saw(source, duration_ns, seed):
    options = options_of(TRAFFIC_SHAPES[source.shape], source.options)
    t_ns = np.arange(0, duration_ns, int(gap_ns(source, source.rate_bps)) * options.lull)
    return {packets}
ROWS = (Shape(name="saw", doc="every other packet", options=Options, packets=saw{more}),)
"""
SAW = {"name": "saw", "from": "c1", "shape": "saw", "rate": "8Mbit", "flows": 20}
METRIC = """
from testbed.results.metrics import Metric
def peak(run): return {count}
ROWS = (Metric(name="{name}", unit="furlongs", doc="of a test", section="Mine", label="highest", count=peak{more}),)
"""
PEAK = {"count": "max(int(rows.arrived_bytes.max()) for rows in run.rows.values())", "name": "own.peak", "more": ""}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    return writer(tmp_path, SCENARIO)


def shaped(written: Callable[..., Path], source: dict[str, object] = SAW, **changes: str) -> Path:
    text = SHAPE.format(**{"packets": "spread(source, t_ns, seed)", "more": "", **changes})
    return written(text, buffer={"policy": "static-min"}, traffic=[source])


def measured(written: Callable[..., Path], expect: str = "own.peak > 0", **changes: str) -> Path:
    return written(METRIC.format(**{**PEAK, **changes}), buffer={"policy": "static-min"}, expect=[expect])


def test_a_shape_of_a_plug_in_is_planned_from_its_options_and_kept(written: Callable[..., Path]) -> None:
    path = shaped(written, {**SAW, "options": {"lull": 3}})
    run = testbed.simulate(path, out=path.parent / "run")
    assert run.summary["traffic"]["sent_packets"] == 100  # 300 ms of 1 ms each, every third
    assert run.manifest["hashes"]["plugin/own.py"].startswith("sha256:")
    assert replay(run.path) is None
    (path.parent / "own.py").unlink()
    again = testbed.simulate(run.path / "scenario.yaml", out=path.parent / "again")
    assert again.manifest["hashes"]["plan"] == run.manifest["hashes"]["plan"]


def test_a_shape_that_there_is_not_is_told_from_those_there_are(written: Callable[..., Path]) -> None:
    with pytest.raises(TestbedError, match=r"shape: expected one of poisson, .*, saw, got 'sow'; did you mean 'saw'"):
        loading.load(shaped(written, {**SAW, "shape": "sow"}))
    with pytest.raises(TestbedError, match=r"options\.lul of saw.*its options: lull"):
        loading.load(shaped(written, {**SAW, "options": {"lul": 3}}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"packets": "t_ns"}, "a ndarray, not Packets"),
        ({"packets": "Packets(t_ns / 2, 0 * t_ns)"}, "t_ns of type float64"),
        ({"packets": "Packets(t_ns[::-1], 0 * t_ns)"}, "times that decrease"),
        ({"packets": "Packets(t_ns + duration_ns, 0 * t_ns)"}, "not within the run"),
        ({"packets": "Packets(t_ns, 0 * t_ns[1:])"}, "150 times, but 149 flows"),
        ({"packets": "Packets(t_ns, 0 * t_ns + 20)"}, "flow 20 of a source with 20"),
        ({"packets": "1 / 0"}, "own.py, line 12, in saw"),
        ({"more": ", expected=lambda *_: float('nan')"}, "nan, not a number of packets"),
        ({"more": ", expected=lambda: 1"}, "own.py"),
    ],
)
def test_a_broken_shape_is_named(written: Callable[..., Path], changes: dict[str, str], said: str) -> None:
    path = shaped(written, **changes)
    with pytest.raises(TestbedError) as raised:
        testbed.simulate(path, out=path.parent / "run")
    assert said in str(raised.value)
    assert raised.value.exit_code in (2, 4)


def test_a_metric_of_a_plug_in_is_counted_expected_and_shown(written: Callable[..., Path]) -> None:
    path = measured(written)
    run = testbed.simulate(path, out=path.parent / "run")
    assert run.summary["own"]["peak"] > 0
    assert run.passed
    assert "highest" in run._repr_html_()
    assert "highest" in (run.path / "report.html").read_text()
    other = testbed.simulate(written(METRIC.format(**PEAK), buffer={"policy": "static-min"}), out=path.parent / "other")
    assert "own" in other.summary
    (path.parent / "own.py").unlink()
    plain = yaml.safe_dump({**SCENARIO, "plugins": [], "buffer": {"policy": "static-min"}})
    path.write_text(plain)
    assert "own" not in testbed.simulate(path, out=path.parent / "plain").summary


def test_a_metric_may_say_that_it_does_not_apply(written: Callable[..., Path]) -> None:
    path = measured(written, count="None")
    run = testbed.simulate(path, out=path.parent / "run")
    assert "own" not in run.summary
    assert not run.passed


def test_a_metric_reads_the_events_as_often_as_it_likes(written: Callable[..., Path]) -> None:
    path = measured(written, count="sum(1 for _ in run.events) - sum(1 for _ in run.events)", expect="own.peak == 0")
    assert testbed.simulate(path, out=path.parent / "run").passed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"count": "'high'"}, "'high' for own.peak, not a number"),
        ({"count": "True"}, "True for own.peak"),
        ({"count": "float('nan')"}, "nan for own.peak"),
        ({"count": "run.nothing"}, "own.py, line 3, in peak"),
        ({"count": "run.summary['nothing']"}, "own.py, line 3, in peak"),
        ({"name": "buffer.loss_ratio"}, "this name is already in use"),
        ({"name": "buffer"}, "exclude each other"),
        ({"name": "setup_s.mine"}, "setup_s exclude each other"),
        ({"name": "Own-Peak"}, "lower-case words"),
        ({"more": ", key='x'"}, "key and column go together"),
        ({"more": ", key='loss_ratio', column='x'"}, "that of another metric"),
        ({"more": ", line='{nothing}'"}, "no other brace"),
    ],
)
def test_a_broken_metric_is_named(written: Callable[..., Path], changes: dict[str, str], said: str) -> None:
    path = measured(written, **changes)
    with pytest.raises(TestbedError) as raised:
        testbed.simulate(path, out=path.parent / "run")
    assert said in str(raised.value)
    assert "own.py" in str(raised.value)
    assert raised.value.exit_code in (2, 4)
    assert not (path.parent / "run" / "summary.json").exists()


@pytest.mark.parametrize("traits", ["BufferTraits", "BalancerTraits", "ShapeTraits"])
def test_a_row_that_says_nothing_of_how_it_is_made_is_refused(written: Callable[..., Path], traits: str) -> None:
    source = f"from testbed.scenario.tables import {traits}\nROWS = ({traits}(name='own', doc='of a test'),)\n"
    with pytest.raises(TestbedError, match="which is only a base class"):
        loading.load(written(source))
