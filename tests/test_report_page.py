"""The report: one file, complete, safe against what it shows, and right in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.errors import InputError
from testbed.records.samples import by_node
from testbed.report import charts
from testbed.report.compare import compare
from testbed.report.compare_page import write_compare_page
from testbed.report.page import script_data, write_page
from testbed.results.run_directory import RunDirectory
from tests import synthetic_run


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run"
    expect = ("traffic.unaccounted_packets == 0", "buffer.resizes > 10000")
    synthetic_run.write(synthetic_run.make(synthetic_run.facts("lstm", seconds=6, expect=expect)), path)
    return path


def figures_of(page: Path) -> dict[str, Any]:
    found = re.search(r"^const figures = (.*);$", page.read_text(), re.MULTILINE)
    assert found is not None
    figures: dict[str, Any] = json.loads(found.group(1))
    return figures


def axis_titles(figure: dict[str, Any]) -> list[str]:
    return [axis["title"]["text"] for name, axis in figure["layout"].items() if re.match("[xy]axis", name)]


def test_it_is_one_file_that_fetches_nothing(run_path: Path) -> None:
    text = write_page(run_path).read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=", text)
    assert 500_000 < len(text) < 1_000_000


def test_it_shows_question_verdict_figures_and_expectations(run_path: Path) -> None:
    text = write_page(run_path).read_text()
    head = text[: text.index("Nodes over time")]
    for shown in ("Does expanding a buffer before a burst save packets?", "VALID", "MB·s", "passed", "failed", "lstm"):
        assert shown in head
    assert "sender lateness p99" in text


def test_every_axis_has_a_unit_and_every_node_a_chart(run_path: Path) -> None:
    figures = figures_of(write_page(run_path))
    assert list(figures) == ["node-n1", "node-n2", "node-n3", "delay", "delay-tail"]
    assert axis_titles(figures["node-n1"]) == [
        "time since start (s)", "buffer (MB)", "arrivals (Mbit/s)", "drops (packets<br>per 10 ms)",
    ]  # fmt: skip
    assert axis_titles(figures["delay"]) == ["one-way delay (ms)", "packets with at most this delay (%)"]
    names = [trace["name"] for trace in figures["node-n1"]["data"]]
    assert names == ["backlog", "limit", "forecast", "arrivals", "service rate", "drops"]


def test_thinning_keeps_peaks_rates_and_drops() -> None:
    made = synthetic_run.make(synthetic_run.facts("static-min", seconds=20, nodes=1))
    rows = by_node(made.samples)["n1"]
    thinned = charts.thin(rows, 100)
    assert len(thinned.t_s) == 100
    assert thinned.stretch_ms == 200
    assert thinned.dropped_pkts.sum() == rows.dropped_pkts.sum() > 0
    assert thinned.backlog_mb.max() == rows.backlog_bytes.max() / 1e6
    assert thinned.arrived_mbit_s.mean() == pytest.approx(rows.arrived_bytes.sum() * 8 / 20 / 1e6)
    assert np.array_equal(charts.thin(rows, 10**6).t_s, rows.t_ns / 1e9)


def test_of_many_nodes_those_with_the_most_drops_are_drawn() -> None:
    made = synthetic_run.make(synthetic_run.facts("static-min", seconds=1, nodes=15))
    drawn = charts.drawn_nodes(by_node(made.samples))
    assert len(drawn) == charts.MAX_NODES
    assert drawn[0] == "n1"  # its burst lies within the second
    assert drawn == [node for node in made.facts.node_rate_bps if node in drawn]


def test_a_check_that_failed_shows_meaning_cause_and_remedy(run_path: Path, tmp_path: Path) -> None:
    run_path = shutil.copytree(run_path, tmp_path / "run")
    document = json.loads((run_path / "fidelity.json").read_text())
    told = {"meaning": "the agent was blind", "cause": "n1 stood still for 24 ms", "remedy": "end other work"}
    document["checks"][0].update(told, verdict="INVALID")
    document["checks"][1].update({"meaning": "not of interest"})
    (run_path / "fidelity.json").write_text(json.dumps(document))
    text = write_page(run_path).read_text()
    assert "the agent was blind; n1 stood still for 24 ms; remedy: end other work" in text
    assert "not of interest" not in text


def test_what_it_shows_cannot_become_markup(tmp_path: Path) -> None:
    made = synthetic_run.make(synthetic_run.facts(seconds=1))
    hostile = "</script><img src=x onerror=alert(1)>"
    made = replace(made, facts=replace(made.facts, question=hostile))
    synthetic_run.write(made, tmp_path / "run", command=[hostile])
    assert hostile not in write_page(tmp_path / "run").read_text()


def test_the_paragraphs_of_the_question_flow_without_the_line_breaks_of_the_file(tmp_path: Path) -> None:
    made = synthetic_run.make(synthetic_run.facts(seconds=1))
    made = replace(made, facts=replace(made.facts, question="Does it\nhelp?\n\nA second paragraph."))
    synthetic_run.write(made, tmp_path / "run")
    text = write_page(tmp_path / "run").read_text()
    assert '<p class="question">Does it\nhelp?</p><p class="question">A second paragraph.</p>' in text
    assert "pre-line" not in text[: text.index("</style>")]


def test_data_cannot_close_the_script_it_stands_in() -> None:
    value = {"name": "</script><!--&"}
    written = str(script_data(value))
    assert not set("<&") & set(written)
    assert json.loads(written) == value


def test_a_run_without_an_end_shows_what_there_is(tmp_path: Path) -> None:
    made = synthetic_run.make(synthetic_run.facts(seconds=1))
    run = RunDirectory.create(tmp_path / "run", {"facts": made.facts.to_record()})
    text = write_page(tmp_path / "run").read_text()
    assert "This run is still in progress." in text
    assert "There are no samples." in text
    run.append_columns(made.columns)
    run.finish("interrupted")
    text = write_page(tmp_path / "run").read_text()
    assert "This run was interrupted" in text
    assert list(figures_of(tmp_path / "run" / "report.html")) == ["node-n1", "node-n2", "node-n3"]


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run directory"):
        write_page(tmp_path)


# ------------------------------------------------------------------------------------------------------------- faults

COURSE = {
    "what": "crash", "nodes": ["n2"], "commanded_ms": 2000.0, "observed_ms": 1.0, "first_effect_ms": 0.5,
    "detected_ms": 47.0, "rerouted_ms": 50.0, "last_lost_ms": 49.0, "first_good_ms": 51.0, "healed_ms": 1000.0,
    "lost_packets": 63,
}  # fmt: skip


def with_faults(path: Path, *faults: dict[str, Any], **summary: Any) -> Path:
    document = json.loads((path / "summary.json").read_text())
    document["failover"] = {"count": len(faults), "faults": list(faults), "recovered_ms": {"p50": 49.0, "max": 49.0}}
    document["failover"]["lost_packets"] = sum(fault.get("lost_packets", 0) for fault in faults)
    document["traffic"]["dropped_packets"]["fault"] = document["failover"]["lost_packets"]
    (path / "summary.json").write_text(json.dumps({**document, **summary}))
    return path


@pytest.fixture
def fault_path(run_path: Path, tmp_path: Path) -> Path:
    return with_faults(shutil.copytree(run_path, tmp_path / "faulty"), COURSE)


def test_a_fault_has_a_row_a_timeline_and_shades_the_node_it_hit(fault_path: Path) -> None:
    page = write_page(fault_path)
    assert list(figures_of(page))[:2] == ["faults", "fault-course"]
    text = page.read_text()
    for shown in (">Failover</h2>", "crash n2", "2.000 s", "+47 ms", "+50 ms", "+1,000 ms", '<td class="number">63<'):
        assert shown in text
    figures = figures_of(page)
    course = [trace["name"] for trace in figures["fault-course"]["data"] if "name" in trace]
    assert course[:2] == ["commanded", "observed"]
    assert {"detected", "rerouted", "healed"} <= set(course)
    shaded = [shape for shape in figures["node-n2"]["layout"]["shapes"] if shape["type"] == "rect"]
    assert [(shape["x0"], round(shape["x1"], 3)) for shape in shaded] == [(2.0, 3.0), (2.0, 2.05)]
    assert "shapes" not in figures["node-n1"]["layout"]


def test_what_a_fault_lost_is_drawn_whole(fault_path: Path) -> None:
    figures = figures_of(write_page(fault_path))
    (lost,) = [trace for trace in figures["node-n2"]["data"] if trace["name"] == "lost to faults"]
    assert lost["y"][0] * lost["width"][0] / 0.010 == pytest.approx(63, rel=0.01)  # per 10 ms, over its width
    assert "lost to faults" not in [trace["name"] for trace in figures["node-n1"]["data"]]
    over_time = next(trace for trace in figures["faults"]["data"] if trace["name"] == "lost to faults")
    assert any(over_time["y"])


def test_a_panel_without_drops_says_where_the_run_lost_packets(fault_path: Path) -> None:
    figures = figures_of(write_page(fault_path))
    empty = [name for name in figures if name.startswith("node-") and "annotations" in figures[name]["layout"]]
    assert empty, "lstm drops nothing at some node"
    (note,) = figures[empty[0]]["layout"]["annotations"]
    assert "63 to faults" in note["text"]


def test_the_faults_of_a_killed_run_come_from_its_events(tmp_path: Path) -> None:
    made = synthetic_run.make(synthetic_run.facts(seconds=2))
    run = RunDirectory.create(tmp_path / "run", {"facts": made.facts.to_record()})
    run.append_columns(made.columns)
    about = {"fault": 0, "what": "crash", "nodes": ["n2"]}
    run.append_event(10**9, {"kind": "FaultCommanded", **about, "t_commanded_ns": 10**9})
    run.append_event(10**9 + 2_000_000, {"kind": "FaultObserved", **about, "took_ms": 2.0})
    run.finish("interrupted")
    text = write_page(tmp_path / "run").read_text()
    assert "crash n2" in text
    assert "+2 ms" in text


@pytest.mark.parametrize("damage", [{"nodes": [1]}, {"commanded_ms": "x"}, {"what": None}, {"lost_packets": -1}])
def test_a_damaged_course_is_refused(run_path: Path, tmp_path: Path, damage: dict[str, Any]) -> None:
    path = with_faults(shutil.copytree(run_path, tmp_path / "damaged"), {**COURSE, **damage})
    with pytest.raises(InputError, match="failover"):
        write_page(path)


# ---------------------------------------------------------------------------------------- answer, alt texts, the size


def test_the_page_answers_its_question(run_path: Path, fault_path: Path) -> None:
    assert "Under lstm the buffers lost 0.00 % of the packets with" in write_page(run_path).read_text()
    assert "1 node failed; the last packet was lost 49 ms after the fault, 63 packets of" in (
        write_page(fault_path).read_text()
    )
    with_faults(fault_path, COURSE, verdict="INVALID")
    assert "No answer: the run is INVALID" in write_page(fault_path).read_text()


def test_every_chart_has_a_text_instead_of_it(fault_path: Path) -> None:
    page = write_page(fault_path)
    described = re.findall(r'id="([a-z0-9-]+)" role="img" aria-label="([^"]+)"', page.read_text())
    assert [name for name, _ in described] == list(figures_of(page))
    assert all(len(text) > 40 for _, text in described)


def test_the_page_of_many_nodes_over_a_long_time_stays_below_a_megabyte(tmp_path: Path) -> None:
    made = synthetic_run.make(synthetic_run.facts("lstm", seconds=30, nodes=14))
    synthetic_run.write(made, tmp_path / "run")
    assert len(write_page(tmp_path / "run").read_text()) < 1_000_000


PROBE = """
<script>
"use strict";
window.addEventListener("load", () => setTimeout(() => {
  const drawn = [...document.querySelectorAll(".chart")].map(chart => chart.querySelectorAll("svg.main-svg").length);
  const boxes = [...document.querySelectorAll("main > *, .card, .figures, .scroll")];
  const outside = boxes.filter(box => box.getBoundingClientRect().right > document.documentElement.clientWidth + 1);
  const overlaps = [];
  for (const chart of document.querySelectorAll(".chart")) {
    const texts = [...chart.querySelectorAll(".xtitle, .ytitle, .y2title, .y3title, .legendtext, .xtick, .ytick")]
      .map(text => text.getBoundingClientRect()).filter(box => box.width);
    for (let i = 0; i < texts.length; i++) for (let j = 0; j < i; j++) {
      const a = texts[i], b = texts[j];
      const apart = a.right <= b.left + 1 || b.right <= a.left + 1 || a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
      if (!apart) overlaps.push([chart.id, i, j]);
    }
  }
  document.title = "RESULT " + JSON.stringify({drawn, outside: outside.length, overlaps: overlaps.length});
}, 1500));
</script>
</body>
"""


def in_browser(page: Path, folder: Path, width: int) -> tuple[dict[str, Any], list[str]]:
    """Open a page in headless Chromium; return what the probe in it found and the lines of its console."""
    probed = folder / f"probed-{width}.html"
    probed.write_text(page.read_text().replace("</body>", PROBE))
    name = next(name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name))
    ended = subprocess.run(
        [
            name, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={folder / f'profile-{width}'}", "--enable-logging=stderr", "--virtual-time-budget=10000",
            f"--window-size={width},2000", "--dump-dom", probed.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    found = re.search(r"<title>RESULT (.*?)</title>", ended.stdout)
    assert found is not None, ended.stderr[-2000:]
    return json.loads(found.group(1)), [line for line in ended.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.requires("chromium")
@pytest.mark.parametrize("width", [1280, 500])
def test_in_a_browser_it_is_whole_and_nothing_overlaps(fault_path: Path, tmp_path: Path, width: int) -> None:
    found, console = in_browser(write_page(fault_path), tmp_path, width)
    assert console == []
    assert len(found["drawn"]) == 7
    assert all(found["drawn"])
    assert (found["outside"], found["overlaps"]) == (0, 0)


@pytest.mark.requires("chromium")
def test_the_browser_finds_what_is_planted(run_path: Path, tmp_path: Path) -> None:
    text = write_page(run_path).read_text()
    assert '"domain":[0.3,0.54]' in text
    planted = tmp_path / "planted.html"
    wide = '<div class="card" style="width: 3000px"></div>'
    planted.write_text(
        text.replace('"domain":[0.3,0.54]', '"domain":[0.0,0.23]')
        .replace("</main>", f"{wide}</main>")
        .replace('"use strict";\nconst figures', 'console.error("planted");\nconst figures')
    )
    found, console = in_browser(planted, tmp_path, 1280)
    assert len(console) == 1
    assert found["outside"] >= 1
    assert found["overlaps"] >= 3


@pytest.mark.requires("chromium")
def test_the_comparison_is_right_in_a_browser_too(run_path: Path, tmp_path: Path) -> None:
    page = write_compare_page(compare([run_path]), tmp_path / "compare.html")
    found, console = in_browser(page, tmp_path, 1280)
    assert console == []
    assert len(found["drawn"]) == 1
    assert all(found["drawn"])
    assert (found["outside"], found["overlaps"]) == (0, 0)
