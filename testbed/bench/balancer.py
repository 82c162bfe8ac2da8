"""What the balancer's decisions take, and what they cost the first packet of a flow.

**Decisions.**  `burst.yaml`: every change of slots or of membership is timed from the arrival of what led to it to the
switch's reply to the barrier behind it.

**First packets.**  A light load of packets that nearly all open a flow, so that the one-way delay is that of first
packets: they are decided in the switch, which looks through its tables and learns.  The rivals are the policy
`per-flow`, which sends each of them to the controller, and the same load on a few flows that are in the switch's cache.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from testbed.bench.rows import Row, percentile, row
from testbed.bench.trials import BenchTrials
from testbed.records.processes import ActionsAcknowledged
from testbed.records.written import is_a
from testbed.scenario.loading import load
from testbed.system import places

_POLICIES = ("headroom", "ready-first")
_PARTS = ("p50", "p99")
_MANY_FLOWS, _FEW_FLOWS = 20_000, 20  # 1500 packets: of the many flows, 19 of 20 are a flow's first


def run() -> list[Row]:
    """Measure, and return the rows.

    Raises:
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
        first = _delay_ms(trials, "hash", _MANY_FLOWS)
        rivals = {
            "per-flow": _delay_ms(trials, "per-flow", _MANY_FLOWS),
            "later packets": _delay_ms(trials, "hash", _FEW_FLOWS),
        }
    return [
        *rows,
        *(
            row(f"balancer.first_packet.{part}", first[part], "ms", "", name, delay[part])
            for name, delay in rivals.items()
            for part in _PARTS
        ),
    ]


def _delay_ms(trials: BenchTrials, policy: str, flows: int) -> dict[str, float]:
    """Return the percentiles of the delay of packets that go over so many flows at random."""
    source = {"name": "first", "from": "c1", "shape": "poisson", "rate": "1Mbit", "flows": flows, "packet": "500B"}
    scenario = {
        "name": "bench-first-packet",
        "duration": "6s",
        "topology": {"family": "cluster", "nodes": 3, "clients": 1, "node_rate": "100Mbit"},
        "buffer": {"policy": "static-min"},
        "balancer": {"policy": policy},
        "traffic": [source],
    }
    delay: dict[str, float] = trials.believed(scenario, 1, f"{policy}, packets of {flows} flows").summary["delay_ms"]
    return delay


def _loops_ms(trials: BenchTrials, policy: str) -> list[float]:
    settings = ("duration=10s", f"balancer.policy={policy}")
    scenario = load(places.scenarios() / "burst.yaml", settings).scenario.resolved()
    trial = trials.believed({key: value for key, value in scenario.items() if key != "seed"}, 1, policy)
    return [line["control_loop_us"] / 1000 for line in trial.lines if is_a(line, ActionsAcknowledged)]
