"""The metrics of a trial for Prometheus: what is scraped while it runs, and what is exported afterwards."""

from __future__ import annotations

import http.client
import socket
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from testbed.errors import InputError, ToolError
from testbed.openmetrics import history
from testbed.openmetrics.event_counts import EventCounts
from testbed.openmetrics.families import EVENT_FAMILIES, SAMPLE_FAMILIES
from testbed.openmetrics.live import LiveMetrics
from testbed.openmetrics.server import Address, MetricsServer
from testbed.records import registry
from testbed.records.samples import COLUMNS
from testbed.results.recorded_run import RecordedRun
from tests.command import call

LABELS = {"run": "r", "scenario": "s", "policy": "lstm"}
ROWS = {
    "node": ["n1", "n2", "n1"], "t_ns": np.array([10, 10, 20]) * 10**6,
    "backlog_bytes": np.array([100, 7, 300]), "arrived_bytes": np.array([1000, 10, 500]),
    "predicted_bytes": np.ma.masked_array([5, 6, 0], [False, False, True]),
    "delivered_bytes": np.array([900, 9, 1300]), "loop_ns": np.array([150_000, 600_000, 10**10]),
}  # fmt: skip

CRASH = """
version: 1
name: crash
duration: 1s
topology: {family: cluster, nodes: 2, node_rate: 20Mbit}
buffer: {policy: reactive}
traffic: [{name: base, from: c1, shape: poisson, rate: 8Mbit, flows: 20}]
faults: [{at: 400ms, crash: n2}]
"""


def live() -> LiveMetrics:
    return LiveMetrics(LABELS, {"engine": "emulation", "balancer": "hash", "seed": "1"}, 20 * 10**9)


