"""What a node costs, from few nodes to a hundred: processor time by kind of process, memory, set-up, verdict.

Every node is offered the rate of its row, from two clients.  A cost that falls with the number of nodes is one that is
shared; one that rises is the wall that a larger cluster meets.  The rival of each figure is that of the smallest
cluster in the same call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from testbed import output
from testbed.bench.rows import Row, row
from testbed.bench.watched_trial import WatchedTrial, watched
from testbed.capacity.spent import AGENTS, CONTROL, MESH, SENDERS, SWITCH
from testbed.errors import TestbedError
from testbed.records.phases import longest

_KINDS = (AGENTS, MESH, CONTROL, SWITCH, SENDERS)
_DURATION = "4s"


class Size(NamedTuple):
    """A cluster: nodes, Mbit/s offered to each, milliseconds between samples."""

    nodes: int
    rate_mbit: float
    interval_ms: int

    @property
    def name(self) -> str:
        """Return what the row is called."""
        return f"{self.nodes} nodes of {self.rate_mbit:g} Mbit/s, samples of {self.interval_ms} ms"


SIZES = (Size(3, 5, 10), Size(10, 5, 10), Size(30, 5, 10), Size(60, 2, 10), Size(100, 1, 50))
SETUP_BARS_S = {3: 2.0, 30: 4.0, 100: 10.0}
VERDICTS = {3: ("VALID",), 30: ("VALID",), 60: ("VALID", "DEGRADED"), 100: ("VALID", "DEGRADED")}
_LOOP_BAR_US, _MEMORY_BAR_MB, _AGENT_BAR = {10: 1000}, 12, {10: 1.0}


def run(only: str = "") -> list[Row]:
    """Run the sizes whose name contains `only`, and return the rows of the curve."""
    chosen = [size for size in SIZES if only.lower() in size.name.lower()]
    rows: list[Row] = []
    for size in chosen:
        output.note(f"  {size.name}")
        try:
            trial = watched(scenario(size))
        except TestbedError as error:
            rows.append(_row(size, "failed", 1, "", note=str(error).replace("\n", "; "), bar="<= 0"))
            continue
        rows += _rows(size, trial)
    return _with_rivals(rows)


def scenario(size: Size) -> dict[str, Any]:
    """Return the scenario of a size, as the YAML has it."""
    half = f"{size.nodes * size.rate_mbit / 2:g}Mbit"
    return {
        "name": "bench-nodes",
        "duration": _DURATION,
        "topology": {
            "family": "cluster", "nodes": size.nodes, "clients": 2, "node_rate": f"{2 * size.rate_mbit:g}Mbit",
        },
        "buffer": {"policy": "lstm", "min": "0.5MB", "max": "10MB", "sample_interval": f"{size.interval_ms}ms"},
        "traffic": [
            {"name": f"half{k}", "from": f"c{k}", "shape": "poisson", "rate": half, "flows": 100, "packet": "1000B"}
            for k in (1, 2)
        ],
    }  # fmt: skip


def _rows(size: Size, trial: WatchedTrial) -> Iterator[Row]:
    summary, nodes = trial.summary, size.nodes
    why = (summary["verdict_reasons"] or ["no reason"])[0]
    wanted = VERDICTS.get(nodes)
    good = float(summary["verdict"] in wanted) if wanted else float(summary["verdict"] == "VALID")
    bar = ">= 1" if wanted else ""
    yield _row(
        size, "verdict", good, f"at least {wanted[-1]}" if wanted else "VALID", bar, f"{summary['verdict']}: {why}"
    )
    for kind in _KINDS:
        bar = f"<= {_AGENT_BAR[nodes]:g}" if kind == AGENTS and nodes in _AGENT_BAR else ""
        yield _row(size, f"{kind}, share of a core per node", 100 * trial.cores.get(kind, 0.0) / nodes, "%", bar)
    total = sum(trial.cores.values())
    yield _row(
        size, "all processes, share of a core per node", 100 * total / nodes, "%", "", f"{total:.2f} cores in all"
    )
    memory = sum(trial.pss_bytes.get(kind, 0) for kind in (AGENTS, MESH)) / nodes / 1e6
    yield _row(size, "memory per node (PSS)", memory, "MB", f"<= {_MEMORY_BAR_MB}")
    setup = f"<= {SETUP_BARS_S[nodes]:g}" if nodes in SETUP_BARS_S else ""
    yield _row(size, "set-up", summary["setup_s"], "s", setup, longest(trial.setup))
    loop = f"<= {_LOOP_BAR_US[nodes]}" if nodes in _LOOP_BAR_US else ""
    yield _row(size, "agent loop p99", (summary.get("control_loop_us") or {}).get("p99", 0.0), "us", loop)
    lost = summary["traffic"]["unaccounted_packets"]
    yield _row(size, "unaccounted", lost, "packets", "<= 0")


def _row(size: Size, what: str, value: float, unit: str, bar: str = "", note: str = "") -> Row:
    return {**row(f"nodes.{size.nodes}.{what}", float(value), unit, bar, note=note), "of": what}


def _with_rivals(rows: list[Row]) -> list[Row]:
    """Return the rows, each beside the same figure of the smallest cluster."""
    first: dict[str, Row] = {}
    for made in rows:
        smallest = first.setdefault(made.pop("of"), made)
        if made is not smallest and made["unit"] in ("%", "MB", "s", "us") and smallest["value"]:
            rival = smallest["name"].split(".")[1]
            ratio = made["value"] / smallest["value"]
            made.update(rival=f"{rival} nodes", rival_value=smallest["value"], ratio=ratio)
    return rows
