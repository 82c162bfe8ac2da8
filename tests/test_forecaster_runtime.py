"""The forecaster of the node: equal to torch, independent of company, quiet at first, and free of torch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from testbed.forecaster.data.generate import TrafficProfile, generate
from testbed.forecaster.runtime.cell import Cell, run_series
from testbed.forecaster.runtime.features import FEATURES, FeatureExtractor
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES, MOST_GROWTH
from testbed.forecaster.runtime.lstm import WARM_UP_SAMPLES, LstmForecaster, Model, load_model
from testbed.records.events import MEASURED, ForecastMade, TrafficSampled
from tests.traffic_samples import of_columns

INTERVAL_NS = 10_000_000


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model()


def samples(nodes: int, steps: int, seed: int = 1, scale: int = 1) -> list[TrafficSampled]:
    rng = np.random.default_rng(seed)
    names = tuple(f"n{index + 1}" for index in range(nodes))
    rows = rng.integers(0, 100_000, (steps, 9, nodes))
    rows[:, :5] *= scale
    rows[:, 8] *= scale
    rows[:, 6] %= 10
    return [of_columns(names, INTERVAL_NS, *row) for row in rows]


def forecasts(model: Model, history: list[TrafficSampled], rate_bps: int = 40_000_000) -> list[ForecastMade]:
    names = history[0].nodes
    forecaster = LstmForecaster(model, names, np.full(len(names), rate_bps), INTERVAL_NS)
    return [forecaster.step(sample, index * INTERVAL_NS) for index, sample in enumerate(history)]


@pytest.mark.requires("torch")
def test_torch_and_the_cell_agree(model: Model) -> None:
    import torch

    from testbed.forecaster.training.network import ForecastNetwork

    network = ForecastNetwork(FEATURES, model.hidden, len(HORIZON_SAMPLES)).eval()
    weights = {
        "lstm.weight_ih_l0": model.weight_ih,
        "lstm.weight_hh_l0": model.weight_hh,
        "lstm.bias_ih_l0": model.bias,
        "lstm.bias_hh_l0": np.zeros_like(model.bias),
        "head.weight": model.head_weight,
        "head.bias": model.head_bias,
    }
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    inputs = np.random.default_rng(1).uniform(0, 4, (5, 300, FEATURES)).astype(np.float32)
    with torch.no_grad():
        growth, logits, _ = network(torch.from_numpy(inputs))
    ours, our_logits = run_series(model, inputs)
    scale = np.maximum(1, np.abs(ours))
    assert np.abs((growth.numpy() - ours) / scale).max() < 1e-5
    assert np.abs((logits.numpy() - our_logits) / np.maximum(1, np.abs(our_logits))).max() < 1e-5


def test_the_cell_is_the_lstm_of_the_textbook(model: Model) -> None:
    inputs = np.random.default_rng(2).uniform(0, 4, (1, 30, FEATURES)).astype(np.float32)
    hidden = cell = np.zeros(model.hidden)
    for row in inputs[0].astype(np.float64):
        gates = model.weight_ih @ row + model.weight_hh @ hidden + model.bias
        into, forget, candidate, output = np.split(gates, 4)
        cell = cell / (1 + np.exp(-forget)) + np.tanh(candidate) / (1 + np.exp(-into))
        hidden = np.tanh(cell) / (1 + np.exp(-output))
    raw = model.head_weight @ hidden + model.head_bias
    steps = (raw[: len(HORIZON_SAMPLES)] + np.sqrt(raw[: len(HORIZON_SAMPLES)] ** 2 + 1)) / 2
    growth, logits = run_series(model, inputs)
    assert growth[0, -1] == pytest.approx(np.minimum(np.cumsum(steps), np.log1p(MOST_GROWTH)), abs=1e-4)
    assert logits[0, -1] == pytest.approx(raw[len(HORIZON_SAMPLES) :], abs=1e-4)


def test_a_node_alone_is_forecast_as_in_company(model: Model) -> None:
    history = samples(7, 60)
    together = forecasts(model, history)
    for node in (0, 3, 6):
        columns = [[getattr(s, name)[node : node + 1] for name in MEASURED] for s in history]
        alone = forecasts(model, [of_columns((f"n{node + 1}",), INTERVAL_NS, *row) for row in columns])
        for one, all_ in zip(alone, together, strict=True):
            # A product of other shape may differ in its last digits: a step of rounding at most.
            assert np.abs(one.need_bytes[0] - all_.need_bytes[node]).max() <= 1000
            assert one.onset_ratio[0] == pytest.approx(all_.onset_ratio[node], abs=2e-4)


def test_forecasts_repeat_exactly_and_come_in_whole_kilobytes(model: Model) -> None:
    first, again = (forecasts(model, samples(3, 80)) for _ in range(2))
    assert first == again
    assert all((made.need_bytes % 1000 == 0).all() for made in first)


def test_no_forecast_before_enough_samples(model: Model) -> None:
    made = forecasts(model, samples(2, WARM_UP_SAMPLES + 1))
    for early in made[: WARM_UP_SAMPLES - 1]:
        assert not early.need_bytes.any()
        assert not early.onset_ratio.any()
    assert made[WARM_UP_SAMPLES - 1].need_bytes.all()


def test_need_covers_the_backlog_and_grows_with_the_horizon(model: Model) -> None:
    history = samples(5, 100)
    for sample, made in list(zip(history, forecasts(model, history), strict=True))[WARM_UP_SAMPLES:]:
        assert made.need_bytes.shape == (5, len(HORIZON_SAMPLES))
        assert (made.need_bytes >= sample.backlog_bytes[:, None] - 500).all()
        assert (np.diff(made.need_bytes, axis=1) >= 0).all()
        assert ((made.onset_ratio >= 0) & (made.onset_ratio <= 1)).all()


def test_a_faster_link_needs_proportionally_more(model: Model) -> None:
    slow = forecasts(model, samples(2, 60))[-1].need_bytes
    fast = forecasts(model, samples(2, 60, scale=25), 25 * 40_000_000)[-1].need_bytes
    assert fast == pytest.approx(25 * slow, rel=0.02, abs=25_000)


def test_horizons_are_counted_in_samples(model: Model) -> None:
    forecaster = LstmForecaster(model, ("n1",), np.array([10**7]), 2_000_000)
    assert forecaster.horizon_ns == tuple(2_000_000 * count for count in HORIZON_SAMPLES)


def test_a_forecast_is_not_changed_by_later_steps(model: Model) -> None:
    history = samples(2, 60)
    forecaster = LstmForecaster(model, history[0].nodes, np.full(2, 40_000_000), INTERVAL_NS)
    for index, sample in enumerate(history[:40]):
        made = forecaster.step(sample, index)
    before = made.to_record()
    for sample in history[40:]:
        forecaster.step(sample, 0)
    assert made.to_record() == before


def test_a_sample_of_other_nodes_is_refused(model: Model) -> None:
    forecaster = LstmForecaster(model, ("n1",), np.array([10**7]), INTERVAL_NS)
    with pytest.raises(ValueError, match="n2"):
        forecaster.step(of_columns(("n2",), INTERVAL_NS, *np.zeros((9, 1), np.int64)), 0)


def test_as_many_rates_as_nodes(model: Model) -> None:
    with pytest.raises(ValueError, match="2 nodes but 1"):
        LstmForecaster(model, ("n1", "n2"), np.array([10**7]), INTERVAL_NS)


def test_extreme_samples_give_finite_needs(model: Model) -> None:
    rows = np.full((40, 9, 1), 2**50)
    rows[:20] = 0
    made = forecasts(model, [of_columns(("n1",), INTERVAL_NS, *row) for row in rows])
    assert all((m.need_bytes >= 0).all() and np.isfinite(m.onset_ratio).all() for m in made)


def test_the_shipped_model_rises_before_an_announced_burst(model: Model) -> None:
    """The need at the end of a ramp is well above that of the calm before it."""
    calm, ramp = [25_000] * 100, [25_000 + 12_000 * step for step in range(1, 8)]
    names, zero = ("n1",), np.zeros(1, np.int64)
    backlog, history = 0, []
    for arrived in calm + ramp:
        backlog = max(0, backlog + arrived - 50_000)
        columns = (
            np.array([arrived]),
            zero,
            zero,
            zero,
            np.array([backlog]),
            zero,
            zero,
            zero,
            np.array([arrived // 9]),
        )
        history.append(of_columns(names, INTERVAL_NS, *columns))
    made = forecasts(model, history)
    growth = [m.need_bytes[0, 2] - s.backlog_bytes[0] for m, s in zip(made, history, strict=True)]
    assert growth[-1] > 5 * max(growth[60:100]) + 50_000


def test_generated_traffic_and_cell_fit_together(model: Model) -> None:
    traffic = generate(TrafficProfile(), 2, 100, (1,))
    cell = Cell(model, len(traffic.rate_bps))
    cell.inputs[:] = 0.5
    cell.advance()
    assert cell.growth().shape == (len(HORIZON_SAMPLES), 2)


def test_neither_runtime_nor_evaluation_imports_torch() -> None:
    modules = ("runtime.lstm", "evaluation.scoring", "training.train")
    imports = "; ".join(f"import testbed.forecaster.{name}" for name in modules)
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_need_is_the_backlog_and_the_growth_to_the_nearest_kilobyte(model: Model) -> None:
    history, rate = samples(3, 60), np.full(3, 40_000_000)
    inputs = np.empty((FEATURES, 3), dtype=np.float32)
    extractor, series = FeatureExtractor(rate, INTERVAL_NS, inputs), []
    for s in history:
        extractor.step(s.arrived_bytes, s.peak_1ms_bytes, s.backlog_bytes, s.new_flows, INTERVAL_NS)
        series.append(inputs.T.copy())
    growth, _ = run_series(model, np.stack(series, axis=1))
    exact = history[-1].backlog_bytes[:, None] + 50_000 * np.expm1(growth[:, -1].astype(np.float64))
    assert np.abs(forecasts(model, history)[-1].need_bytes - exact).max() <= 500 + 1


def test_one_node_in_plain_numbers_grows_as_in_an_array(model: Model) -> None:
    """The two ways from the head to growth are the same to the last bit."""
    cell = Cell(model, 1)
    for row in np.random.default_rng(3).uniform(0, 4, (50, FEATURES)):
        cell.inputs[:, 0] = row
        cell.advance()
        assert cell.growth()[:, 0].tolist() == cell.growth_of_one()


def test_growth_has_a_bound_whatever_the_head_says(model: Model) -> None:
    steep = dataclasses.replace(model, head_bias=np.full_like(model.head_bias, 50.0))
    growth, _ = run_series(steep, np.zeros((1, 1, FEATURES), dtype=np.float32))
    np.testing.assert_allclose(np.expm1(growth[0, 0]), MOST_GROWTH, rtol=1e-6)
