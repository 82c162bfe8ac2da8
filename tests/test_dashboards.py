"""Dashboards and rules in deploy/: they name metrics that there are, and a real Prometheus answers their queries."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from testbed.errors import EXIT_INVALID, EXIT_OK
from testbed.openmetrics.dashboards import DASHBOARDS, document, text
from testbed.openmetrics.families import EVENT_FAMILIES, RUN_FAMILIES, SAMPLE_FAMILIES
from testbed.results.recorded_run import RecordedRun
from tests.command import ROOT, call

DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus"
QUERIES = [
    pytest.param(query, panel.table, id=f"{dashboard.name}-{panel.title}-{number}")
    for dashboard in DASHBOARDS
    for panel in dashboard.panels
    for number, query in enumerate(panel.queries.values())
]
CRASH = """
version: 1
name: crash
duration: 3s
topology: {family: cluster, nodes: 3, clients: 2, node_rate: 20Mbit}
buffer: {policy: holt, min: 0.05MB, max: 1MB}
traffic:
  - {name: base, from: c1, shape: poisson, rate: 24Mbit, flows: 60}
  - {name: more, from: c2, shape: on-off, on: {constant: 200ms}, off: {constant: 300ms}, peak: 90Mbit, flows: 60}
faults: [{at: 1500ms, crash: n2}]
"""


def names() -> set[str]:
    """Return the names of all series there can be."""
    suffixes = {"counter": "_total", "gauge": "", "histogram": "_bucket", "info": "_info"}
    return {one.name + suffixes[one.kind] for one in (*SAMPLE_FAMILIES, *EVENT_FAMILIES, *RUN_FAMILIES)}


@pytest.mark.parametrize(
    "source",
    [json.dumps(document(dashboard)) for dashboard in DASHBOARDS]
    + [(RULES / name).read_text(encoding="utf-8") for name in ("recording.yml", "alerts.yml", "alerts_test.yml")],
    ids=[*(dashboard.name for dashboard in DASHBOARDS), "recording", "alerts", "alerts_test"],
)
def test_only_metrics_that_there_are_are_asked_for(source):
    asked = set(re.findall(r"(?<![\w:])testbed_\w+", source))
    assert asked
    assert asked - names() == set()


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_the_files_of_the_dashboards_are_current(dashboard):
    file = DEPLOY / "grafana" / "dashboards" / f"{dashboard.name}.json"
    assert file.read_text(encoding="utf-8") == text(dashboard), "`make reference` writes them"


def test_panels_do_not_overlap_and_each_says_what_it_shows():
    for dashboard in DASHBOARDS:
        panels = document(dashboard)["panels"]
        places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
        assert len(places) == len(panels)
        assert all(panel["title"] and panel["description"].endswith(".") for panel in panels)


@pytest.mark.requires("promtool")
@pytest.mark.parametrize(
    "words",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "recording.yml", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_takes_the_rules(words):
    done = subprocess.run(["promtool", *words], cwd=RULES, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


# ------------------------------------------------------------------------------------------------ a real Prometheus


class Prometheus:
    """A server with a configuration and data of its own; a context manager."""

    def __init__(self, folder: Path, config: dict[str, object]) -> None:
        self.port = free_port()
        (folder / "prometheus.json").write_text(json.dumps(config), encoding="utf-8")  # YAML holds JSON
        argv = ["prometheus", "--config.file=prometheus.json", "--storage.tsdb.path=data"]
        argv += ["--storage.tsdb.retention.time=10y", f"--web.listen-address=127.0.0.1:{self.port}"]
        self._process = subprocess.Popen(argv, cwd=folder, stderr=subprocess.DEVNULL)

    def __enter__(self) -> Prometheus:
        deadline = time.monotonic() + 60
        while True:
            try:
                self.ask("query", query="vector(1)")
                return self
            except OSError:
                assert time.monotonic() < deadline, "Prometheus does not answer"
                time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)

    def ask(self, what: str, **parameters: object) -> dict[str, object]:
        """Return the data of an answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


class Watched:
    """An emulated run that one server scraped while it ran, and whose export another one has."""

    def __init__(self, run: RecordedRun, scraped: Prometheus, exported: Prometheus) -> None:
        self._scraped, self._exported = scraped, exported
        times = (datetime.fromisoformat(run.manifest[f"{end}_utc"]).timestamp() for end in ("started", "ended"))
        self._start_s, self._end_s = times

    def series(self, query: str, *, table: bool) -> list[object]:
        """Return the series that answer a panel's query."""
        replaced = {"$run": ".*", "$node": ".*", "$__rate_interval": "2s", "$__range": "1h", "$__interval": "1s"}
        for variable in sorted(replaced, key=len, reverse=True):
            query = query.replace(variable, replaced[variable])
        if table:
            return list(self._exported.ask("query", query=query, time=self._end_s)["result"])
        span = {"start": self._start_s, "end": self._end_s, "step": "0.25"}
        return list(self._scraped.ask("query_range", query=query, **span)["result"])


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Iterator[Watched]:
    folder: Path = tmp_path_factory.mktemp("watched")
    port = free_port()
    scrape = {"job_name": "testbed", "scrape_interval": "250ms", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    (folder / "crash.yaml").write_text(CRASH, encoding="utf-8")
    with Prometheus(folder, {"scrape_configs": [{**scrape, "scrape_timeout": "250ms"}]}) as scraped:
        done = call("run", "crash.yaml", "--no-live", "--metrics", f"127.0.0.1:{port}", "--out", "run", cwd=folder)
        assert done.returncode in (EXIT_OK, EXIT_INVALID), done.stderr  # on a busy machine it is INVALID
        done = call("export", "run", "--openmetrics", "--out", "run.om", cwd=folder)
        assert done.returncode == 0, done.stderr
        (folder / "exported").mkdir()
        argv = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "run.om", "exported/data"]
        subprocess.run(argv, cwd=folder, capture_output=True, check=True, timeout=60)
        with Prometheus(folder / "exported", {}) as exported:
            yield Watched(RecordedRun.open(folder / "run"), scraped, exported)


@pytest.mark.requires("root", "bpf", "ovs", "promtool")
@pytest.mark.parametrize(("query", "table"), QUERIES)
def test_a_panel_has_data(watched, query, table):
    assert watched.series(query, table=table)
