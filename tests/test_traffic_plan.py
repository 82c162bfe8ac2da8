"""The packet plan: order, numbering, ports, identity, files, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed import topologies
from testbed.errors import InputError
from testbed.forecaster.maker import arrival_cells
from testbed.scenario.model import Scenario
from testbed.traffic import plan_file, shape
from testbed.traffic.plan import PacketPlan, make_plan

ROOT = Path(__file__).resolve().parent.parent
BASE: dict[str, Any] = {"name": "base", "from": "c1", "shape": "poisson", "rate": "8Mbit", "flows": 30}
BURSTS: dict[str, Any] = {
    **{"name": "bursts", "from": "c2", "shape": "on-off", "peak": "80Mbit", "flows": 60},
    **{"on": {"pareto": {"mean": "60ms", "alpha": 1.5}}, "off": {"exponential": {"mean": "400ms"}}},
    "precursor": {"lead": "100ms", "strength": 0.5},
}
PACED: dict[str, Any] = {"name": "paced", "from": "c1", "shape": "constant", "rate": "4Mbit", "packet": "100B"}


def _plan(*sources: dict[str, Any], base_dir: Path = ROOT, **changes: Any) -> PacketPlan:
    scenario = Scenario.model_validate(
        {
            **{"version": 1, "name": "x", "duration": "2s", "topology": {"family": "cluster"}},
            **{"traffic": list(sources), **changes},
        }
    )
    return make_plan(scenario, topologies.describe(scenario.topology), base_dir)


@pytest.fixture(scope="module")
def plan() -> PacketPlan:
    return _plan(BASE, BURSTS, PACED)


def test_packets_ascend_within_the_run(plan: PacketPlan) -> None:
    assert len(plan) > 10_000
    assert plan.t_ns[0] >= 0
    assert plan.t_ns[-1] < plan.duration_ns
    assert np.all(np.diff(plan.t_ns) >= 0)


def test_each_flow_counts_from_0_without_gaps(plan: PacketPlan) -> None:
    for flow in np.unique(plan.flow):
        seq = plan.seq[plan.flow == flow]
        assert np.array_equal(seq, np.arange(len(seq)))


def test_flow_numbers_lead_to_source_size_and_client(plan: PacketPlan) -> None:
    assert plan.sources == ("base", "bursts", "paced")
    assert plan.clients == ("c1", "c2")
    assert len(plan.flows) == 30 + 60 + 100
    assert np.array_equal(plan.flows.source[plan.flow], plan.source)
    assert np.array_equal(plan.size_bytes, np.array([1000, 1000, 100])[plan.source])
    assert plan.flows.client.tolist() == [0] * 30 + [1] * 60 + [0] * 100


def test_no_client_uses_a_port_twice(plan: PacketPlan) -> None:
    used = list(zip(plan.flows.client.tolist(), plan.flows.src_port.tolist(), strict=True))
    assert len(set(used)) == len(used)
    assert sorted(set(plan.flows.dst_port.tolist())) == [9000, 9001, 9002]


def test_clients_share_out_the_plan(plan: PacketPlan) -> None:
    parts = [plan.of_client(name) for name in plan.clients]
    assert sum(len(part) for part in parts) == len(plan)
    assert set(parts[1].source.tolist()) == {1}
    assert len(plan.of_client("c7")) == 0


def test_a_flow_begins_with_its_first_packet_and_anew_after_a_silence(plan: PacketPlan) -> None:
    begun_ns = plan.begun_ns(20_000_000)
    last: dict[int, tuple[int, int]] = {}
    for flow, t_ns, begun in zip(plan.flow.tolist(), plan.t_ns.tolist(), begun_ns.tolist(), strict=True):
        before_ns, since_ns = last.get(flow, (-(10**9), 0))
        expected = t_ns if t_ns - before_ns > 20_000_000 else since_ns
        assert begun == expected
        last[flow] = (t_ns, begun)
    assert len(set(begun_ns.tolist())) > len(plan.flows)


def test_arrays_are_read_only(plan: PacketPlan) -> None:
    with pytest.raises(ValueError, match="read-only"):
        plan.t_ns[0] = 1


def test_identity_is_that_of_content(plan: PacketPlan) -> None:
    assert _plan(BASE, BURSTS, PACED).digest() == plan.digest()
    others = [
        _plan(BASE, BURSTS, PACED, seed=2),
        _plan(BASE, BURSTS, PACED, duration="2001ms"),
        _plan(BASE, {**BURSTS, "name": "other"}, PACED),
        _plan(BASE, BURSTS, {**PACED, "from": "c2"}),
        plan.of_client("c1"),
    ]
    assert len({plan.digest(), *(other.digest() for other in others)}) == 6


def test_a_plan_is_what_it_has_always_been(plan: PacketPlan) -> None:
    assert plan.digest()[:16] == "c43598da277807c9"


def test_a_source_does_not_depend_on_the_others(plan: PacketPlan) -> None:
    alone, last = _plan(BURSTS), _plan(PACED, BASE, BURSTS)
    for other, number in ((alone, 0), (last, 2)):
        ours, theirs = plan.source == 1, other.source == number
        assert np.array_equal(plan.t_ns[ours], other.t_ns[theirs])
        assert np.array_equal(plan.seq[ours], other.seq[theirs])


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_the_hash_seed_of_python_has_no_say(plan: PacketPlan, hash_seed: str) -> None:
    code = "import test_traffic_plan as t; print(t._plan(t.BASE, t.BURSTS, t.PACED).digest())"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.strip() == plan.digest()


def test_a_file_gives_the_same_plan_back(plan: PacketPlan, tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    plan_file.write(plan, path)
    again = plan_file.read(path)
    assert again.digest() == plan.digest()
    assert again.packet_columns()["flow"].dtype == np.int32
    assert pq.read_table(path).column_names == ["t_ns", "source", "flow", "seq", "size_bytes"]


def test_flows_have_the_version_of_ip_that_their_source_says(tmp_path: Path) -> None:
    sources = ({**BASE, "ip": 6, "flows": 3}, {**BASE, "name": "both", "ip": "mixed", "flows": 4})
    both, four = _plan(PACED, *sources), _plan(PACED, *({**source, "ip": 4} for source in sources))
    assert both.flows.ip_version.tolist() == [4] * 100 + [6] * 3 + [4, 6, 4, 6]
    assert both.digest() != four.digest()
    plan_file.write(both, tmp_path / "plan.parquet")
    again = plan_file.read(tmp_path / "plan.parquet")
    assert again.digest() == both.digest()
    assert np.array_equal(again.flows.ip_version, both.flows.ip_version)


def test_a_packet_that_ip6_has_no_room_in_is_refused() -> None:
    _plan({**PACED, "packet": "94B", "ip": 6})
    with pytest.raises(ValueError, match="less than the 94B of IPv6 headers"):
        _plan({**PACED, "packet": "93B", "ip": "mixed"})


def test_a_changed_file_is_refused(plan: PacketPlan, tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    plan_file.write(plan, path)
    table = pq.read_table(path)
    moved = table.set_column(0, "t_ns", pa.array(table.column("t_ns").to_numpy() + 1))
    pq.write_table(moved.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(InputError, match="changed since it was written"):
        plan_file.read(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no such file"),
        (b"", "not a readable Parquet"),
        (b"PAR1 and so on", "not a readable Parquet"),
        ("table", "lacks the columns flow"),
    ],
)
def test_what_is_no_plan_is_refused(content: bytes | str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.parquet"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        pq.write_table(pa.table({"t_ns": [1, 2]}), path)
    with pytest.raises(InputError, match=said):
        plan_file.read(path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"flow": 10**6}, "a packet has a flow out of bounds"),
        ({"source": -1}, "a packet has a source out of bounds"),
        ({"size_bytes": 10**6}, "a packet has a size_bytes out of bounds"),
        ({"t_ns": 10**12}, "not in time order"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_whatever_the_digest_says(
    plan: PacketPlan, changed: dict[str, int], said: str, tmp_path: Path
) -> None:
    columns = {name: array.copy() for name, array in plan.packet_columns().items()}
    for name, value in changed.items():
        columns[name][0] = value
    path = tmp_path / "plan.parquet"
    plan_file.write(replace(plan, **columns), path)
    with pytest.raises(InputError, match=said):
        plan_file.read(path)


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ([{**BASE, "from": "c9"}], "traffic.0.from: there is no client 'c9'; the topology has c1 to c2"),
        ([BASE, BASE], "traffic.1.name: 'base' is also the name of traffic.0"),
        (
            [{**BASE, "name": f"s{i}", "flows": 20_000} for i in range(3)],
            "with it c1 has 60,000 flows, but 55,536",
        ),
        ([{**BASE, "rate": "1bit"}], "no source sends a single packet"),
    ],
)
def test_the_impossible_is_refused(sources: list[dict[str, Any]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        _plan(*sources)


def test_more_packets_in_all_than_a_plan_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shape, "MAX_PACKETS", 5_000)
    with pytest.raises(InputError, match=r"5,\d+ packets in total; the maximum is 5,000"):
        _plan(BASE, {**BASE, "name": "again"}, {**BASE, "name": "third", "rate": "6Mbit"})


@given(st.integers(1, 3_000_000_000))
def test_the_oracle_reads_every_byte_of_a_plan(bin_ns: int) -> None:
    plan = _plan({**PACED, "rate": "80kbit"}, duration="100ms")
    cells = arrival_cells(plan, bin_ns)
    assert cells.size_bytes.sum() == plan.total_bytes
    assert (np.diff(cells.bin) >= 0).all()
    assert (cells.begun <= cells.bin).all()
