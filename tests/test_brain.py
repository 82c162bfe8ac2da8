"""The brain as a conversation: samples, grants and deadlines in, limits, requests and notifications out."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from testbed.errors import InputError
from testbed.files.event_records import from_record
from testbed.policies.base import replay
from testbed.policies.brain import NodeBrain
from testbed.policies.buffer_rules import make_forecaster
from testbed.policies.forecast import Forecaster
from testbed.policies.forecast_holt import HoltForecaster
from testbed.policies.forecast_oracle import ArrivalCells, OracleForecaster, SharedArrivals
from testbed.policies.forecast_path import horizons_ns, sizing_horizon_ns
from testbed.policies.pool import make_pool
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    ForecastMade,
    Ints,
    LimitGranted,
    NodeJoined,
    NotifyBalancer,
    RequestLimit,
    SetBufferLimit,
    TrafficSampled,
)
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.tables import BUFFER_POLICIES
from tests.traffic_samples import of_columns

KB, MB, MS = 1000, 10**6, 1_000_000
POLICIES = [name for name in BUFFER_POLICIES.names if not BUFFER_POLICIES[name].needs_model]
ONE, TWO = ("n1",), ("n1", "n2")


def spec(policy: str = "reactive", **keys: object) -> BufferSpec:
    return BufferSpec.model_validate({"policy": policy, **keys})


def ints(*values: int) -> Ints:
    return np.array(values, dtype=np.int64)


def rates(count: int) -> Ints:
    return np.full(count, 100_000_000, dtype=np.int64)


def sample(*backlog: int, arrived: int = 60_000, limit: int = 500 * KB) -> TrafficSampled:
    count = len(backlog)
    nodes = tuple(f"n{i + 1}" for i in range(count))
    columns = (arrived, arrived // KB, 0, 0, np.array(backlog), limit, 0, MS, arrived // 10)
    return of_columns(nodes, 10 * MS, *(np.full(count, value, dtype=np.int64) for value in columns))


def brain(count: int = 1, forecaster: Forecaster | None = None, **keys: object) -> NodeBrain:
    nodes = tuple(f"n{i + 1}" for i in range(count))
    return NodeBrain(nodes, spec(**keys), rates(count), forecaster)


class Says:
    """A forecaster with one answer, for horizons of 50 and 200 ms."""

    horizon_ns = (50 * MS, 200 * MS)

    def __init__(self, *need: int) -> None:
        self.need = need

    def step(self, sample: TrafficSampled, now_ns: int) -> ForecastMade:
        need = np.tile(ints(*self.need), (len(sample.nodes), 1))
        return ForecastMade(
            nodes=sample.nodes, horizon_ns=self.horizon_ns, need_bytes=need, onset_ratio=np.zeros(len(sample.nodes))
        )


def without_notices(actions: Sequence[Action]) -> list[Action]:
    return [action for action in actions if not isinstance(action, NotifyBalancer)]


# ---------------------------------------------------------------------------------------------------- resizing


def test_a_quiet_node_is_left_alone():
    quiet = brain()
    assert quiet.initial_limit_bytes().tolist() == [500 * KB]
    assert without_notices(quiet.handle(sample(1000), 10 * MS)) == []


def test_an_expansion_is_asked_for_granted_and_set():
    node = brain()
    assert without_notices(node.handle(sample(300 * KB), 10 * MS)) == [
        RequestLimit(nodes=ONE, wanted_bytes=ints(MB), used_bytes=ints(300 * KB))
    ]
    assert node.limit_bytes.tolist() == [500 * KB]
    set_limit, notice = node.handle(LimitGranted(nodes=ONE, granted_bytes=ints(MB)), 10 * MS)
    assert set_limit == SetBufferLimit(nodes=ONE, limit_bytes=ints(MB))
    assert isinstance(notice, NotifyBalancer)
    assert notice.limit_bytes.tolist() == [MB]


def test_what_was_refused_is_asked_for_again():
    node = brain()
    node.handle(sample(300 * KB), 10 * MS)
    assert without_notices(node.handle(LimitGranted(nodes=ONE, granted_bytes=ints(700 * KB)), 10 * MS)) == [
        SetBufferLimit(nodes=ONE, limit_bytes=ints(700 * KB))
    ]
    again = node.handle(sample(300 * KB), 20 * MS)
    assert without_notices(again) == [RequestLimit(nodes=ONE, wanted_bytes=ints(MB), used_bytes=ints(300 * KB))]


def test_a_shrink_waits_for_its_hold_lowers_the_limit_first_and_gives_back_second():
    node = brain(shrink_hold="100ms")
    node.handle(sample(300 * KB), 10 * MS)
    node.handle(LimitGranted(nodes=ONE, granted_bytes=ints(MB)), 10 * MS)
    for step in range(2, 11):
        assert without_notices(node.handle(sample(0), step * 10 * MS)) == []
    assert without_notices(node.handle(sample(0), 110 * MS)) == [
        SetBufferLimit(nodes=ONE, limit_bytes=ints(500 * KB)),
        RequestLimit(nodes=ONE, wanted_bytes=ints(500 * KB), used_bytes=ints(0)),
    ]
    assert node.handle(LimitGranted(nodes=ONE, granted_bytes=ints(500 * KB)), 110 * MS) == []


def test_a_shrink_stops_at_the_backlog():
    node = brain(forecaster=Says(4 * MB, 4 * MB), policy="lstm", margin=1.0, shrink_hold="0ms", min="1MB", max="7.4MB")
    node.handle(sample(0), 10 * MS)
    node.handle(LimitGranted(nodes=ONE, granted_bytes=ints(4 * MB)), 10 * MS)
    node._forecaster.need = (0, 0)
    node._rule._reactive.wish_bytes = lambda *_: ints(MB)  # a baseline rule that would give back everything
    assert without_notices(node.handle(sample(3 * MB), 20 * MS))[0] == SetBufferLimit(
        nodes=ONE, limit_bytes=ints(3 * MB)
    )


def test_with_a_delay_the_grant_comes_into_force_at_the_deadline():
    node = brain(actuation_delay="25ms")
    node.handle(sample(300 * KB), 10 * MS)
    assert node.handle(LimitGranted(nodes=ONE, granted_bytes=ints(MB)), 10 * MS) == []
    assert node.next_deadline_ns() == 35 * MS
    assert without_notices(node.handle(sample(300 * KB), 20 * MS)) == []  # granted: not asked for twice
    (set_limit, _) = node.handle(DeadlineReached(), 35 * MS)
    assert set_limit == SetBufferLimit(nodes=ONE, limit_bytes=ints(MB))
    assert node.next_deadline_ns() is None


def test_a_sample_that_finds_an_expansion_ready_sets_it():
    node = brain(actuation_delay="10ms")
    node.handle(sample(300 * KB), 10 * MS)
    node.handle(LimitGranted(nodes=ONE, granted_bytes=ints(MB)), 10 * MS)
    assert without_notices(node.handle(sample(300 * KB), 21 * MS)) == [SetBufferLimit(nodes=ONE, limit_bytes=ints(MB))]


def test_a_grant_below_the_limit_is_obeyed_at_once():
    node = brain(policy="dynamic-threshold", min="1MB", max="7.4MB", actuation_delay="100ms")
    node.handle(sample(2 * MB), 10 * MS)
    node.handle(LimitGranted(nodes=ONE, granted_bytes=ints(3 * MB)), 10 * MS)
    node.handle(DeadlineReached(), 110 * MS)
    assert without_notices(node.handle(LimitGranted(nodes=ONE, granted_bytes=ints(2 * MB)), 120 * MS)) == [
        SetBufferLimit(nodes=ONE, limit_bytes=ints(2 * MB))
    ]


def test_dynamic_threshold_asks_while_it_holds_more_than_its_floor():
    node = brain(policy="dynamic-threshold", min="1MB", max="7.4MB")
    node.handle(sample(2 * MB), 10 * MS)
    node.handle(LimitGranted(nodes=ONE, granted_bytes=ints(3 * MB)), 10 * MS)
    same = RequestLimit(nodes=ONE, wanted_bytes=ints(3 * MB), used_bytes=ints(2 * MB))
    assert without_notices(node.handle(sample(2 * MB), 20 * MS)) == [same]


def test_actions_name_only_the_nodes_concerned():
    pair = brain(2)
    asked = without_notices(pair.handle(sample(0, 300 * KB), 10 * MS))
    assert asked == [RequestLimit(nodes=("n2",), wanted_bytes=ints(MB), used_bytes=ints(300 * KB))]
    assert without_notices(pair.handle(LimitGranted(nodes=("n2",), granted_bytes=ints(MB)), 10 * MS)) == [
        SetBufferLimit(nodes=("n2",), limit_bytes=ints(MB))
    ]
    assert pair.limit_bytes.tolist() == [500 * KB, MB]


def test_an_event_of_no_concern_is_passed_over():
    assert brain().handle(NodeJoined(node="n7"), 0) == []


# -------------------------------------------------------------------------------------------------- prediction


def test_a_prediction_expands_before_there_is_a_backlog():
    node = brain(forecaster=Says(4 * MB, 6 * MB), policy="lstm", margin=1.0, min="1MB", max="7.4MB")
    assert without_notices(node.handle(sample(0), 10 * MS)) == [
        RequestLimit(nodes=ONE, wanted_bytes=ints(4 * MB), used_bytes=ints(0))
    ]
    assert node.predicted_bytes.tolist() == [4 * MB]
    assert node.severity_ratio.tolist() == [0.0]


@pytest.mark.parametrize(
    ("keys", "predicted"),
    [
        ({}, 4),
        ({"actuation_delay": "10ms"}, 6),
        ({"horizon": "51ms"}, 6),
        ({"actuation_delay": "100ms", "horizon": "9ms"}, 4),
    ],
)
def test_the_first_horizon_that_reaches_far_enough_sizes_the_buffer(keys: dict[str, object], predicted: int):
    node = brain(forecaster=Says(4 * MB, 6 * MB), policy="lstm", **keys)
    node.handle(sample(0), 10 * MS)
    assert node.predicted_bytes.tolist() == [predicted * MB]


def test_without_a_forecaster_the_backlog_stands_for_the_prediction():
    node = brain()
    node.handle(sample(1234), 10 * MS)
    assert node.predicted_bytes.tolist() == [1234]


@pytest.mark.parametrize("policy", ["ewma", "holt", "lstm", "oracle"])
def test_a_predictive_policy_without_a_forecaster_is_refused(policy: str):
    with pytest.raises(InputError, match=policy):
        brain(policy=policy)


# ---------------------------------------------------------------------------------------------- notifications


def notices(node: NodeBrain, event: Event, now_ns: int) -> list[Action]:
    return [action for action in node.handle(event, now_ns) if isinstance(action, NotifyBalancer)]


def test_the_first_sample_and_every_100_ms_the_balancer_is_told():
    node = brain()
    told = [step for step in range(1, 40) if notices(node, sample(1000), step * 10 * MS + step % 3)]
    assert told == [1, 11, 21, 31]


def test_it_is_told_what_the_node_knows():
    node = brain()
    for step in range(10):
        notices(node, sample(0, arrived=50_000), step * 10 * MS)
    (notice,) = notices(node, sample(2000, arrived=60_000), 100 * MS)
    assert notice == NotifyBalancer(
        nodes=ONE,
        limit_bytes=ints(500 * KB),
        backlog_bytes=ints(2000),
        predicted_bytes=ints(2000),
        severity_ratio=np.array([0.0]),
        arrived_bps=ints(40_800_000),
    )  # nine samples of 40 Mbit/s and one of 48


def test_a_material_change_is_told_at_once_and_a_small_one_is_not():
    node = brain()
    node.handle(sample(0), 10 * MS)
    assert notices(node, sample(312 * KB), 20 * MS) == []
    assert len(notices(node, sample(313 * KB), 30 * MS)) == 1
    assert notices(node, sample(313 * KB), 40 * MS) == []


def test_severity_is_told_at_once():
    node = brain()
    for step in range(30):
        node.handle(sample(0, arrived=40_000), step * 10 * MS)
    (notice,) = notices(node, sample(0, arrived=140_000), 301 * MS)
    assert notice.severity_ratio[0] > 0.5
    assert node.severity_ratio.tolist() == notice.severity_ratio.tolist()


def test_only_the_nodes_that_changed_are_told():
    pair = brain(2)
    assert notices(pair, sample(0, 0), 10 * MS)[0].nodes == TWO
    assert notices(pair, sample(0, 900 * KB), 20 * MS)[0].nodes == ("n2",)


# ------------------------------------------------------------------------------ whole conversations, every policy


def planned(count: int, steps: int) -> Ints:
    """Arrivals per 10 ms, [steps, nodes]: a base load and bursts of twice the link rate after a ramp."""
    rng = np.random.default_rng(5)
    arrived = rng.poisson(60, (steps, count)) * KB
    for start in range(20, steps - 30, 45):
        node = int(rng.integers(count))
        arrived[start : start + 4, node] += (20_000, 40_000, 60_000, 80_000)
        arrived[start + 4 : start + 14, node] += 250_000
    return arrived.astype(np.int64)


def forecaster_of(spec: BufferSpec, arrived: Ints) -> Forecaster | None:
    count = arrived.shape[1]
    if spec.policy == "oracle":
        bins = np.arange(len(arrived))
        cells = ArrivalCells(bins, bins * 0 - 10_000, arrived.sum(axis=1))
        return OracleForecaster(SharedArrivals(cells, 10 * MS, count, count), rates(count), (sizing_horizon_ns(spec),))
    if spec.policy == "lstm":  # any forecaster will do: the rule is the same
        return HoltForecaster(rates(count), spec.sample_interval_ns, horizons_ns(spec))
    return make_forecaster(spec, rates(count))


class Trial:
    """Fluid queues under a brain and a pool; records what the brain was fed and what it did."""

    def __init__(self, spec: BufferSpec, arrived: Ints) -> None:
        count = arrived.shape[1]
        self.nodes = tuple(f"n{i + 1}" for i in range(count))
        self.brain = NodeBrain(self.nodes, spec, rates(count), forecaster_of(spec, arrived))
        self.pool = make_pool(spec, self.nodes, self.brain.initial_limit_bytes())
        self.limit = self.brain.initial_limit_bytes()
        self.fed: list[tuple[int, Event]] = []
        self.done: list[tuple[int, Action]] = []
        self.dropped = 0
        backlog = np.zeros(count, dtype=np.int64)
        for step, amount in enumerate(arrived, start=1):
            full = np.maximum(backlog + amount - 125_000, 0)
            backlog = np.minimum(full, np.maximum(self.limit, backlog - 125_000))
            self.dropped += int((full - backlog).sum())
            self._wake(step * 10 * MS)
            zero = np.zeros(count, dtype=np.int64)
            lost = full - backlog
            now = TrafficSampled(
                nodes=self.nodes,
                interval_ns=10 * MS,
                arrived_bytes=amount,
                arrived_pkts=amount // KB,
                dropped_bytes=lost,
                dropped_pkts=lost // KB,
                backlog_bytes=backlog.copy(),
                limit_bytes=self.limit,
                new_flows=zero,
                gap_max_ns=zero + MS,
                peak_1ms_bytes=amount // 10,
            )
            self._feed(now, step * 10 * MS)

    def _wake(self, until_ns: int) -> None:
        while (deadline := self.brain.next_deadline_ns()) is not None and deadline <= until_ns:
            self._feed(DeadlineReached(), deadline)

    def _feed(self, event: Event, now_ns: int) -> None:
        self.fed.append((now_ns, event))
        answers: list[LimitGranted] = []
        for action in self.brain.handle(event, now_ns):
            self.done.append((now_ns, action))
            if isinstance(action, SetBufferLimit):
                self.limit = self.limit.copy()
                self.limit[[self.nodes.index(node) for node in action.nodes]] = action.limit_bytes
                assert (self.limit <= self.pool.grants_bytes).all()
            elif isinstance(action, RequestLimit):
                answers += self.pool.handle(action, now_ns)
        for answer in answers:
            self._feed(answer, now_ns)


@pytest.mark.parametrize("delay", ["0ms", "25ms"])
@pytest.mark.parametrize("policy", POLICIES)
class TestEveryPolicy:
    def trial(self, policy: str, delay: str, **keys: object) -> tuple[Trial, BufferSpec, Ints]:
        shared = {} if BUFFER_POLICIES[policy].sheds else {"pool": "12MB"}
        settings, arrived = spec(policy, actuation_delay=delay, **shared, **keys), planned(3, 300)
        return Trial(settings, arrived), settings, arrived

    def test_a_recorded_history_gives_the_same_actions_again(self, policy: str, delay: str):
        trial, settings, arrived = self.trial(policy, delay)
        lines = [json.dumps({"t_ns": now, **event.to_record()}) for now, event in trial.fed]
        history = [(json.loads(line)["t_ns"], from_record(json.loads(line))) for line in lines]
        assert history == trial.fed
        fresh = NodeBrain(trial.nodes, settings, rates(3), forecaster_of(settings, arrived))
        assert replay(fresh, history) == trial.done

    def test_limits_stay_within_floor_cap_and_pool(self, policy: str, delay: str):
        trial, settings, _ = self.trial(policy, delay)
        fields = [action.limit_bytes for _, action in trial.done if isinstance(action, SetBufferLimit)]
        for limits in fields:
            assert (limits >= settings.min_bytes).all()
            assert (limits <= settings.max_bytes).all()
        assert bool(fields) is not policy.startswith(("static", "bdp"))

    def test_actions_survive_their_written_form(self, policy: str, delay: str):
        trial, _, _ = self.trial(policy, delay)
        assert [from_record(json.loads(json.dumps(a.to_record()))) for _, a in trial.done] == [a for _, a in trial.done]

    def test_no_flapping(self, policy: str, delay: str):
        trial, settings, _ = self.trial(policy, delay)
        row = BUFFER_POLICIES[policy]
        if row.shares_pool or row.sheds:  # its pool takes memory back whenever others need it; it drops at once
            return
        shrunk: dict[str, int] = {}
        limits = dict(zip(trial.nodes, trial.brain.initial_limit_bytes().tolist(), strict=True))
        for now, action in trial.done:
            if isinstance(action, SetBufferLimit):
                for node, limit in zip(action.nodes, action.limit_bytes.tolist(), strict=True):
                    if limit < limits[node]:
                        assert now - shrunk.get(node, -settings.shrink_hold_ns) >= settings.shrink_hold_ns
                        shrunk[node] = now
                    limits[node] = limit

    def test_more_buffer_than_the_floor_loses_no_more(self, policy: str, delay: str):
        trial, _, arrived = self.trial(policy, delay)
        assert trial.dropped <= Trial(spec("static-min"), arrived).dropped


def test_the_order_of_loss_is_that_of_what_is_known():
    arrived = planned(3, 600)
    lost = {p: Trial(spec(p, actuation_delay="50ms"), arrived).dropped for p in ("static-min", "reactive", "holt")}
    # The oracle under known arrivals and no pool saves everything that fits under the cap.
    assert lost["static-min"] > lost["reactive"] > lost["holt"]


def only(action: Action, node: str) -> list[Action]:
    """Return the row of `node` of an action, as an action of that node."""
    fields = {k: v for k, v in action.to_record().items() if k != "kind"}
    rows = [row for row, name in enumerate(fields.pop("nodes")) if name == node]
    record = {"kind": type(action).__name__, **{k: [v[row] for row in rows] for k, v in fields.items()}}
    return [from_record({**record, "nodes": [node]})] if rows else []


@pytest.mark.parametrize("policy", ["static-max", "dynamic-threshold", "reactive", "holt"])
def test_n_nodes_decide_as_n_single_nodes_would(policy: str):
    """Arrays and plain numbers agree to the last bit, in every action."""
    settings, arrived = spec(policy, actuation_delay="30ms", shrink_hold="40ms"), planned(3, 200)

    def brain(nodes: tuple[str, ...]) -> NodeBrain:
        forecaster = make_forecaster(settings, rates(len(nodes)))
        return NodeBrain(nodes, settings, rates(len(nodes)), forecaster, pool_members=3)

    together, alone = brain(("n1", "n2", "n3")), [brain((f"n{i}",)) for i in (1, 2, 3)]
    zero, backlog, told = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64), 0
    for step, amount in enumerate(arrived):
        backlog = np.maximum(backlog + amount - 125_000, 0)
        columns = (amount, amount // KB, zero, zero, backlog, zero + 500 * KB, amount // 7000, zero + MS, amount // 10)
        now_ns = step * 10 * MS
        actions = together.handle(of_columns(together.nodes, 10 * MS, *columns), now_ns)
        grants = [
            LimitGranted(nodes=a.nodes, granted_bytes=a.wanted_bytes) for a in actions if isinstance(a, RequestLimit)
        ]
        actions += [action for grant in grants for action in together.handle(grant, now_ns)]
        for row, single in enumerate(alone):
            own = single.handle(of_columns(single.nodes, 10 * MS, *(c[row : row + 1] for c in columns)), now_ns)
            asked = [a for a in own if isinstance(a, RequestLimit)]
            own += [
                a
                for r in asked
                for a in single.handle(LimitGranted(nodes=r.nodes, granted_bytes=r.wanted_bytes), now_ns)
            ]
            assert own == [part for action in actions for part in only(action, single.nodes[0])]
            told += len(own)
        assert together.predicted_bytes.tolist() == [int(single.predicted_bytes[0]) for single in alone]
        assert together.severity_ratio.tolist() == [float(single.severity_ratio[0]) for single in alone]
        assert together.limit_bytes.tolist() == [int(single.limit_bytes[0]) for single in alone]
    assert told > 60
