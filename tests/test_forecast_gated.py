"""The gate behind a forecaster: shut on false alarms, open on foresight and in silence, alike for one and for many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from testbed.policies.forecast_gated import MEMORY_SAMPLES, GatedForecaster
from testbed.records.events import ForecastMade, TrafficSampled

INTERVAL_NS = 10_000_000
UNIT = 10_000  # bytes an interval at 8 Mbit/s
HORIZONS = (INTERVAL_NS, 5 * INTERVAL_NS)


class Says:
    """Forecasts a growth over the backlog, in intervals, for each node."""

    horizon_ns = HORIZONS

    def __init__(self, growth: Sequence[float]) -> None:
        self._growth = np.rint(np.array(growth) * UNIT).astype(np.int64)

    def step(self, seen: TrafficSampled, now_ns: int) -> ForecastMade:
        need = np.repeat((seen.backlog_bytes + self._growth)[:, None], 2, axis=1)
        return ForecastMade(nodes=seen.nodes, horizon_ns=HORIZONS, need_bytes=need, onset_ratio=np.zeros(len(need)))


def gated(growth: Sequence[float]) -> GatedForecaster:
    return GatedForecaster(Says(growth), np.full(len(growth), 8_000_000), INTERVAL_NS, 0.95, 1)


def samples(arrived: np.ndarray) -> list[TrafficSampled]:
    """Return what nodes see whose arrivals are the columns of `arrived`; nothing is dropped."""
    nodes = tuple(f"n{index + 1}" for index in range(arrived.shape[1]))
    zero, backlog, made = np.zeros(len(nodes), dtype=np.int64), np.zeros(len(nodes), dtype=np.int64), []
    for row in arrived:
        backlog = np.maximum(backlog + row - UNIT, 0)
        made.append(
            TrafficSampled(
                nodes=nodes,
                interval_ns=INTERVAL_NS,
                arrived_bytes=row,
                arrived_pkts=zero,
                dropped_bytes=zero,
                dropped_pkts=zero,
                backlog_bytes=backlog,
                limit_bytes=zero,
                new_flows=zero,
                gap_max_ns=zero,
                peak_1ms_bytes=zero,
            )
        )
    return made


def run(forecaster: GatedForecaster, seen: list[TrafficSampled]) -> list[ForecastMade]:
    return [forecaster.step(sample, step * INTERVAL_NS) for step, sample in enumerate(seen)]


SILENCE = np.full((3 * MEMORY_SAMPLES, 1), UNIT // 2)
SAWTOOTH = np.tile(np.repeat([[2 * UNIT], [0]], 20, axis=0), (40, 1))


def test_it_shuts_on_a_forecast_that_cries_for_nothing() -> None:
    forecaster = gated([50.0])
    made = run(forecaster, samples(SILENCE))
    assert made[0].need_bytes.tolist() == [[50 * UNIT] * 2]
    assert made[-1].need_bytes.tolist() == [[0, 0]]
    assert forecaster.closed.tolist() == [True]


def test_it_opens_again_when_the_forecast_comes_true() -> None:
    forecaster = gated([50.0])
    run(forecaster, samples(SILENCE))
    assert forecaster.closed[0]
    run(forecaster, samples(np.full((MEMORY_SAMPLES, 1), 11 * UNIT)))  # grows by 50 intervals in five
    assert not forecaster.closed[0]


@pytest.mark.parametrize(("growth", "arrived"), [(2.0, SILENCE), (5.0, SAWTOOTH)])
def test_it_stays_open_on_a_small_reserve_in_silence_and_on_a_forecast_of_use(
    growth: float, arrived: np.ndarray
) -> None:
    forecaster = gated([growth])
    run(forecaster, samples(arrived))
    assert not forecaster.closed[0]


def test_a_node_alone_is_judged_as_in_company_and_nodes_apart() -> None:
    rng = np.random.default_rng(1)
    arrived = (rng.exponential(0.9 * UNIT, (2000, 3))).astype(np.int64)
    growth = [1.0, 400.0, 5.0]
    together = gated(growth)
    made = run(together, samples(arrived))
    assert together.closed.tolist() == [False, True, False]
    for node in range(3):
        alone = run(gated(growth[node : node + 1]), samples(arrived[:, node : node + 1]))
        assert [one.need_bytes[0].tolist() for one in alone] == [one.need_bytes[node].tolist() for one in made]


def test_an_open_gate_hands_on_what_was_said_untouched() -> None:
    said = Says([1.0])
    (sample,) = samples(np.full((1, 1), UNIT))
    (made,) = run(gated([1.0]), [sample])
    assert made == said.step(sample, 0)


def test_the_same_samples_give_the_same_forecasts() -> None:
    arrived = (np.random.default_rng(2).exponential(0.9 * UNIT, (800, 1))).astype(np.int64)
    first, second = (run(gated([60.0]), samples(arrived)) for _ in range(2))
    assert first == second
