"""The agents of many nodes in one process: how they are divided, what they hand over, and that they decide alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from testbed import topologies
from testbed.emulation.processes.sample_block import COLUMNS, NULL, SampleBlock, SampleRows
from testbed.emulation.processes.shared_state import PeersState, SharedPeers
from testbed.forecaster.maker import forecaster_maker
from testbed.policies.brain import NodeBrain
from testbed.policies.cohorts import BRAIN, OWN_TICKS, divided, make_brain, rows_of
from testbed.records.events import MEASURED, Action, LimitGranted, RequestLimit, TrafficSampled
from testbed.records.samples import table_of
from tests import simulated_run

MS = 10**6
NAMES = tuple(f"n{k}" for k in range(1, 11))


# ------------------------------------------------------------------------------------------------------------- cohorts


@pytest.mark.parametrize("count", [1, 3, OWN_TICKS, OWN_TICKS + 1, 10])
@pytest.mark.parametrize("apart", [(), ("n1",), ("n2", "n3"), NAMES])
def test_every_node_is_in_one_cohort_and_apart_ones_are_alone(count: int, apart: tuple[str, ...]) -> None:
    nodes = NAMES[:count]
    cohorts = divided(nodes, 10 * MS, apart=frozenset(apart) & set(nodes))
    assert tuple(itertools.chain(*(nodes[cohort.rows] for cohort in cohorts))) == nodes
    assert {node for cohort in cohorts if cohort.apart for node in nodes[cohort.rows]} == set(apart) & set(nodes)
    assert all(len(nodes[cohort.rows]) == 1 for cohort in cohorts if cohort.apart)
    assert [rows_of(cohort.policy, nodes) for cohort in cohorts] == [cohort.rows for cohort in cohorts]
    phases = [cohort.phase_ns for cohort in cohorts]
    assert len(set(phases)) == len(phases)
    assert max(phases) < 10 * MS


def test_nodes_that_are_all_apart_tick_as_separate_agents_do() -> None:
    cohorts = divided(NAMES, 10 * MS, apart=frozenset(NAMES))
    assert [cohort.policy for cohort in cohorts] == [f"{BRAIN}:{node}" for node in NAMES]
    assert [cohort.phase_ns for cohort in cohorts] == [k * MS for k in range(10)]


def samples_of(nodes: int, ticks: int) -> np.ndarray:
    """Return samples of a load with bursts: int64, shape [ticks, columns, nodes]."""
    rng = np.random.default_rng(7)
    values = np.zeros((ticks, len(MEASURED), nodes), dtype=np.int64)
    column = {name: values[:, place] for place, name in enumerate(MEASURED)}
    bursts = np.repeat(rng.random((ticks // 20 + 1, nodes)) < 0.3, 20, axis=0)[:ticks]
    column["arrived_bytes"][:] = rng.integers(5_000, 20_000, (ticks, nodes)) + bursts * 60_000
    column["arrived_pkts"][:] = column["arrived_bytes"] // 1000
    column["peak_1ms_bytes"][:] = column["arrived_bytes"] // 5
    column["new_flows"][:] = rng.integers(0, 3, (ticks, nodes)) + 8 * bursts
    column["gap_max_ns"][:] = rng.integers(MS // 10, 5 * MS, (ticks, nodes))
    column["limit_bytes"][:] = 500_000
    backlog = np.zeros(nodes, dtype=np.int64)
    for tick in range(ticks):
        backlog = np.maximum(backlog + column["arrived_bytes"][tick] - 25_000, 0)
        column["backlog_bytes"][tick] = backlog
    return values


def carried_out(brain: NodeBrain, samples: np.ndarray) -> list[tuple[int, str, str, dict[str, object]]]:
    """Return the decisions of a brain, a row a node: time, kind, node and the values."""
    rows = []
    for tick, values in enumerate(samples):
        now_ns, columns = tick * 10 * MS, dict(zip(MEASURED, values, strict=True))
        actions = brain.handle(TrafficSampled(nodes=brain.nodes, interval_ns=10 * MS, **columns), now_ns)
        for asked in [action for action in actions if isinstance(action, RequestLimit)]:
            actions += brain.handle(LimitGranted(nodes=asked.nodes, granted_bytes=asked.wanted_bytes), now_ns)
        rows += [part for action in actions for part in parts_of(action, now_ns)]
    return rows


def parts_of(action: Action, now_ns: int) -> list[tuple[int, str, str, dict[str, object]]]:
    record = action.to_record()
    kind, nodes = record.pop("kind"), record.pop("nodes")
    return [
        (now_ns, kind, node, {name: values[row] for name, values in record.items()}) for row, node in enumerate(nodes)
    ]


@pytest.mark.parametrize("policy", ["lstm", "holt", "reactive"])
def test_shared_and_separate_agents_decide_alike(policy: str) -> None:
    """The samples that the agents of one mode record lead the brains of the other to the same decisions."""
    spec = simulated_run.scenario(policy, nodes=10, actuation_delay="20ms")
    network = topologies.describe(spec.topology)
    maker, samples = forecaster_maker(spec.buffer, None, 10), samples_of(10, 300)
    decided = {}
    for mode, apart in (("shared", frozenset[str]()), ("separate", frozenset(NAMES))):
        cohorts = divided(NAMES, 10 * MS, apart=apart)
        brains = [(cohort.rows, make_brain(cohort.rows, spec.buffer, network, maker)) for cohort in cohorts]
        decided[mode] = sorted(
            (row for rows, brain in brains for row in carried_out(brain, samples[:, :, rows])), key=lambda row: row[:3]
        )
    assert len(decided["shared"]) > 1000
    assert decided["shared"] == decided["separate"]


# ---------------------------------------------------------------------------------------------------------- hand over


def block() -> SampleBlock:
    rows = SampleRows("brain", ("n1", "n2"), 3)
    for tick in (1, 2):
        measured = np.arange(2 * len(MEASURED)).reshape(-1, 2) + 100 * tick
        qdisc = np.array([NULL, 7])
        rows.add(tick, 10, measured, np.array([0.25, 0.5]), {"loop_ns": 5, "qdisc_backlog_bytes": qdisc})
    assert not rows.full
    made = rows.take()
    assert made is not None
    assert rows.take() is None
    return made


def test_a_block_gives_back_every_row_and_what_was_not_measured_is_null() -> None:
    table = table_of(block().columns())
    assert table["t_ns"].to_pylist() == [1, 1, 2, 2]
    assert table["node"].to_pylist() == ["n1", "n2", "n1", "n2"]
    assert table["arrived_bytes"].to_pylist() == [100, 101, 200, 201]
    assert table["severity_ratio"].to_pylist() == [0.25, 0.5] * 2
    assert table["qdisc_backlog_bytes"].to_pylist() == [None, 7] * 2
    assert table["loop_ns"].to_pylist() == [5] * 4
    assert table["predicted_bytes"].null_count == table["weight"].null_count == 4
    assert set(COLUMNS) < set(table.column_names)


def test_a_block_of_one_node_says_the_same_as_its_column_of_a_block_of_two() -> None:
    alone, together = SampleRows("brain:n2", ("n2",), 1), SampleRows("brain", ("n1", "n2"), 1)
    measured, severity, qdisc = np.arange(2 * len(MEASURED)).reshape(-1, 2), np.array([0.25, 0.5]), np.array([3, NULL])
    together.add(1, 10, measured, severity, {"loop_ns": 5, "qdisc_backlog_bytes": qdisc, "delivered_bytes": [8, 9]})
    own = {"loop_ns": 5, "qdisc_backlog_bytes": qdisc[1:], "delivered_bytes": [9]}
    alone.add(1, 10, measured[:, 1:], severity[1:], own)
    one, two = alone.take(), together.take()
    assert one is not None
    assert two is not None
    assert one.values[:, :, 0].tolist() == two.values[:, :, 1].tolist()


def test_a_block_tells_what_the_brain_was_given() -> None:
    (first, one), (second, two) = block().events()
    assert (first, second) == (1, 2)
    assert one.nodes == two.nodes == ("n1", "n2")
    assert one.interval_ns == 10
    assert two.peak_1ms_bytes.tolist() == [216, 217]


# -------------------------------------------------------------------------------------------------------- shared state


def test_a_reader_has_the_last_whole_state_and_none_while_half_of_one_is_there() -> None:
    peers = SharedPeers()
    assert peers.read() is None
    for taken_ns in (1, 2):
        peers.publish(PeersState(taken_ns, 0.5))
        assert peers.read() == peers.read() == PeersState(taken_ns, 0.5)
    peers._words[0] |= 1  # a writer was killed
    assert peers.read() is None
    peers.publish(PeersState(3, 0.25))
    assert peers.read() == PeersState(3, 0.25)
