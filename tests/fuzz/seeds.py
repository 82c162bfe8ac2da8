"""``python -m tests.fuzz.seeds [PART...]``: makes the corpus anew, small sound inputs of every kind.

As root it emulates, too.
The corpus is kept, so that a number means the same input until somebody makes it anew.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from sklearn.ensemble import HistGradientBoostingRegressor

from testbed.capacity.costs import Costs, Slope
from testbed.crate import contents
from testbed.forecaster.evaluation import text as evaluation_text
from testbed.forecaster.evaluation.regressions import WINDOW, Autoregression, Linear, Trees
from testbed.forecaster.evaluation.trained_rivals import save_rivals
from testbed.forecaster.runtime import artefact
from testbed.forecaster.runtime.features import FEATURES
from testbed.forecaster.runtime.horizons import HORIZON_SAMPLES
from testbed.forecaster.training import onnx_export
from testbed.policies.membership import BALANCER
from testbed.records.events import NameSiblings, NotifyBalancer, SendHeartbeat, SendStates, SendSuspicions, StageOfLife
from testbed.report import baseline
from testbed.wire import mesh_messages, node_report, notification, site_report
from tests import sealed
from tests.fuzz.inputs import CORPUS
from tests.fuzz.targets import CARD, NODES

_SMALL = {
    "version": 1,
    "name": "small",
    "duration": "100ms",
    "topology": {"family": "cluster", "nodes": 2, "clients": 1, "node_rate": "20Mbit"},
    "buffer": {"policy": "lstm", "min": "0.02MB", "max": "1MB", "pool": "1.5MB"},
    "traffic": [{"name": "base", "from": "c1", "shape": "constant", "rate": "60Mbit", "flows": 4}],
    "expect": ["traffic.unaccounted_packets == 0"],
}
_CLUSTER = {
    "version": 1,
    "name": "small",
    "nodes": 2,
    "node_host": "node-{number}",
    "balancer_host": "balancer",
    "backend_host": "backend",
    "rate": "20Mbit",
    "ports": [9000],
    "secret": "key",
    "autoscaler": {"policy": "hpa", "min": 1, "max": 2},
}
_BURSTS = {
    **{"name": "bursts", "from": "c1", "shape": "on-off", "peak": "50Mbit", "flows": 20},
    **{"on": {"pareto": {"mean": "30ms", "alpha": 1.5}}, "off": {"exponential": {"mean": "20ms"}}},
    "precursor": {"lead": "10ms", "strength": 0.3},
}
_RICH = {
    **_SMALL,
    "name": "rich",
    "duration": "300ms",
    "topology": {"family": "cascade", "nodes": 2, "clients": 2, "second_tier": 1, "node_rate": "20Mbit"},
    "buffer": {"policy": "oracle", "min": "0.02MB", "max": "1MB", "deflect": True, "ecn_threshold": "10kB"},
    "balancer": {"policy": "two-choices", "affinity_idle": "1s"},
    "traffic": [{"name": "base", "from": "c2", "shape": "poisson", "rate": "9Mbit", "flows": 3}, _BURSTS],
    "faults": [{"at": "100ms", "crash": "n1", "for": "100ms"}, {"at": "220ms", "partition": [["n1"], ["n2", "n3"]]}],
}
_TRACED = {**_SMALL, "name": "traced", "traffic": [{"name": "t", "from": "c1", "trace": "bins.csv", "stretch": 2.5}]}
_TCP = {
    **_SMALL,
    "name": "bulk",
    "duration": "500ms",
    "traffic": [*_SMALL["traffic"], {"name": "bulk", "from": "c1", "shape": "tcp", "streams": 2}],  # type: ignore[misc]
    "faults": [{"at": "200ms", "crash": "n1", "for": "100ms"}],
}
_BINS = "time_s,bytes\n" + "".join(f"{k / 100:.2f},{1000 * k}\n" for k in range(40))
_SWEEP = {
    "version": 1,
    "name": "both",
    "scenario": "small.yaml",
    "set": {"buffer.policy": ["static-min", "static-mean", "lstm"], "buffer.shrink_hold": "100ms"},
    "mean_from": "lstm",
    "seeds": [1, 2],
}
_LSTM, _STATIC = {"buffer.policy": "lstm"}, {"buffer.policy": "static-min"}
_CLAIM = {
    "version": 1,
    "name": "less",
    "statement": "lstm loses less than static-min.",
    "note": "The margin is small.",
    "sweep": {"scenario": "small.yaml", "set": {"buffer.policy": ["static-min", "static-mean", "lstm"]}, "seeds": 2},
    "quick": {"seeds": 2, "set": {"duration": "200ms"}},
    "engines": ["simulation"],
    "tests": [
        {"quantity": "buffer.loss_ratio", "of": _LSTM, "minus": _STATIC, "below": 0},
        {"quantity": "buffer.reserved_mb_s", "of": _LSTM, "over": _STATIC, "between": [1, 9]},
        {"quantity": "traffic.dropped_packets.buffer", "zero": True},
    ],
}


def main() -> None:
    """Make the corpus; of some parts alone where their names are given."""
    parts = {
        part.__name__.strip("_"): part
        for part in (
            _scenarios_and_runs,
            _packet_tables,
            _baselines,
            _swept,
            _claims,
            _clusters,
            _packages,
            _traces,
            _models,
            _rivals,
            _measured,
            _datagrams,
        )
    }
    for name in sys.argv[1:] or parts:
        parts[name]()


def _scenarios_and_runs() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _scenarios(Path(folder))
        _runs(Path(folder))


def _new(name: str) -> Path:
    path = CORPUS / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    return path


def _scenarios(folder: Path) -> None:
    texts = {
        name: _text(data) for name, data in (("small", _SMALL), ("rich", _RICH), ("traced", _TRACED), ("bulk", _TCP))
    }
    target = _new("scenarios")
    for name, text in texts.items():
        for place in (target / name, folder):
            place.mkdir(exist_ok=True)
            (place / f"{name}.yaml").write_text(text)
    (target / "traced/bins.csv").write_text(_BINS)
    sweep = _new("sweeps") / "both"
    sweep.mkdir()
    for place in (sweep, folder):
        (place / "sweep.yaml").write_text(_text(_SWEEP))
        (place / "small.yaml").write_text(texts["small"])


def _text(data: dict[str, Any]) -> str:
    return f"# What does {data['name']} show?\n" + yaml.safe_dump(data, sort_keys=False, default_flow_style=None)


def _runs(folder: Path) -> None:
    runs = _new("runs")
    _testbed(folder, "simulate", "small.yaml", "--out", "lstm")
    _testbed(folder, "simulate", "rich.yaml", "--out", "oracle")
    if os.geteuid() == 0:
        _testbed(folder, "run", "bulk.yaml", "--out", "bulk", "--no-live")
    for run in ("lstm", "oracle", "bulk"):
        if (folder / run).exists():
            _copy_run(folder / run, runs / run)
    shutil.copy(runs / "oracle/plan.parquet", _new("plans"))
    _copy_sweep(_made_sweep(folder), _new("sweep-runs") / "both")


def _packet_tables() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small.yaml").write_text(_text(_SMALL))
        _testbed(Path(folder), "simulate", "small.yaml", "--packets", "--out", "run")
        names = ("manifest.json", "packets.parquet", "flows.parquet")
        _copy_run(Path(folder) / "run", _new("packet-tables") / "small", *names)


def _made_sweep(folder: Path) -> Path:
    for name, data in (("sweep", _SWEEP), ("small", _SMALL)):
        (folder / f"{name}.yaml").write_text(_text(data))
    _testbed(folder, "sweep", "sweep.yaml", "--engine", "simulation", "--out", "swept")
    return folder / "swept"


def _copy_sweep(swept: Path, target: Path, *more: str) -> None:
    target.mkdir()
    for name in ("sweep.json", *more):
        shutil.copy(swept / name, target)
    for run in (path for path in swept.iterdir() if path.is_dir()):
        _copy_run(run, target / run.name, "manifest.json", "summary.json", "scenario.yaml")


def _swept() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _copy_sweep(_made_sweep(Path(folder)), _new("sweep-results") / "both", "sweep.yaml")


def _baselines() -> None:
    baseline.store(_new("baselines") / "lstm.json", [CORPUS / "runs" / "lstm"])


def _claims() -> None:
    claim = _new("claims") / "small"
    claim.mkdir()
    (claim / "claim.yaml").write_text(_text(_CLAIM))
    (claim / "small.yaml").write_text(_text(_SMALL))


def _clusters() -> None:
    small = _new("clusters") / "small"
    small.mkdir()
    (small / "cluster.yaml").write_text(_text(_CLUSTER))
    (small / "key").write_bytes(bytes(range(32)))


def _packages() -> None:
    packages = _new("packages")
    for name, path in (("run", CORPUS / "runs" / "lstm"), ("sweep", CORPUS / "sweep-results" / "both")):
        contents.package(path, packages / f"{name}.zip")


def _copy_run(run: Path, target: Path, *names: str) -> None:
    """Copy what is read of a run, JSON in one line, without what tells of this machine."""
    target.mkdir()
    for file in run.iterdir():
        if file.is_dir() or file.name == "report.html" or (names and file.name not in names):
            continue
        if file.suffix != ".json":
            shutil.copy(file, target)
            continue
        content = json.loads(file.read_text())
        if file.name == "manifest.json":
            content |= {
                "machine": {"kernel": "Linux 6.1", "cores": 2},
                "process": {"pid": 1, "start_ticks": 2, "boot": "3"},
            }
        (target / file.name).write_text(json.dumps(content, separators=(",", ":")) + "\n")


def _testbed(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "testbed", *arguments, "--quiet"]
    subprocess.run(command, cwd=folder, check=False, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, timeout=120)


def _traces() -> None:
    csv = _new("traces-csv")
    (csv / "bins.csv").write_text(_BINS)
    (csv / "bursts.csv").write_text("time_s,bytes\n0.5,1500\n0.7,90000\n3.25,64\n")
    npz = _new("traces-npz")
    np.savez_compressed(npz / "bins.npz", bytes_per_bin=np.arange(50), bin_s=0.01)
    np.savez(npz / "floats.npz", bytes_per_bin=np.linspace(0, 1e5, 20), bin_s=np.array([0.001]))
    host = _new("host-traces")
    rng = np.random.default_rng(1)
    flat, lengths = rng.integers(0, 10**5, 8 * 100), np.full(8, 100)
    np.savez_compressed(host / "hosts.npz", bytes_per_ms=flat, seg_len=lengths, seg_rack=np.arange(8) % 2)
    np.savez_compressed(host / "windows.npz", windows=rng.integers(0, 10**5, (6, 100, 2)))
    pcap = _new("traces-pcap")
    (pcap / "old.pcap").write_bytes(_pcap("<", 0xA1B2C3D4))
    (pcap / "nano.pcap").write_bytes(_pcap(">", 0xA1B23C4D))
    (pcap / "new.pcapng").write_bytes(_pcapng())


_FRAME = bytes(range(60))


def _pcap(order: str, magic: int) -> bytes:
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65_535, 1)
    return head + b"".join(struct.pack(order + "IIII", 5, k * 1000, len(_FRAME), 1400) + _FRAME for k in range(5))


def _pcapng() -> bytes:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        size = struct.pack("<I", 12 + len(body))
        return struct.pack("<I", kind) + size + body + size

    def packet(number: int) -> bytes:
        ticks = (1_700_000_000_000_000 + number * 1000) * (1000 if number % 2 else 1)  # of 1 µs, or of 1 ns
        head = struct.pack("<IIIII", number % 2, ticks >> 32, ticks & 0xFFFFFFFF, len(_FRAME), 1400)
        return block(6, head + _FRAME)

    section = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    nanoseconds = struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
    interfaces = block(1, struct.pack("<HHI", 1, 0, 65_535)) + block(1, struct.pack("<HHI", 1, 0, 0) + nanoseconds)
    return section + interfaces + b"".join(packet(number) for number in range(6))


def _models() -> None:
    rng, hidden, heads = np.random.default_rng(1), 4, 2 * len(HORIZON_SAMPLES)
    shapes = {"weight_ih": (4 * hidden, FEATURES), "weight_hh": (4 * hidden, hidden), "bias": (4 * hidden,)}
    shapes |= {"head_weight": (heads, hidden), "head_bias": (heads,)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    folder = _new("models") / "small"
    artefact.save_model(folder / "model.npz", weights, {"quantile": 0.95, "seed": 1, "metrics": {"mae": 1.5}})
    onnx_export.write_onnx(artefact.load_model(folder / "model.npz"), _new("onnx") / "small.onnx")
    place = f"{evaluation_text.BEGIN}\nold\n{evaluation_text.END}"
    card = f"# Model\n\nweights {CARD['model_sha256']}\n\n{place}\n\n## Limits\n\nnone\n"
    (_new("cards") / "MODEL.md").write_text(card)


def _rivals() -> None:
    heads = len(HORIZON_SAMPLES)
    rows = np.random.default_rng(1).normal(size=(60, WINDOW + FEATURES))
    setting = {"max_iter": 2, "max_leaf_nodes": 3, "early_stopping": False, "min_samples_leaf": 5}
    trees = [HistGradientBoostingRegressor(**setting).fit(rows, rows[:, column]) for column in range(heads)]
    regressions = (
        Autoregression(np.array([0.5, 0.2, 0.1]), 0.3),
        Linear(5, np.zeros((heads, 5 + FEATURES + 1))),
        Trees(tuple(trees)),
    )
    gains = {"EWMA": {"gain": 0.4, "z": 1.2}, "Holt": {"gain": 0.5, "trend_gain": 0.4, "z": 1.2}}
    save_rivals(_new("rivals") / "small" / "model-rivals.npz", gains, *regressions, {"quantile": 0.95})


def _measured() -> None:
    line = Slope(1.0, 2.0)
    numbers = {field.name: line if "Slope" in str(field.type) else 2 for field in dataclasses.fields(Costs)}
    curves = {"paces_pps": (1e3, 1e4), "switch_ns": (line, line), "send_ns": (5e3, 4e3)}
    costs = Costs(**{**numbers, **curves}).to_record()  # type: ignore[arg-type]
    entry = {"machine": "any", "costs": costs}
    folder = _new("costs") / "one"
    (folder / "testbed").mkdir(parents=True)
    (folder / "testbed" / "capacity.json").write_text(json.dumps({"0" * 12: entry}))
    parts = {"loss": 1.5, "delay": 0.25, "memory": 3.0}
    (_new("map-costs") / "map.json").write_text(json.dumps({"0" * 64: parts, "1" * 64: parts}))
    mark = {"path": "/tmp/run", "process": {"pid": 1, "start_ticks": 2, "boot": "3"}}
    (_new("marks") / "mark.json").write_text(json.dumps(mark))


def _datagrams() -> None:
    nodes, ints = ("n1", "n2"), np.array([500_000, 2**40])
    notified = NotifyBalancer(
        nodes=nodes,
        limit_bytes=ints,
        backlog_bytes=ints // 3,
        predicted_bytes=ints * 2,
        severity_ratio=np.array([0.0, 1.0]),
        arrived_bps=ints,
    )
    (_new("notifications") / "two.bin").write_bytes(sealed.encoded(notified))
    named = notification.encode_siblings(NameSiblings(nodes=nodes, siblings=("n2", "")))
    (_new("siblings") / "two.bin").write_bytes(named)
    report = site_report.encode(site_report.SiteReport("asia", 5, 10**7, 10**6, 2, 3), "forecast")
    (_new("site-reports") / "asia.bin").write_bytes(report)
    told = node_report.Report(True, 10**6, 10**9, 5000)
    reports = _new("node-reports")
    (reports / "report.bin").write_bytes(node_report.encode_report(told))
    (reports / "answer.bin").write_bytes(node_report.encode_answer(node_report.Answer(StageOfLife.SERVING, 3)))
    mesh = _new("mesh")
    codec, to, own = mesh_messages.Codec(sealed.ring("n1", NODES), lambda: 5), (BALANCER,), ints[:1]
    states = SendStates(
        to=to,
        nodes=("n1",),
        taken_ns=own,
        limit_bytes=own,
        backlog_bytes=own,
        predicted_bytes=own,
        severity_ratio=np.array([0.25]),
    )
    told = {
        "alive": SendHeartbeat(to=to, incarnation=3),
        "silent": SendSuspicions(to=to, nodes=nodes, incarnation=ints, silent=ints % 3),
        "states": states,
    }
    for name, action in told.items():
        ((_, datagram),) = codec.datagrams([action])
        (mesh / f"{name}.bin").write_bytes(datagram)


if __name__ == "__main__":
    main()
