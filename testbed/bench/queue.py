"""The modelled queue beside the real one, and the rate that is delivered, at 10, 100 and 500 Mbit/s.

At each rate one node is saturated by steady traffic with bursts on it, under `reactive`, so that its limit goes up and
down again and again while packets wait.  Every sample has both queues, read back to back: the table tells the share of
the backlogged samples in which they are further apart than 2 packets and 2 % of the larger, the largest distance, and
the delivered over the configured rate in windows of 100 ms with a backlog.

Packets grow with the rate, as the switch forwards about 50,000 a second here: 1000, 1514 and 3500 bytes.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from testbed.errors import ToolError
from testbed.records.samples import NodeSamples
from testbed.results.fidelity.link import QUEUE_GRAIN_PKTS
from testbed.results.queues import queue_distances, window_rate_errors
from testbed.results.recorded_run import RecordedRun
from testbed.scenario.loading import load
from testbed.trials.run import RunOptions
from testbed.trials.run import run as run_trial

_CASES = ((10, 1000), (100, 1514), (500, 3500))  # Mbit/s, bytes
_APART_PERCENT, _RATE_PERCENT = 1.0, 1.0
_PERCENT = 100

_SCENARIO = """\
# Do the modelled and the real queue agree, whatever way the limit moves?
version: 1
name: queue
duration: 6s
topology: {{family: single, node_rate: {rate}Mbit}}
buffer: {{policy: reactive, min: {floor}kB, max: {cap}kB, shrink_hold: 50ms}}
traffic:
  - {{name: base, from: c1, shape: constant, rate: {base}Mbit, flows: 20, packet: {packet}B}}
  - name: bursts
    from: c1
    shape: on-off
    on: {{constant: 200ms}}
    off: {{constant: 400ms}}
    peak: {peak}Mbit
    flows: 20
    packet: {packet}B
"""


@dataclass(frozen=True, slots=True)
class _Case:
    """What came of one rate."""

    rate_mbps: int
    packet_bytes: int
    verdict: str
    samples: NodeSamples

    @property
    def grain_bytes(self) -> int:
        return QUEUE_GRAIN_PKTS * self.packet_bytes


def run() -> list[dict[str, Any]]:
    """Run a trial at each rate and return the rows of the table."""
    return [row for rate, packet in _CASES for row in _rows(_case(rate, packet))]


def _case(rate_mbps: int, packet_bytes: int) -> _Case:
    text = _SCENARIO.format(
        rate=rate_mbps,
        packet=packet_bytes,
        base=0.85 * rate_mbps,
        peak=0.45 * rate_mbps,
        floor=2.5 * rate_mbps,  # 20 ms of the rate, and the cap 400
        cap=50 * rate_mbps,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "queue.yaml"
        path.write_text(text, encoding="utf-8")
        result = run_trial(load(path), RunOptions(out=Path(folder) / "run", live=False, quiet=True))
        (samples,) = _samples(result.path)
    return _Case(rate_mbps, packet_bytes, result.summary["verdict"], samples)


def _samples(path: Path) -> list[NodeSamples]:
    return list(RecordedRun.open(path).samples_by_node().values())


def _rows(case: _Case) -> list[dict[str, Any]]:
    distance, allowed = queue_distances(case.samples, case.grain_bytes)
    errors = window_rate_errors(case.samples, case.rate_mbps * 10**6, case.grain_bytes)
    if not distance.size or not errors.size:
        raise ToolError(f"measuring a queue at {case.rate_mbps} Mbit/s", "the node never had a backlog", "report this")
    outside = _PERCENT * float(np.mean(distance > allowed))
    farthest = int(np.argmax(distance - allowed))
    rate = _PERCENT * (1 + float(np.median(errors)))
    moves = np.diff(case.samples.limit_bytes)[case.samples.backlog_bytes[1:] > case.grain_bytes]
    resizes = f"{np.sum(moves > 0)} resizes up and {np.sum(moves < 0)} down among them"
    name, note = f"queue.{case.rate_mbps}mbit", f"{case.packet_bytes} B packets, {case.verdict}"
    return [
        _row(
            f"{name}_apart",
            outside,
            "% of samples",
            f"<= {_APART_PERCENT:g} %",
            outside <= _APART_PERCENT,
            f"{distance.size} backlogged samples, {resizes}; {note}",
        ),
        _row(
            f"{name}_farthest",
            float(distance[farthest]),
            "B",
            note=f"{allowed[farthest]:.0f} B are 2 packets and 2 % there; {note}",
        ),
        _row(
            f"{name}_delivered",
            rate,
            "% of the rate",
            f"{_PERCENT:g} +- {_RATE_PERCENT:g} %",
            abs(rate - _PERCENT) <= _RATE_PERCENT,
            f"median of {errors.size} windows of 100 ms; {note}",
        ),
    ]


def _row(name: str, value: float, unit: str, bar: str = "", met: bool | None = None, note: str = "") -> dict[str, Any]:
    return {
        **{"name": name, "value": value, "unit": unit, "rival": "", "rival_value": None, "ratio": None},
        **{"bar": bar, "met": met, "note": note},
    }
