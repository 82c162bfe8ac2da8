"""What the balancer's decisions take: from a notification to the switch's word that the change is in force.

`burst.yaml`: every change of slots or of membership is timed from the arrival
of what led to it to the reply to the barrier behind it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from testbed import places
from testbed.bench.rows import Row, percentile, row
from testbed.bench.trials import BenchTrials
from testbed.spec.loading import load

_POLICIES = ("headroom", "ready-first")


def run() -> list[Row]:
    """Measure, and return the rows.

    Raises:
        MachineError: not root.
        ToolError: the machine disturbed every attempt at a run.
    """
    rows = []
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        trials = BenchTrials(Path(folder))
        for policy in _POLICIES:
            loops_ms = _loops_ms(trials, policy)
            note = f"{len(loops_ms)} changes, burst.yaml"
            rows += [
                row(f"balancer.decision.{policy}.p50", percentile(loops_ms, 0.5), "ms", note=note),
                row(f"balancer.decision.{policy}.p99", percentile(loops_ms, 0.99), "ms", "<= 3", note=note),
            ]
    return rows


def _loops_ms(trials: BenchTrials, policy: str) -> list[float]:
    settings = ("duration=10s", f"balancer.policy={policy}")
    scenario = load(places.scenarios() / "burst.yaml", settings).scenario.resolved()
    trial = trials.believed({key: value for key, value in scenario.items() if key != "seed"}, 1, policy)
    return [line["control_loop_us"] / 1000 for line in trial.lines if line["kind"] == "ActionsAcknowledged"]
