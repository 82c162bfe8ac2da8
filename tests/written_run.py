"""A scenario written, run on the real kernel and read back: what the tests of single features share."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

BASE: dict[str, Any] = {
    "version": 1,
    "name": "written",
    "duration": "1s",
    "topology": {"family": "cluster", "nodes": 2, "clients": 1, "node_rate": "20Mbit"},
    "buffer": {"policy": "static-min", "min": "0.1MB"},
    "balancer": {"policy": "round-robin"},
}


@dataclass(frozen=True)
class Written:
    """What a run left behind."""

    path: Path
    summary: dict[str, Any]
    evidence: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the evidence of each node."""
        return {node["node"]: node for node in self.evidence["nodes"]}

    def total(self, name: str) -> int:
        """Return a count summed over the nodes."""
        return sum(node[name] for node in self.evidence["nodes"])


def constant(rate: str, flows: int = 1) -> dict[str, Any]:
    """Return a source of equally spaced packets of 1000 bytes."""
    return {"name": "data", "from": "c1", "shape": "constant", "rate": rate, "flows": flows}


def run(folder: Path, name: str, **changed: Any) -> Written:
    """Run `BASE` with the sections changed and return what it left; an invalid verdict is no error here."""
    scenario = folder / f"{name}.yaml"
    scenario.write_text(yaml.safe_dump({**BASE, **changed}))
    out = folder / name
    argv = [sys.executable, "-m", "testbed", "run", str(scenario), "--out", str(out), "--no-live", "--quiet"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode in (0, 5), done.stderr  # 5: the machine was too busy for valid figures, counts are exact

    def read(file: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((out / file).read_text())
        return content

    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return Written(out, read("summary.json"), read("evidence.json"), events)
