"""Does `doctor SCENARIO` foretell the verdict?  Scenarios on both sides of the edge, each measured first and then run.

A family is a cluster with settings of its own: nodes, interval, packet size, policy, bursts, mesh.  What things cost
under them is measured as `doctor` does it, and the model says up to which rates the family is VALID.  Then runs are
made at `INSIDE` and `BEYOND` of those rates, and each verdict is held against the forecast of that very scenario.  A
family that is not VALID at any rate is run at its least one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testbed import output
from testbed.bench.rows import Row, row
from testbed.bench.watched_trial import load_of_data
from testbed.capacity import foresight, probe
from testbed.capacity.costs import Costs
from testbed.capacity.load import Load, load_of
from testbed.capacity.model import forecast
from testbed.records.engines import EMULATION
from testbed.trials import checks
from testbed.trials.run import RunOptions
from testbed.trials.run import run as run_trial

RIGHT_OF_20 = 18
INSIDE, BEYOND = 0.6, 1.6
_LEAST, _MOST, _STEPS = 0.02, 40.0, 24
_MESH_SLOW = {"heartbeat": "50ms", "sync_interval": "500ms"}


def _family(
    nodes: int, mbit: float, interval: str, policy: str, packet: str, *, bursts: bool = False, **changed: Any
) -> dict[str, Any]:
    """Return a scenario whose nodes are offered `mbit` each."""
    client = {"packet": packet, "flows": 60}
    half = f"{nodes * mbit / 2:.4f}Mbit"
    even = {"name": "even", "from": "c1", "shape": "poisson", "rate": half, **client}
    other = {**even, "name": "other", "from": "c2"}
    if bursts:
        other = {"name": "other", "from": "c2", "shape": "on-off", "on": {"constant": "80ms"},
                 "off": {"constant": "320ms"}, "peak": f"{nodes * mbit * 2.5:.4f}Mbit", **client}  # fmt: skip
    return {
        "name": "bench-capacity", "duration": "4s",
        "topology": {"family": "cluster", "nodes": nodes, "clients": 2, "node_rate": f"{max(3 * mbit, 1):.4f}Mbit"},
        "buffer": {"policy": policy, "min": "0.5MB", "max": "10MB", "sample_interval": interval},
        "traffic": [even, other], **changed,
    }  # fmt: skip


# Nodes, Mbit/s a node, sample interval, policy, packet; bursts; changed keys.
FAMILIES: dict[str, dict[str, Any]] = {
    "one node": {"nodes": 1, "mbit": 10, "interval": "10ms", "policy": "lstm", "packet": "1000B"},
    "three, lstm": {"nodes": 3, "mbit": 5, "interval": "10ms", "policy": "lstm", "packet": "1000B"},
    "three, small packets": {"nodes": 3, "mbit": 2, "interval": "10ms", "policy": "static-min", "packet": "200B"},
    "three, large packets": {"nodes": 3, "mbit": 10, "interval": "20ms", "policy": "reactive", "packet": "3000B"},
    "three, bursts": {"nodes": 3, "mbit": 5, "interval": "10ms", "policy": "holt", "packet": "1000B", "bursts": True},
    "six, slow samples": {"nodes": 6, "mbit": 5, "interval": "50ms", "policy": "ewma", "packet": "1000B"},
    "six, bursts": {"nodes": 6, "mbit": 4, "interval": "20ms", "policy": "lstm", "packet": "1400B", "bursts": True},
    "ten, slow samples": {"nodes": 10, "mbit": 3, "interval": "50ms", "policy": "lstm", "packet": "1000B"},
    "ten, slow mesh": {"nodes": 10, "mbit": 3, "interval": "20ms", "policy": "reactive", "packet": "1000B",
                       "mesh": _MESH_SLOW},
    "sixteen, all slow": {"nodes": 16, "mbit": 2, "interval": "100ms", "policy": "static-min", "packet": "1000B",
                          "mesh": _MESH_SLOW, "bursts": True},
}  # fmt: skip


def run(only: str = "") -> list[Row]:
    """Foretell and run the families whose name contains `only`; the last row says how many were right.

    Raises:
        TestbedError: a measurement or a run failed.
    """
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as name:
        for family in FAMILIES:
            if only.lower() in family.lower():
                rows += _of_family(family, Path(name))
    right, least = sum(made["value"] for made in rows), RIGHT_OF_20 * len(rows) / 20
    return [*rows, {**row("capacity.right", right, f"of {len(rows)}", f">= {least:g}"), "case": "right"}]


def _of_family(family: str, folder: Path) -> Iterator[Row]:
    settings = FAMILIES[family]
    costs, load = _measured(settings, folder)
    edge = valid_share(load, costs)
    for share in (INSIDE * edge, BEYOND * edge) if edge else (_LEAST,):
        settings_now = {**settings, "mbit": settings["mbit"] * share}
        yield _case(f"{family}, {settings_now['mbit']:.3g} Mbit/s a node", _family(**settings_now), costs, folder)


def _measured(settings: dict[str, Any], folder: Path) -> tuple[Costs, Load]:
    loaded = load_of_data(_family(**settings), folder)
    output.note("  measuring")
    network, plan = checks.planned(loaded, EMULATION)
    return probe.measure(loaded.scenario), load_of(loaded.scenario, network, plan)


def valid_share(load: Load, costs: Costs) -> float:
    """Return the largest share of the rates at which the forecast is VALID; 0 where there is none."""
    ratio = (_MOST / _LEAST) ** (1 / _STEPS)
    shares = [_LEAST * ratio**step for step in range(_STEPS + 1)]
    return max((share for share in shares if forecast(load.of_rate(share), costs).verdict == "VALID"), default=0.0)


def _case(case: str, scenario: dict[str, Any], costs: Costs, folder: Path) -> Row:
    loaded = load_of_data(scenario, folder)
    network, plan = checks.planned(loaded, EMULATION)
    seen = foresight.expected(costs, load_of(loaded.scenario, network, plan))
    output.note(f"  {case}: {seen.words}")
    out = folder / f"run{len(list(folder.iterdir()))}"
    summary = run_trial(loaded, RunOptions(out=out, live=False, quiet=True)).summary
    found = (summary["verdict_reasons"] or [""])[0]
    output.note(f"    {summary['verdict']} {found}")
    made = row("capacity.case", float(seen.verdict == summary["verdict"]), "right")
    return {**made, "note": found, "case": case, "expected": seen.verdict, "by": seen.forecast.limit.name,
            "verdict": summary["verdict"]}  # fmt: skip


def table(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of the table, its head first."""
    yield "case", "expected", "by", "verdict", "right", "reason"
    for made in rows:
        if "expected" in made:
            right = "yes" if made["value"] else "NO"
            yield made["case"], made["expected"], made["by"], made["verdict"], right, made["note"]
        else:
            yield "all", "", "", "", f"{made['value']:g} {made['unit']} ({made['bar']})", ""
