"""The readers, one line each: what is read, from which corpus, and how it may refuse."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import os
from pathlib import Path
from random import Random
from typing import Any

import msgpack  # type: ignore[import-untyped]
from markupsafe import Markup

from testbed.bench.map_emulated import EmulatedCosts
from testbed.capacity import measured
from testbed.commands import ps
from testbed.crate import comparing
from testbed.deployment import cluster
from testbed.errors import InputError
from testbed.files import tables as file_tables
from testbed.files.reading import Source
from testbed.forecaster import onnx_network
from testbed.forecaster.data import traces as host_traces
from testbed.forecaster.evaluation import text as evaluation_text
from testbed.forecaster.evaluation import trained_rivals
from testbed.forecaster.runtime import artefact
from testbed.openmetrics import history
from testbed.paper import kinds, series, tables
from testbed.policies.membership import BALANCER
from testbed.report import agreement, baseline, compare, compare_page, junit_cases, page, sweep_page, sweep_table
from testbed.report import claims as outcomes
from testbed.report.junit import to_xml
from testbed.results import running
from testbed.results.outcome import ended_if_readable
from testbed.results.recorded_run import RecordedRun, is_alive
from testbed.results.running import RunningRun
from testbed.scenario import loading, plugins
from testbed.scenario.claim import load_claim
from testbed.scenario.sweep import LoadedSweep
from testbed.traffic import plan_file, traces
from testbed.trials import checks, replay, reproducing, sweep_runs
from testbed.trials import claims as testing
from testbed.trials.sweep import checked
from testbed.trials.sweep_runs import SweepRuns
from testbed.wire import mesh_messages, node_report, notification, sealing, site_report
from tests import sealed
from tests.fuzz import inputs, mutate_bytes, mutate_json
from tests.fuzz.inputs import Target

NODES = ("n1", "n2", "n3")
_OF_A_REPORT = ("manifest.json", "samples.parquet", "evidence.json", "summary.json", "fidelity.json")
CARD: dict[str, Any] = {
    **{"model_sha256": "0" * 64, "quantile": 0.95, "interval_ms": 10, "actuation_ms": 10, "stretch": 1.0},
    **{"rate": "40 Mbit/s", "command": "evaluate", "traces": [], "sets": []},
}  # an evaluation of nothing
_OF_A_SWEEP = ("sweep.json", "policy=lstm,seed=1/summary.json", "policy=static-min,seed=2/manifest.json")
_OF_A_RESUMED = ("sweep.json", "sweep.yaml", *("policy=lstm,seed=1/scenario.yaml",) * 3)
_OF_A_REPLAY = ("events.jsonl", "events.jsonl", "samples.parquet", "manifest.json", "scenario.yaml", "plan.parquet")


def _scenario(folder: Path, name: str) -> None:
    loaded = loading.load(next(folder.glob("*.yaml"), folder / name))
    checks.check(loaded, "emulation")
    with contextlib.suppress(InputError):
        checks.check(loaded, "simulation")


def _sweep(folder: Path, name: str) -> None:
    checked(folder / "sweep.yaml")


def _trace(folder: Path, name: str) -> None:
    traces.load(folder / name)


def _captured(folder: Path, name: str) -> None:
    traces.load_packets(folder / name)


def _without_plotly() -> None:
    """Leave out Plotly's script, 5 MB in each page that nobody damages; for this process alone."""
    page.plotly_script = compare_page.plotly_script = Markup


def _report(folder: Path, name: str) -> None:
    _without_plotly()
    page.render(RecordedRun.open(folder)).encode()
    json.dumps(ps._row(RunningRun(1, folder))).encode()


def _compare(folder: Path, name: str) -> None:
    _without_plotly()
    comparison = compare.compare([inputs.CORPUS / "runs" / "lstm", folder], allow_different=True)
    (comparison.text() + compare_page.render(comparison)).encode()
    to_xml(junit_cases.suites_of([folder]))


def _replay(folder: Path, name: str) -> None:
    str(replay.replay(folder)).encode()


def _table(folder: Path, name: str) -> None:
    _without_plotly()
    table = sweep_table.tabulate(folder)
    (table.text() + sweep_page.render(table) + json.dumps(table.to_record(), allow_nan=False)).encode()
    agreement.text(agreement.judge(table, table)).encode()


def _baseline(folder: Path, name: str) -> None:
    judged = baseline.judge(folder / name, [inputs.CORPUS / "runs" / "lstm"], allow_different=True)
    (judged.text() + json.dumps(judged.to_record(), allow_nan=False)).encode()
    to_xml([junit_cases.suite_of_baseline(judged.results)])


