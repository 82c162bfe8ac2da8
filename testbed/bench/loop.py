"""The agents' loop: how long it takes, how late it begins, what it costs a node.

Emulated trials of ``burst.yaml``, as it is and with ten nodes, give the figures of real agents under real traffic: from
the samples the time of each loop (sample → decision → limit → notification), of its parts, and its lateness, from the
kernel the processor time, divided by the nodes, and the memory of the agents.  The rival of the lateness is a bare
10 ms loop with the default scheduling class beside the first trial.
"""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from testbed.results.recorded_run import RecordedRun
from testbed.scenario.loading import load
from testbed.system import kernel, places
from testbed.trials.run import RunOptions
from testbed.trials.run import run as run_trial
from testbed.units import NS_PER_MS, NS_PER_S

_INTERVAL_NS = 10 * NS_PER_MS
_CORE_PERCENT = 100
_PARTS = {
    "look": "reading the severity of the peers and the kernel counters",
    "decide": "precursors, forecast, size",
    "act": "pool request, setting the limit, notification, message to the mesh member",
    "record": "after the loop: reading the qdisc and recording",
}
_MB = 10**6
_MANY = 10  # nodes of the second trial


class _Trial(NamedTuple):
    """A finished trial.

    Attributes:
        samples: columns in ns, nulls left out.
        core_percent: processor time of the agents, of a core and a node.
        memory_mb: of all agents.
        note: scenario and verdict.
    """

    samples: dict[str, np.ndarray]
    core_percent: float
    memory_mb: float
    note: str


def run() -> list[dict[str, Any]]:
    """Run the trials and return the rows of the table."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    rival = multiprocessing.get_context("fork").Process(target=_ordinary_loop, args=(theirs,), daemon=True)
    rival.start()
    trial = _trial()
    rival.terminate()
    late_rival_us = _quantile_us(np.array(_all_of(ours)), 0.99)
    many = _trial(f"topology.nodes={_MANY}", "duration=10s")
    return [
        _row("agent loop p99", _quantile_us(trial.samples["loop_ns"], 0.99), "us", 1000, note=trial.note),
        _row("agent loop p50", _quantile_us(trial.samples["loop_ns"], 0.50), "us", None, note=trial.note),
        *(row for part, meaning in _PARTS.items() for row in _part_rows(part, meaning, trial.samples[f"{part}_ns"])),
        _row(
            "lateness of the 10 ms tick p99",
            _quantile_us(trial.samples["lateness_ns"], 0.99),
            "us",
            1000,
            rival="default scheduling class, same trial",
            rival_value=late_rival_us,
        ),
        _row("agents, share of a core per node", trial.core_percent, "%", 2.0),
        _row("agents, memory (PSS)", trial.memory_mb, "MB", 60.0),
        _row(f"{_MANY} nodes: loop p99", _quantile_us(many.samples["loop_ns"], 0.99), "us", 1000, note=many.note),
        _row(f"{_MANY} nodes: share of a core per node", many.core_percent, "%", 1.0),
        _row(f"{_MANY} nodes: memory (PSS)", many.memory_mb, "MB", 60.0),
    ]


def _trial(*settings: str) -> _Trial:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        loaded = load(places.scenarios() / "burst.yaml", settings)
        result = run_trial(loaded, RunOptions(out=path, live=False, quiet=True))
        samples, processes = _samples(path), RecordedRun.open(path).manifest["members"]
    agents = [cost for name, cost in processes.items() if name.startswith("agent")]
    ran_s = float(samples["t_ns"].max()) / NS_PER_S
    return _Trial(
        samples,
        _CORE_PERCENT * sum(cost["cpu_s"] for cost in agents) / ran_s / loaded.scenario.topology.all_nodes,
        sum(cost["pss_bytes"] for cost in agents) / _MB,
        ", ".join(("burst.yaml", *settings, result.summary["verdict"])),
    )


def _row(
    name: str,
    value: float,
    unit: str,
    bar: float | None,
    *,
    rival: str = "",
    rival_value: float | None = None,
    note: str = "",
) -> dict[str, Any]:
    ratio = value / rival_value if rival_value else None
    text = "" if bar is None else f"<= {bar:g} {unit}"
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "rival": rival,
        "rival_value": rival_value,
        "ratio": ratio,
        "bar": text,
        "met": None if bar is None else value <= bar,
        "note": note,
    }


def _part_rows(part: str, meaning: str, taken_ns: np.ndarray) -> list[dict[str, Any]]:
    quantiles = (("p50", 0.50), ("p99", 0.99))
    return [_row(f"  {part} {name}", _quantile_us(taken_ns, q), "us", None, note=meaning) for name, q in quantiles]


def _samples(path: Path) -> dict[str, np.ndarray]:
    names = ["t_ns", "loop_ns", "lateness_ns", *(f"{part}_ns" for part in _PARTS)]
    table = RecordedRun.open(path).samples().select(names)
    return {name: table[name].drop_null().to_numpy() for name in table.column_names}


def _quantile_us(values_ns: np.ndarray, ratio: float) -> float:
    return float(np.quantile(values_ns, ratio)) / 1000


def _ordinary_loop(results: Connection) -> None:
    """Tick every 10 ms as a program without a fixed priority does and report each lateness."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    due_ns = time.monotonic_ns()
    while True:
        due_ns += _INTERVAL_NS
        kernel.sleep_until(due_ns)
        results.send(time.monotonic_ns() - due_ns)


def _all_of(results: Connection) -> list[int]:
    found = []
    while results.poll():
        found.append(results.recv())
    return found