def values(metrics, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of a name by the values of their labels beside `LABELS`."""
    samples = [sample for metric in metrics for sample in metric.samples if sample.name == name]
    return {tuple(v for k, v in sample.labels.items() if k not in LABELS): sample.value for sample in samples}


def event_family(name: str):
    return next(family for family in EVENT_FAMILIES if family.name == name)


# ------------------------------------------------------------------------------------------------ the declarations


def test_every_family_reads_a_column_or_records_that_are_written():
    assert [family.name for family in SAMPLE_FAMILIES if family.column not in COLUMNS] == []
    known = registry.by_kind().values()
    assert [kind for family in EVENT_FAMILIES for kind in family.records if kind not in known] == []


def test_names_follow_the_conventions_of_prometheus():
    names = [family.name for family in (*SAMPLE_FAMILIES, *EVENT_FAMILIES)]
    assert len(names) == len(set(names))
    assert [name for name in names if not name.startswith("testbed_") or name.endswith(("_total", "_ns", "_ms"))] == []


# ------------------------------------------------------------------------------------------------ what is scraped


def test_a_gauge_is_the_last_value_and_a_counter_the_sum_for_each_node():
    metrics = live()
    metrics.append_columns(ROWS)
    found = list(metrics.collect())
    assert values(found, "testbed_node_backlog_bytes") == {("n1",): 300, ("n2",): 7}
    assert values(found, "testbed_node_arrived_bytes_total") == {("n1",): 1500, ("n2",): 10}
    assert values(found, "testbed_run_time_seconds") == {(): 0.02}


def test_what_was_not_measured_changes_nothing_and_an_absent_column_has_no_series():
    metrics = live()
    metrics.append_columns(ROWS)
    found = list(metrics.collect())
    assert values(found, "testbed_node_predicted_backlog_bytes") == {("n1",): 5, ("n2",): 6}
    assert values(found, "testbed_node_burst_severity_ratio") == {}


def test_a_cumulative_column_is_no_sum():
    metrics = live()
    metrics.append_columns(ROWS)
    assert values(list(metrics.collect()), "testbed_node_delivered_bytes_total") == {("n1",): 1300, ("n2",): 9}


def test_a_histogram_counts_each_value_in_every_bucket_it_fits():
    metrics = live()
    metrics.append_columns(ROWS)
    buckets = values(list(metrics.collect()), "testbed_agent_loop_seconds_bucket")
    assert (buckets["n1", "0.0001"], buckets["n1", "0.0002"], buckets["n1", "5.0"], buckets["n1", "+Inf"]) == (
        0, 1, 1, 2,
    )  # fmt: skip
    assert buckets["n2", "0.0005"] == 0
    assert buckets["n2", "0.001"] == 1


def test_a_node_that_comes_later_is_added():
    metrics = live()
    metrics.append_columns(ROWS)
    list(metrics.collect())
    metrics.append_columns({**ROWS, "node": ["n9", "n9", "n1"]})
    found = values(list(metrics.collect()), "testbed_node_arrived_bytes_total")
    assert found == {("n1",): 2000, ("n2",): 10, ("n9",): 1010}


def test_records_are_counted_for_each_node_they_are_about():
    counts = EventCounts()
    for event in (
        {"kind": "SetBufferLimit", "nodes": ["n1", "n2"]},
        {"kind": "SetBufferLimit", "nodes": ["n1"]},
        {"kind": "RemoveNode", "node": "n2"},
        {"kind": "NodesNotified", "rows": 80, "sha256": "…"},
    ):
        counts.take(event)
    limit, removed = event_family("testbed_node_limit_changes"), event_family("testbed_balancer_nodes_removed")
    assert (counts.count(limit, "n1"), counts.count(limit, "n2"), counts.count(removed, "n2")) == (2, 1, 1)
    assert counts.count(event_family("testbed_balancer_notifications"), "") == 80
    assert counts.count(event_family("testbed_records"), "SetBufferLimit") == 2


def test_slots_moved_are_counted_against_the_table_before():
    counts, moved = EventCounts(), event_family("testbed_balancer_slots_moved")
    for slots in (["n1", "n1", "n2"], ["n1", "n2", "n2"], ["n3", "n3", "n3"]):
        counts.take({"kind": "SetSlots", "slots": slots})
    assert counts.count(moved, "") == 4


def test_two_trials_do_not_share_the_table_of_slots():
    first, second, moved = EventCounts(), EventCounts(), event_family("testbed_balancer_slots_moved")
    first.take({"kind": "SetSlots", "slots": ["n1"]})
    second.take({"kind": "SetSlots", "slots": ["n2"]})
    assert second.count(moved, "") == 0


# ------------------------------------------------------------------------------------------------ the server


@pytest.mark.parametrize("text", ["9464", "host:port", "host:99999", "unix:", "", "a b:1", "127.0.0.1:9464/metrics"])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InputError, match="no address"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("127.0.0.1:9464", "http://127.0.0.1:9464/metrics"),
        (":9464", "http://127.0.0.1:9464/metrics"),
        ("[::1]:80", "http://[::1]:80/metrics"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
    ],
)
def test_an_address_is_shown_as_one_scrapes_it(text, shown):
    assert str(Address.parse(text)) == shown


def test_an_address_in_use_is_refused_at_once():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ToolError, match="Address already in use"):
        MetricsServer(Address("127.0.0.1", taken.getsockname()[1]))


def scraped(connection: socket.socket) -> str:
    """Return the answer to a scrape."""
    client = http.client.HTTPConnection("localhost")
    client.sock = connection
    client.request("GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    text = client.getresponse().read().decode()
    client.close()
    return text


def test_a_scrape_at_an_address_and_one_at_a_socket_are_answered_alike(tmp_path):
    metrics = live()
    metrics.append_columns(ROWS)
    path = tmp_path / "metrics.sock"
    for address in (Address("127.0.0.1", 0), Address(path=path)):
        server = MetricsServer(address)
        server.start(metrics)
        try:
            peer = socket.socket(socket.AF_UNIX if address.path else socket.AF_INET)
            peer.connect(str(path) if address.path else ("127.0.0.1", server.address.port))
            families = list(text_string_to_metric_families(scraped(peer)))
        finally:
            server.close()
        assert values(families, "testbed_node_backlog_bytes") == {("n1",): 300, ("n2",): 7}
    assert not path.exists()


def test_a_socket_left_by_a_kill_is_replaced_and_one_in_use_is_not(tmp_path):
    path = tmp_path / "metrics.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    server = MetricsServer(Address(path=path))
    try:
        with pytest.raises(ToolError, match="in use"):
            MetricsServer(Address(path=path))
    finally:
        server.close()


def test_a_file_that_is_no_socket_is_kept(tmp_path):
    path = tmp_path / "notes"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ToolError, match="in use"):
        MetricsServer(Address(path=path))
    assert path.read_text(encoding="utf-8") == "mine"


# ------------------------------------------------------------------------------------------------ a finished run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RecordedRun:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "crash.yaml").write_text(CRASH, encoding="utf-8")
    done = call("simulate", "crash.yaml", "--quiet", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return RecordedRun.open(folder / "run")


def test_the_export_has_every_sample_and_ends_with_the_totals_of_the_run(finished):
    families = {family.name: family for family in text_string_to_metric_families("".join(history.exposition(finished)))}
    rows = finished.samples_by_node()
    backlog = [sample for sample in families["testbed_node_backlog_bytes"].samples if sample.labels["node"] == "n1"]
    assert [sample.value for sample in backlog] == rows["n1"].backlog_bytes.tolist()
    arrived = [sample for sample in families["testbed_node_arrived_packets"].samples if sample.labels["node"] == "n1"]
    assert arrived[-1].value == rows["n1"].arrived_pkts.sum()
    loops = [s for s in families["testbed_faults_commanded"].samples if s.labels["fault"] == "crash"]
    assert loops[-1].value == 1


@pytest.mark.parametrize("started", [None, "yesterday", "2026-99-01T00:00:00+00:00"])
def test_a_run_that_does_not_say_when_it_began_is_refused(finished, started):
    manifest = {**finished.manifest, "started_utc": started}
    with pytest.raises(InputError, match="started_utc"):
        list(history.exposition(replace(finished, manifest=manifest)))


@pytest.mark.requires("promtool")
def test_promtool_takes_the_export(finished, tmp_path):
    text = tmp_path / "run.om"
    text.write_text("".join(history.exposition(finished)), encoding="utf-8")
    argv = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(tmp_path / "data")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
