"""Parts of the predictive buffer can be left out, one at a time, and what they are worth is a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from testbed.errors import InputError
from testbed.forecaster.buffer_network import as_optioned
from testbed.forecaster.evaluation import ablations_text
from testbed.forecaster.runtime.lstm import LstmForecaster, load_model
from testbed.policies.brain import NodeBrain
from testbed.policies.buffer_rules import heeds_peers
from testbed.policies.forecast_corrected import CorrectedForecaster
from testbed.policies.forecast_gated import GatedForecaster
from testbed.records.events import PeersAssessed
from testbed.scenario.buffer import BufferSpec
from testbed.trials import ablations

SCENARIO = """\
# A question?
version: 1
name: tiny
duration: 1500ms
topology: {family: cluster, nodes: 3, clients: 2, node_rate: 20Mbit}
buffer: {min: 0.05MB, max: 1MB}
traffic:
  - {name: base, from: c1, shape: poisson, rate: 30Mbit, flows: 30, packet: 1000B}
  - name: bursts
    from: c2
    shape: on-off
    on: {exponential: {mean: 60ms}}
    off: {exponential: {mean: 200ms}}
    peak: 150Mbit
    flows: 60
    packet: 3000B
    precursor: {lead: 60ms, strength: 0.3}
"""


def buffer(**keys: object) -> BufferSpec:
    return BufferSpec.model_validate({"policy": "lstm", **keys})


def kinds(**options: object) -> list[type]:
    rate, found = np.array([10**8]), []
    inner = LstmForecaster(load_model(), ("n1",), rate, 10**7)
    forecaster: object = as_optioned(inner, buffer(options=options or None), rate, 0.95)
    while forecaster is not None:
        found.append(type(forecaster))
        forecaster = getattr(forecaster, "_inner", None)
    return found


def test_gate_and_calibration_are_options_of_the_forecaster() -> None:
    assert kinds() == [GatedForecaster, LstmForecaster]
    assert kinds(gate=False) == [LstmForecaster]
    assert kinds(coverage="adaptive") == [GatedForecaster, CorrectedForecaster, LstmForecaster]
    assert kinds(coverage="adaptive", gate=False) == [CorrectedForecaster, LstmForecaster]


def test_precursors_of_peers_can_be_left_out() -> None:
    assert heeds_peers(buffer())
    assert not heeds_peers(buffer(peers=False))
    assert not heeds_peers(buffer(precursor_gain=0.0))
    assert not heeds_peers(buffer(policy="reactive"))
    rate = np.array([10**8])
    inner = LstmForecaster(load_model(), ("n1",), rate, 10**7)
    brain = NodeBrain(("n1",), buffer(peers=False), rate, inner)
    assert not brain.heeds_peers
    assert brain.handle(PeersAssessed(nodes=("n1",), severity_ratio=np.array([1.0])), 0) == []


def test_every_part_is_compared_with_the_complete_buffer_on_the_same_packets(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(SCENARIO)
    found = ablations.ablated(path, seeds=2)
    rows = {row["part"]: row for row in found["parts"]}
    assert list(rows) == list(ablations.PARTS)
    assert rows[ablations.COMPLETE]["differences"] == []
    for part, row in rows.items():
        if part != ablations.COMPLETE:
            for index, one in enumerate(row["differences"]):
                assert one["mean"] == pytest.approx(row["means"][index] - rows[ablations.COMPLETE]["means"][index])
    reserved = ablations.FIGURES.index("reserved, MB·s")
    assert rows["no precursors"]["means"][reserved] < rows[ablations.COMPLETE]["means"][reserved]
    tables = ablations_text.as_markdown(found)
    assert all(part in tables for part in ablations.PARTS)


def test_a_scenario_that_cannot_be_simulated_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(SCENARIO.replace("30Mbit", "30Mbitten"))
    with pytest.raises(InputError, match=r"bad\.yaml"):
        ablations.ablated(tmp_path / "bad.yaml", seeds=1)