def _claim(folder: Path, name: str) -> None:
    claim = load_claim(folder / "claim.yaml")
    for quick in (False, True):
        checked(testing.write_sweep(claim, folder / "out", quick=quick), "simulation")


def _package(folder: Path, name: str) -> None:
    package = reproducing.examined(folder / name, folder / "unpacked", trust=False, note=str.encode)
    for run in package.runs:
        ran = ended_if_readable(package.folder / run["path"])
        if ran is not None:
            comparing.compared(comparing.Pair(run, ran, ran), package.version).why.encode()
        with contextlib.suppress(InputError), plugins.executing_none():
            loading.load(package.folder / run["path"] / "scenario.yaml")


@functools.cache
def _loaded_sweep() -> LoadedSweep:
    return checked(inputs.CORPUS / "sweeps" / "both" / "sweep.yaml", "simulation")


def _resume(folder: Path, name: str) -> None:
    there = SweepRuns(_loaded_sweep(), folder, "simulation")
    there.refuse_another_sweep()
    for trial in _loaded_sweep().trials:
        there.refuse_stale(trial)
        there.mean_bytes(trial)
        there.open(trial)
        json.dumps(sweep_runs.summary_of(folder / trial.name), allow_nan=False).encode()


def _figures(folder: Path, name: str) -> None:
    """Read a sweep as `claims`, `plot` and `table` do."""
    claim = load_claim(inputs.CORPUS / "claims" / "small" / "claim.yaml")
    outcomes.markdown([outcomes.judge(claim, sweep_table.tabulate(folder), folder, "simulation")]).encode()
    with contextlib.suppress(InputError):
        series.to_csv(kinds.data_of(folder, "bar")).encode()
    tables.table(folder, "latex").encode()


def _export(folder: Path, name: str) -> None:
    """Read a run as `export`, `plot`, `table` and `watch` do."""
    run = RecordedRun.open(folder)
    for text in history.exposition(run):
        text.encode()
    for kind in ("timeline", "heatmap"):
        with contextlib.suppress(InputError):
            series.to_csv(kinds.data_of(folder, kind)).encode()
    tables.table(folder, "markdown").encode()


def _packets(folder: Path, name: str) -> None:
    """Read the packets and flows of a run as `export` and the Python interface do."""
    run = RecordedRun.open(folder)
    for table in (run.packets(), run.flows()):
        for text in file_tables.csv_texts(table):
            text.encode()


def _mark(folder: Path, name: str) -> None:
    is_alive(running._read_mark(Source(folder / name, "it is not ours"))["process"])


def _costs(folder: Path, name: str) -> None:
    """Read what was measured of the machine; what cannot be read holds nothing, so nothing is refused."""
    os.environ["XDG_CACHE_HOME"] = str(folder)
    setattr(measured, "_machine", lambda: "any")  # noqa: B010 - for this process alone
    small = loading.load(inputs.CORPUS / "scenarios" / "small" / "small.yaml").scenario
    found = measured.recall(small)
    if found is None:
        raise InputError("recalling costs", "nothing holds")
    for of in (found.costs.switch_packet_ns(5e3, 4), found.costs.send_packet_ns(5e3), found.costs.densest_ns(4)):
        f"{of:,.0f}".encode()


def _map(folder: Path, name: str) -> None:
    """Read costs of emulated runs that `bench map` has kept."""
    EmulatedCosts(folder / name)


def _card(folder: Path, name: str) -> None:
    evaluation_text.write_section(folder / name, CARD)


def _onnx(folder: Path, name: str) -> None:
    onnx_network.load_onnx(folder / name)


def _plan(folder: Path, name: str) -> None:
    plan = plan_file.read(folder / name)
    plan.begun_ns(10**9)


def _model(folder: Path, name: str) -> None:
    if name.endswith(".npz"):  # or the hash of the weights would be as far as anybody gets
        weights, manifest = folder / "model.npz", folder / "model.json"
        digest = hashlib.sha256(weights.read_bytes() if weights.is_file() else b"").hexdigest()
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "weights_sha256": digest}))
    model = artefact.load_model(folder / "model.npz")
    assert math.isfinite(model.quantile)


def _rivals(folder: Path, name: str) -> None:
    if name.endswith(".npz"):
        numbers, manifest = folder / "model-rivals.npz", folder / "model-rivals.json"
        digest = hashlib.sha256(numbers.read_bytes() if numbers.is_file() else b"").hexdigest()
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "numbers_sha256": digest}))
    trained_rivals.load_rivals(folder / "model.npz")


