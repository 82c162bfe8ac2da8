"""A row for each packet and each flow: complete, the same totals as the summary, and read through the one door."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner, Result

import testbed
from testbed import commands, topologies
from testbed.errors import InputError
from testbed.files import tables
from testbed.files.reading import Source
from testbed.records import packet_rows
from testbed.records.events import fields_of
from testbed.records.packet_rows import FLOWS, LOST_AT, PACKETS, FlowRow, PacketRow
from testbed.results import packet_file
from testbed.scenario.model import Scenario
from testbed.traffic.packet_times import NEVER, NOWHERE, PacketTimes, flow_table, packet_table
from testbed.traffic.plan import make_plan

SMALL: dict[str, Any] = {
    **{"version": 1, "name": "small", "seed": 3, "duration": "1s", "record_packets": True},
    "topology": {"family": "cluster", "nodes": 3, "clients": 2, "node_rate": "10Mbit"},
    "buffer": {"policy": "static-min", "min": "0.1MB", "max": "1MB"},
    "traffic": [
        {"name": "base", "from": "c1", "shape": "poisson", "rate": "14Mbit", "flows": 20},
        {"name": "six", "from": "c2", "shape": "constant", "rate": "28Mbit", "flows": 5, "ip": 6},
    ],
}
CASES: dict[str, dict[str, Any]] = {
    "a full buffer": {},
    "a crash and a lossy link": {
        "duration": "2s",
        "faults": [
            {"at": "500ms", "crash": "n2", "for": "400ms"},
            {"at": "300ms", "loss": "s1-n1", "ratio": 0.1, "for": "1s"},
        ],
    },
    "deflection": {"buffer": {"policy": "static-min", "min": "0.1MB", "max": "1MB", "deflect": True}},
    "a full link between switches": {
        "topology": {
            **{"family": "two-switch", "nodes": 3, "clients": 2, "node_rate": "100Mbit"},
            "links": {"s1-s2": {"rate": "30Mbit", "queue": "50kB", "delay": "2ms"}},
        }
    },
    "queues that hold packets at the end": {
        "topology": {"family": "cluster", "nodes": 3, "clients": 2, "node_rate": "10kbit"},
        "buffer": {"policy": "static-min", "min": "1MB", "max": "1MB"},
    },
}
WHERE = dict(zip(CASES, ("buffer", "fault", "buffer", "link", "queue"), strict=True))


def simulated(extra: dict[str, Any], folder: Path) -> testbed.Run:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **extra}))
    return testbed.simulate(path, out=folder / "run")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> testbed.Run:
    return simulated({}, tmp_path_factory.mktemp("packets"))


def totals(table: pa.Table) -> dict[str, int]:
    lost = table.column("lost").to_pylist()
    return {place: lost.count(place) for place in (None, *LOST_AT)}


@pytest.mark.parametrize("case", CASES)
def test_the_rows_have_the_totals_of_the_summary(case: str, tmp_path: Path) -> None:
    made = simulated(CASES[case], tmp_path)
    traffic, found = made.summary["traffic"], totals(made.packets)
    dropped = traffic["dropped_packets"]
    assert traffic["unaccounted_packets"] == 0
    assert found[None] == traffic["delivered_packets"] > 0
    assert found["buffer"] == dropped["buffer"]
    assert found["link"] == dropped.get("link", 0)
    assert found["fault"] + found["queue"] == dropped["fault"] + traffic["in_flight_packets"]
    assert found["way"] == found["unsent"] == 0
    assert found[WHERE[case]] > 0
    assert sum(found.values()) == len(pq.read_table(made.path / "plan.parquet"))
    assert sum(made.flows.column("delivered_pkts").to_pylist()) == found[None]
    assert sum(made.flows.column("sent_pkts").to_pylist()) == traffic["sent_packets"]
    assert max(made.packets.column("delay_ns").drop_null().to_pylist()) == round(1e6 * made.summary["delay_ms"]["max"])


def test_times_are_in_order_and_nodes_are_named(run: testbed.Run) -> None:
    rows = run.packets.to_pylist()
    for row in rows:
        assert row["planned_ns"] == row["sent_ns"] < row["arrived_ns"]
        assert row["node"] in ("n1", "n2", "n3")
        if row["lost"] is None:
            assert row["arrived_ns"] < row["delivered_ns"] == row["sent_ns"] + row["delay_ns"]
        else:
            assert row["delivered_ns"] is row["delay_ns"] is None
    assert [row["planned_ns"] for row in rows] == sorted(row["planned_ns"] for row in rows)


def test_a_flow_is_what_its_packets_are(run: testbed.Run) -> None:
    packets = run.packets.to_pylist()
    for flow in run.flows.to_pylist():
        mine = [row for row in packets if row["flow"] == flow["flow"]]
        there = [row for row in mine if row["lost"] is None]
        delays = sorted(row["delay_ns"] for row in there)
        assert (flow["source"], flow["client"]) == (mine[0]["source"], mine[0]["client"])
        assert flow["delivered_bytes"] == sum(row["size_bytes"] for row in there)
        assert flow["lost_buffer_pkts"] == flow["lost_pkts"] == len(mine) - len(there)
        assert flow["delay_p50_ns"] == delays[-(-len(delays) // 2) - 1]
        assert flow["delay_p99_ns"] == delays[-(-99 * len(delays) // 100) - 1]
        assert flow["delay_max_ns"] == delays[-1]
        assert flow["nodes"] == len({row["node"] for row in mine}) == 1
        assert flow["node"] == mine[0]["node"]
        took_ns = max(row["delivered_ns"] for row in there) - mine[0]["sent_ns"]
        assert flow["completion_ns"] == (took_ns if len(there) == len(mine) else None)
    assert {flow["src_ip"] for flow in run.flows.to_pylist()} == {"10.0.16.2", "fd00::1:2"}
    assert {(flow["dst_ip"], flow["dst_port"] > 0) for flow in run.flows.to_pylist()} == {
        ("10.0.0.100", True),
        ("fd00::100", True),
    }


def test_recording_changes_no_result(run: testbed.Run, tmp_path: Path) -> None:
    other = simulated({"record_packets": False}, tmp_path)
    assert other.summary == run.summary
    assert not (other.path / "packets.parquet").exists()
    with pytest.raises(InputError, match=r"did not record its packets; run the scenario with --packets"):
        _ = other.flows


def test_where_a_packet_ended_follows_from_how_far_it_came() -> None:
    no, yes = NEVER, 5
    sent, arrived, delivered = np.array([[no, no, no], [yes, no, no], [yes, yes, no], [yes, yes, yes]] * 2).T
    fault = np.array([False] * 4 + [False, True, True, True])
    ended = PacketTimes.of(sent, arrived, delivered, np.full(8, NOWHERE), fault=fault).ended
    names = [*LOST_AT, "delivered"]
    assert [names[code] for code in ended] == ["unsent", "way", "queue", "delivered", "unsent", "fault", "fault",
                                               "delivered"]  # fmt: skip


def test_a_flow_of_which_nothing_was_sent_has_no_times() -> None:
    spec = Scenario.model_validate(SMALL)
    network = topologies.describe(spec.topology)
    plan = make_plan(spec, network, Path())
    nothing = np.full(len(plan), NEVER)
    times = PacketTimes.of(nothing, nothing, nothing, np.full(len(plan), NOWHERE))
    assert totals(packet_table(plan, network, times))["unsent"] == len(plan)
    flow = flow_table(plan, network, times).to_pylist()[0]
    assert [flow[name] for name in ("node", "first_sent_ns", "last_delivered_ns", "delay_p50_ns", "completion_ns")] == [
        None
    ] * 5
    assert flow["sent_pkts"] == flow["lost_pkts"] == flow["nodes"] == 0


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(commands.app, [str(word) for word in words])


@pytest.mark.parametrize("which", ["flows", "packets"])
def test_export_writes_csv_and_parquet(which: str, run: testbed.Run, tmp_path: Path) -> None:
    table = getattr(run, which)
    done = call("export", run.path, f"--{which}")
    assert done.exit_code == 0
    printed = done.stdout.splitlines()
    assert printed[0] == ",".join(table.column_names)
    assert len(printed) == len(table) + 1
    for name in ("rows.csv", "rows.parquet"):
        assert call("export", run.path, f"--{which}", "-o", tmp_path / name).exit_code == 0
    assert (tmp_path / "rows.csv").read_text().splitlines() == printed
    assert pq.read_table(tmp_path / "rows.parquet").to_pylist() == table.to_pylist()


def test_export_takes_one_format(run: testbed.Run) -> None:
    done = call("export", run.path, "--flows", "--packets")
    assert isinstance(done.exception, InputError)
    assert "flows and packets exclude each other" in str(done.exception)


def test_the_option_is_the_key(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "record_packets": False, "duration": "100ms"}))
    done = call("simulate", path, "--packets", "--out", tmp_path / "run", "--quiet")
    assert done.exit_code == 0, done.exception
    made = testbed.open(tmp_path / "run")
    assert isinstance(made, testbed.Run)
    assert made.scenario["record_packets"] is True
    assert len(made.flows) == 25


def test_too_many_packets_are_refused_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packet_rows, "MAX_PACKETS", 1000)
    with pytest.raises(InputError, match=r"record_packets: about [0-9,]+ packets would be recorded"):
        simulated({}, tmp_path)


def test_the_columns_are_those_declared() -> None:
    for schema, row in ((PACKETS, PacketRow), (FLOWS, FlowRow)):
        assert schema.names == [field.name for field in fields_of(row)]
        assert [
            f"{field.name}: no meaning or unit" for field in fields_of(row) if not (field.meaning and field.unit)
        ] == []


DAMAGES: dict[str, tuple[str, Any]] = {
    "a negative time": ("planned_ns", pa.array([-1])),
    "no value where there must be one": ("flow", pa.array([None], pa.int64())),
    "a place that there is not": ("lost", pa.array(["moon"])),
    "a name that is none": ("node", pa.array(["n\x00"])),
    "another type": ("seq", pa.array([0.5])),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_table_is_refused(case: str, run: testbed.Run, tmp_path: Path) -> None:
    name, column = DAMAGES[case]
    row = run.packets.slice(0, 1)
    damaged = row.set_column(row.column_names.index(name), name, column)
    path = tables.write_parquet(damaged, tmp_path / "packets.parquet")
    with pytest.raises(InputError, match=name):
        packet_file.read_packets(Source(path, "give another"))


def test_a_table_without_a_column_is_refused(run: testbed.Run, tmp_path: Path) -> None:
    path = tables.write_parquet(run.flows.drop_columns(["nodes"]), tmp_path / "flows.parquet")
    with pytest.raises(InputError, match=r"it lacks the columns nodes"):
        packet_file.read_flows(Source(path, "give another"))


def test_a_package_has_the_tables(run: testbed.Run) -> None:
    names = {path.name for path in run.path.iterdir()}
    assert {"packets.parquet", "flows.parquet"} <= names
    assert json.loads((run.path / "manifest.json").read_text())["status"] == "completed"
