"""The readers, one line each: what is read, from which corpus, and how it may refuse."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import msgpack  # type: ignore[import-untyped]
from markupsafe import Markup

from testbed.commands import ps
from testbed.errors import InputError
from testbed.forecaster.data import traces as host_traces
from testbed.forecaster.runtime import artefact
from testbed.policies.membership import BALANCER
from testbed.report import agreement, compare, compare_page, page, sweep_page, sweep_table
from testbed.results.recorded_run import RecordedRun
from testbed.results.running import RunningRun
from testbed.scenario import loading
from testbed.traffic import plan_file, traces
from testbed.trials import checks, replay
from testbed.trials.sweep import checked
from testbed.wire import mesh_messages, notification, sealing
from tests import sealed
from tests.fuzz import inputs, mutate_bytes, mutate_json
from tests.fuzz.inputs import Target

NODES = ("n1", "n2", "n3")
_OF_A_REPORT = ("manifest.json", "samples.parquet", "evidence.json", "summary.json", "fidelity.json")
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


def _replay(folder: Path, name: str) -> None:
    str(replay.replay(folder)).encode()


def _table(folder: Path, name: str) -> None:
    _without_plotly()
    table = sweep_table.tabulate(folder)
    (table.text() + sweep_page.render(table) + json.dumps(table.to_record(), allow_nan=False)).encode()
    agreement.text(agreement.judge(table, table)).encode()


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


def _host_trace(folder: Path, name: str) -> None:
    host_traces.usable_parts(host_traces.load_host_trace(folder / name), None)


def _notification(folder: Path, name: str) -> None:
    notification.decode((folder / name).read_bytes()).to_record()


def _siblings(folder: Path, name: str) -> None:
    notification.decode_siblings((folder / name).read_bytes()).to_record()


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
        Target("model", "models", _model, InputError),
        Target("host-trace", "host-traces", _host_trace, InputError),
        Target("notification", "notifications", _notification, ValueError, bare=True),
        Target("siblings", "siblings", _siblings, ValueError, bare=True),
        Target("mesh", "mesh", _mesh, ValueError, (), _mutated_mesh, bare=True),
    )
}