def _host_trace(folder: Path, name: str) -> None:
    host_traces.usable_parts(host_traces.load_host_trace(folder / name), None)


def _notification(folder: Path, name: str) -> None:
    notification.decode((folder / name).read_bytes()).to_record()


def _siblings(folder: Path, name: str) -> None:
    notification.decode_siblings((folder / name).read_bytes()).to_record()


def _site_report(folder: Path, name: str) -> None:
    site_report.decode((folder / name).read_bytes())


def _node_report(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    try:
        node_report.decode_report(content)
    except ValueError:
        node_report.decode_answer(content)


def _cluster(folder: Path, name: str) -> None:
    cluster.load(folder / "cluster.yaml").ring("n0")


def _mesh(folder: Path, name: str) -> None:
    events = mesh_messages.Codec(sealed.ring(BALANCER, NODES), lambda: 0).decode((folder / name).read_bytes())
    if not events:
        raise ValueError("ignored")
    for event in events:
        event.to_record()


def _mutated_mesh(content: bytes, rng: Random) -> bytes:
    """Return a message of the mesh with its body damaged, most often with the tag that belongs to it."""
    head, body = content[: sealing._HEADER.size], content[sealing._HEADER.size : -sealing.TAG_BYTES]
    if rng.random() < 0.3:
        return mutate_bytes.mutate(content, rng)
    if rng.random() < 0.5:
        body = mutate_bytes.mutate(body, rng)
    else:
        text = json.dumps(msgpack.unpackb(body), default=lambda column: column.decode("latin-1"))
        body = _packed(mutate_json.mutate(text.encode(), rng), body)
    return head + body + sealing._Tags(sealed.ring("n1", NODES).to).of(BALANCER, head + body)


def _packed(text: bytes, otherwise: bytes) -> bytes:
    try:
        packed: Any = msgpack.packb(_with_columns(json.loads(text)))
    except (ValueError, OverflowError, RecursionError):
        return otherwise
    return bytes(packed)


def _with_columns(body: Any) -> Any:
    """Return a body whose texts are columns again, the bytes of their numbers."""
    if isinstance(body, list):
        return [_with_columns(item) for item in body]
    return body.encode("latin-1", "ignore") if isinstance(body, str) else body


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target("scenario", "scenarios", _scenario, InputError),
        Target("sweep", "sweeps", _sweep, InputError),
        Target("csv", "traces-csv", _trace, InputError),
        Target("npz", "traces-npz", _trace, InputError),
        Target("pcap", "traces-pcap", _trace, InputError),
        Target("captured", "traces-pcap", _captured, InputError),
        Target("report", "runs", _report, InputError, _OF_A_REPORT),
        Target("compare", "runs", _compare, InputError, ("manifest.json", "summary.json", "scenario.yaml")),
        Target("replay", "runs", _replay, InputError, _OF_A_REPLAY),
        Target("plan", "plans", _plan, InputError),
        Target("table", "sweep-runs", _table, InputError, ()),
        Target("resume", "sweep-results", _resume, InputError, _OF_A_RESUMED),
        Target("figures", "sweep-results", _figures, InputError, _OF_A_SWEEP),
        Target("export", "runs", _export, InputError, _OF_A_REPORT),
        Target("packets", "packet-tables", _packets, InputError, ("packets.parquet", "flows.parquet", "manifest.json")),
        Target("baseline", "baselines", _baseline, InputError),
        Target("claim", "claims", _claim, InputError),
        Target("package", "packages", _package, InputError),
        Target("mark", "marks", _mark, InputError),
        Target("costs", "costs", _costs, InputError),
        Target("map", "map-costs", _map, InputError),
        Target("card", "cards", _card, InputError),
        Target("onnx", "onnx", _onnx, InputError),
        Target("model", "models", _model, InputError),
        Target("rivals", "rivals", _rivals, InputError),
        Target("host-trace", "host-traces", _host_trace, InputError),
        Target("notification", "notifications", _notification, ValueError, bare=True),
        Target("siblings", "siblings", _siblings, ValueError, bare=True),
        Target("site-report", "site-reports", _site_report, ValueError, bare=True),
        Target("node-report", "node-reports", _node_report, ValueError, bare=True),
        Target("cluster", "clusters", _cluster, InputError),
        Target("mesh", "mesh", _mesh, ValueError, (), _mutated_mesh, bare=True),
    )
}
