"""Correction around a forecaster: honest in the long run, replayable."""

from __future__ import annotations

import numpy as np

from testbed.policies.forecast_corrected import MAX_THETA, CorrectedForecaster, Hindsight
from testbed.records.events import ForecastMade, TrafficSampled

RATE = np.array([8_000_000], dtype=np.int64)  # 10,000 bytes an interval
INTERVAL_NS = 10_000_000
UNIT = 10_000
HORIZONS = (INTERVAL_NS, 5 * INTERVAL_NS)


def sample(arrived: int, backlog: int) -> TrafficSampled:
    zero, one = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    return TrafficSampled(
        nodes=("n1",),
        interval_ns=INTERVAL_NS,
        arrived_bytes=arrived * one,
        arrived_pkts=zero,
        dropped_bytes=zero,
        dropped_pkts=zero,
        backlog_bytes=backlog * one,
        limit_bytes=zero,
        new_flows=zero,
        gap_max_ns=zero,
        peak_1ms_bytes=zero,
    )


class Says:
    """Forecasts a fixed growth over the backlog, in intervals."""

    horizon_ns = HORIZONS

    def __init__(self, growth: float) -> None:
        self._growth = growth

    def step(self, seen: TrafficSampled, now_ns: int) -> ForecastMade:
        need = np.repeat(seen.backlog_bytes[:, None] + round(self._growth * UNIT), 2, axis=1)
        return ForecastMade(nodes=seen.nodes, horizon_ns=HORIZONS, need_bytes=need, onset_ratio=np.zeros(1))


def random_walk(count: int, seed: int = 1) -> list[TrafficSampled]:
    rng, backlog, made = np.random.default_rng(seed), 0, []
    for arrived in rng.exponential(0.9 * UNIT, count).astype(int):
        backlog = max(0, backlog + int(arrived) - UNIT)
        made.append(sample(int(arrived), backlog))
    return made


def grown(forecaster: CorrectedForecaster, samples: list[TrafficSampled]) -> np.ndarray:
    made = [forecaster.step(one, step * INTERVAL_NS).need_bytes[0] for step, one in enumerate(samples)]
    return np.array(made) - np.array([one.backlog_bytes for one in samples])


def test_hindsight_tells_the_peak_that_came() -> None:
    hindsight = Hindsight(RATE, INTERVAL_NS, HORIZONS)
    arrivals = [0, 30_000, 0, 25_000, 0, 0]
    seen = []
    backlog = 0
    for step, arrived in enumerate(arrivals):
        backlog = max(0, backlog + arrived - UNIT)
        past = hindsight.arrived(sample(arrived, backlog))
        hindsight.said(np.full((1, 2), float(step)), np.array([backlog]))
        seen.append(past)
    assert seen[:5] == [None] * 5
    said, came = seen[5]  # of the forecast at sample 0, backlog 0: 2 intervals after one sample, 2.5 within five
    assert said.tolist() == [[0.0, 0.0]]
    assert came.tolist() == [[2.0, 2.5]]


def test_a_promise_too_large_shrinks_and_one_too_small_grows() -> None:
    samples = random_walk(1500)
    for growth, grows in ((12.0, False), (0.4, True)):
        made = grown(CorrectedForecaster(Says(growth), RATE, INTERVAL_NS, 0.95), samples)
        assert (made[-1, 0] > made[0, 0]) is np.bool_(grows)
        assert np.all(made <= np.exp(MAX_THETA) * growth * UNIT + 1)


def test_misses_come_out_at_the_quantile() -> None:
    samples = random_walk(6000)
    arrived = np.array([int(one.arrived_bytes[0]) for one in samples])
    made = grown(CorrectedForecaster(Says(1.0), RATE, INTERVAL_NS, 0.9), samples)[:-1, 0]
    backlog = np.array([int(one.backlog_bytes[0]) for one in samples])
    came = np.maximum(np.maximum(backlog[:-1] + arrived[1:] - UNIT, 0) - backlog[:-1], 0)
    assert abs(float(np.mean(came[1000:] <= made[1000:])) - 0.9) < 0.02


def test_the_same_samples_give_the_same_forecasts() -> None:
    samples = random_walk(300)
    first, second = (grown(CorrectedForecaster(Says(1.0), RATE, INTERVAL_NS, 0.95), samples) for _ in range(2))
    assert first.tolist() == second.tolist()
