"""The verdict: may this run be believed?

A trial on a real machine can be disturbed by the machine.  Each check compares one measured value with two bounds:
past the first the run is DEGRADED (its numbers carry a caveat, named), past the second INVALID (its numbers are never
averaged).  The worst check is the verdict.  Every bound is a constant here with its reason.

What the engine did not measure is not checked and listed in `Fidelity.not_checked`, so that silence is visible.
The physics are defined in `queues`, the accounting in `evidence`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from testbed.results.evidence import Evidence, NodeEvidence, account, total
from testbed.results.facts import RunFacts
from testbed.results.histogram import Histogram, merged
from testbed.results.queues import queue_distances, window_rate_errors
from testbed.results.samples import NodeSamples
from testbed.units import NS_PER_MS

Verdict = Literal["VALID", "DEGRADED", "INVALID"]
_SEVERITY: dict[Verdict, int] = {"VALID": 0, "DEGRADED": 1, "INVALID": 2}


class Bound(NamedTuple):
    """Largest value that is still good, and largest that is still usable; in the unit of the check."""

    good: float
    usable: float


# A packet that nobody can place means that some counter lies: no loss figure of the run can be trusted.
UNACCOUNTED_PKTS = Bound(0, 0)
# A duplicate and an unnoticed loss cancel in the accounting, so duplicates void it.
DUPLICATE_PKTS = Bound(0, 0)
# Loss outside the buffer is not what is studied. Up to 0.1 % of the packets it is a caveat: losses that are compared
# between policies are percents.
STRAY_LOSS_RATIO = Bound(0.0, 0.001)
# The contract's 2 %. The median says which rate the link had: if it is off, it was another link.
RATE_ERROR_MEDIAN_RATIO = Bound(0.02, 0.02)
# One slow window (the machine stalled) is a caveat. If one in twenty is, the link was not the configured one.
RATE_ERROR_RATIO = 0.02
RATE_WINDOWS_OFF_RATIO = Bound(0.0, 0.05)
# The contract's 2 packets + 2 %. The two queues are read one after the other, so now and then packets come between:
# up to 1 % of the samples may differ. Beyond 10 % the queue that drops is not the queue that delays.
QUEUE_GRAIN_PKTS = 2
QUEUES_APART_RATIO = Bound(0.01, 0.10)
# With few backlogged samples one race would be past 1 %: so many may always differ.
QUEUES_APART_FREE_SAMPLES = 2
# A packet 1 ms late moves within a tenth of a sample. At 5 ms the burst on the wire is not the planned one.
SEND_LATENESS_MS = Bound(1.0, 5.0)
# Packets planned and not sent change the load itself.
UNSENT_RATIO = Bound(0.0, 0.01)
# A tick 2 ms late costs a fifth of a 10 ms interval of lead time; the second bound is the interval itself.
AGENT_LATENESS_GOOD_MS = 2.0
# Each missing sample is a blind interval of the agent; at a tenth it is another policy.
MISSING_SAMPLES_RATIO = Bound(0.02, 0.10)
# An agent hands its samples over ten at a time; those it has not are lost with it when a fault kills it. The interval
# in which it starts anew is not whole.
SAMPLES_LOST_BY_A_CRASH = 11
# What was not seen to break was not studied, whatever the run shows.
FAULTS_UNSEEN = Bound(0, 0)
# Busy share of all cores. Beyond 90 % timers and softirqs begin to queue behind each other, at 97 % they do.
CPU_BUSY_RATIO = Bound(0.90, 0.97)
# A full second without idle time hides in the mean of a long run, and is long enough to disturb bursts.
CPU_BUSY_WORST_RATIO = Bound(0.98, float("inf"))
# Time the hypervisor took is time no counter of ours sees.
CPU_STEAL_RATIO = Bound(0.01, 0.05)
# For most of the run some task waited for a core: real-time priority keeps the agents on time, not the softirqs that
# carry the packets.
CPU_PRESSURE_RATIO = Bound(0.60, float("inf"))
# A CPU quota stops everything at once; 1 % of the time in pauses of 100 ms is many bursts.
THROTTLED_RATIO = Bound(0.0, 0.01)
# Generic XDP runs after the kernel has built its packet and may queue it: same decisions, other costs and delays.
GENERIC_XDP_NODES = Bound(0, float("inf"))
# All times are monotonic, so a step moves only the wall-clock stamps of the manifest; it hints at a suspended machine.
CLOCK_STEPS = Bound(0, float("inf"))
# A full neighbour table delays or loses packets for reasons outside the scenario.
NEIGHBOUR_OVERFLOWS = Bound(0, float("inf"))


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: what was checked, in words a report can print.
        verdict: what this check alone would say.
        value: the measured value that decides.
        good, usable: the bounds; None for no limit.
        unit: of value and bounds.
        evidence: what else was measured for it, plain values.
    """

    name: str
    verdict: Verdict
    value: float
    good: float
    usable: float | None
    unit: str
    evidence: Mapping[str, Any]

    @property
    def reason(self) -> str:
        """Return one line that says value, bounds and what else was seen."""
        unit = f" {self.unit}" if self.unit else ""
        bounds = f"good up to {_short(self.good)}" + (
            f", usable up to {_short(self.usable)}" if self._usable_ends else ""
        )
        more = ", ".join(f"{key} {_short(value)}" for key, value in self.evidence.items() if value is not None)
        return f"{self.name}: {_short(self.value)}{unit} ({bounds}{f'; {more}' if more else ''})"

    @property
    def _usable_ends(self) -> bool:
        return self.usable is not None and self.usable > self.good


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The verdict of a run and what it stands on.

    Attributes:
        verdict: VALID, DEGRADED or INVALID.
        reasons: one line for each check that is not VALID, worst first.
        checks: all checks made.
        not_checked: names of checks the engine gave no measurement for.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    not_checked: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form, written to ``fidelity.json``."""
        return {
            "schema": 1,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "checks": [dataclasses.asdict(check) for check in self.checks],
            "not_checked": list(self.not_checked),
        }


class _Run(NamedTuple):
    evidence: Evidence
    facts: RunFacts
    samples: Mapping[str, NodeSamples]
    rate_errors: np.ndarray


def judge(evidence: Evidence, rows: Mapping[str, NodeSamples], facts: RunFacts) -> Fidelity:
    """Return the verdict of a run.

    Args:
        evidence: what the engine handed over.
        rows: the samples of each node.
        facts: the scenario's rates, interval and packet size.
    """
    run = _Run(evidence, facts, rows, _rate_errors(facts, rows))
    checks, absent = [], []
    for name, check in _CHECKS.items():
        made = check(run, name)
        if made is None:
            absent.append(name)
        else:
            checks.append(made)
    bad = sorted((c for c in checks if c.verdict != "VALID"), key=lambda c: -_SEVERITY[c.verdict])
    verdict = bad[0].verdict if bad else "VALID"
    return Fidelity(verdict, tuple(check.reason for check in bad), tuple(checks), tuple(absent))


def _check(name: str, value: float | None, bound: Bound, unit: str = "", **evidence: Any) -> Check | None:
    if value is None:
        return None
    verdict: Verdict = "VALID" if value <= bound.good else "DEGRADED" if value <= bound.usable else "INVALID"
    usable = None if bound.usable == float("inf") else bound.usable
    return Check(name, verdict, value, bound.good, usable, unit, evidence)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# ------------------------------------------------------------------------------------------------- packets and bytes


def _conservation(run: _Run, name: str) -> Check | None:
    books = account(run.evidence)
    value = abs(books.unaccounted_pkts)
    return _check(name, value, UNACCOUNTED_PKTS, "packets", sent=books.sent_pkts, delivered=books.delivered_pkts)


def _duplicates(run: _Run, name: str) -> Check | None:
    return _check(name, total(node.duplicate_pkts for node in run.evidence.nodes), DUPLICATE_PKTS, "packets")


def _stray_loss(run: _Run, name: str) -> Check | None:
    evidence = run.evidence
    places = {
        "qdisc": total(node.qdisc_dropped_pkts for node in evidence.nodes),
        "switch": evidence.switch_dropped_pkts,
        "veth": total(node.veth_dropped_pkts for node in evidence.nodes),
        "softnet": evidence.softnet_dropped_pkts,
        "malformed": total(node.malformed_pkts for node in evidence.nodes),
        "aborted": total(node.aborted_pkts for node in evidence.nodes),
    }
    lost = total(places.values())
    if lost is None:
        return None
    return _check(name, lost / max(account(evidence).sent_pkts, 1), STRAY_LOSS_RATIO, "of the packets sent", **places)


def _unsent(run: _Run, name: str) -> Check | None:
    planned = sum(client.planned_pkts for client in run.evidence.clients)
    unsent = planned - account(run.evidence).sent_pkts
    errors = sum(client.send_errors for client in run.evidence.clients)
    return _check(name, abs(unsent) / max(planned, 1), UNSENT_RATIO, "of the plan", unsent=unsent, send_errors=errors)


def _faults_seen(run: _Run, name: str) -> Check | None:
    unseen = run.evidence.faults_unseen
    if unseen is None:
        return None
    return _check(name, len(unseen), FAULTS_UNSEEN, "faults", **({"which": ", ".join(unseen)} if unseen else {}))


# ------------------------------------------------------------------------------------------------- queue and link


def _rate_errors(facts: RunFacts, samples: Mapping[str, NodeSamples]) -> np.ndarray:
    grain = QUEUE_GRAIN_PKTS * facts.largest_packet_bytes
    rates = facts.node_rate_bps
    parts = [window_rate_errors(rows, rates[node], grain) for node, rows in samples.items() if node in rates]
    return np.concatenate([*parts, np.zeros(0)])


def _rate_median(run: _Run, name: str) -> Check | None:
    errors = run.rate_errors
    if not errors.size:
        return None
    return _check(name, float(abs(np.median(errors))), RATE_ERROR_MEDIAN_RATIO, windows=int(errors.size))


def _rate_worst(run: _Run, name: str) -> Check | None:
    errors = run.rate_errors
    if not errors.size:
        return None
    worst = float(errors[np.argmax(np.abs(errors))])
    share = float(np.mean(np.abs(errors) > RATE_ERROR_RATIO))
    return _check(name, share, RATE_WINDOWS_OFF_RATIO, "of the windows", worst_error=worst, windows=int(errors.size))


def _queues_agree(run: _Run, name: str) -> Check | None:
    grain = QUEUE_GRAIN_PKTS * run.facts.largest_packet_bytes
    distances = [queue_distances(rows, grain) for rows in run.samples.values()]
    excess = np.concatenate([*(distance - allowed for distance, allowed in distances), np.zeros(0)])
    if not excess.size:
        return None
    apart = int(np.sum(excess > 0))
    share = 0.0 if apart <= QUEUES_APART_FREE_SAMPLES else apart / excess.size
    worst = int(max(excess.max(), 0))
    return _check(
        name, share, QUEUES_APART_RATIO, "of backlogged samples",
        samples=int(excess.size), apart=apart, worst_excess_bytes=worst,
    )  # fmt: skip


def _native_xdp(run: _Run, name: str) -> Check | None:
    modes = {node.node: node.xdp_mode for node in run.evidence.nodes if node.xdp_mode is not None}
    generic = [node for node, mode in modes.items() if mode != "native"]
    value = len(generic) if modes else None
    return _check(name, value, GENERIC_XDP_NODES, "nodes", **({"which": " ".join(generic)} if generic else {}))


# ------------------------------------------------------------------------------------------------- time


def _percentiles_ms(histogram: Histogram) -> tuple[float, float]:
    p99, largest = histogram.quantile_ns(0.99), histogram.largest_ns
    return (p99 or 0.0) / NS_PER_MS, (largest or 0) / NS_PER_MS


def _send_lateness(run: _Run, name: str) -> Check | None:
    histogram = merged(client.lateness for client in run.evidence.clients)
    if histogram is None or not histogram.total:
        return None
    p99, largest = _percentiles_ms(histogram)
    return _check(name, p99, SEND_LATENESS_MS, "ms", max_ms=largest)


def _agent_lateness(run: _Run, name: str) -> Check | None:
    kept = merged(node.lateness for node in run.evidence.nodes)
    sampled = [rows.optional["lateness_ns"] for rows in run.samples.values() if "lateness_ns" in rows.optional]
    if kept is None and sampled:
        values = np.concatenate(sampled)
        kept = Histogram.of(values[~np.isnan(values)])
    if kept is None or not kept.total:
        return None
    p99, largest = _percentiles_ms(kept)
    interval_ms = run.facts.sample_interval_ns / NS_PER_MS
    bound = Bound(min(AGENT_LATENESS_GOOD_MS, interval_ms / 2), interval_ms)
    return _check(name, p99, bound, "ms", max_ms=largest)


def _missing_samples(run: _Run, name: str) -> Check | None:
    if run.evidence.engine != "emulation":
        return None
    nodes = {node.node: node for node in run.evidence.nodes}
    missing: dict[str, float] = {}
    counts = {node: len(run.samples[node].t_ns) if node in run.samples else 0 for node in run.facts.node_rate_bps}
    for node, count in counts.items():
        lived_ns = run.evidence.ran_ns - _excused_ns(nodes.get(node), run.facts.sample_interval_ns)
        if lived_ns >= run.facts.sample_interval_ns:
            missing[node] = max(0.0, 1 - count / (lived_ns // run.facts.sample_interval_ns))
    if not missing:
        return None
    worst = max(missing, key=lambda node: missing[node])
    return _check(name, missing[worst], MISSING_SAMPLES_RATIO, "of a node's samples", node=worst, samples=counts[worst])


def _excused_ns(node: NodeEvidence | None, interval_ns: int) -> int:
    """Return for how long a node is not expected to have left samples: a fault kept it from it."""
    if node is None:
        return 0
    return (node.absent_ns or 0) + (node.crashes or 0) * SAMPLES_LOST_BY_A_CRASH * interval_ns


# ------------------------------------------------------------------------------------------------- machine


def _busy(run: _Run, name: str) -> Check | None:
    idle = run.evidence.cpu_idle_ratio
    more = {"runqueue_mean": run.evidence.runqueue_mean}
    return _check(name, None if idle is None else 1 - idle, CPU_BUSY_RATIO, "of all cores", **more)


def _busy_worst(run: _Run, name: str) -> Check | None:
    idle = run.evidence.cpu_idle_worst_ratio
    return _check(name, None if idle is None else 1 - idle, CPU_BUSY_WORST_RATIO, "of all cores")


def _throttled(run: _Run, name: str) -> Check | None:
    spent = run.evidence.throttled_ns
    return _check(name, None if spent is None else spent / max(run.evidence.ran_ns, 1), THROTTLED_RATIO, "of the run")


def _measured(field: str, bound: Bound, unit: str) -> Callable[[_Run, str], Check | None]:
    return lambda run, name: _check(name, getattr(run.evidence, field), bound, unit)


_CHECKS: dict[str, Callable[[_Run, str], Check | None]] = {
    "unaccounted packets": _conservation,
    "duplicated packets": _duplicates,
    "loss outside the buffer": _stray_loss,
    "planned packets not sent": _unsent,
    "faults not seen to happen": _faults_seen,
    "delivered rate while backlogged, median error": _rate_median,
    "delivered rate off by more than 2 %": _rate_worst,
    "XDP queue apart from the qdisc's backlog": _queues_agree,
    "nodes without native XDP": _native_xdp,
    "sender lateness p99": _send_lateness,
    "agent loop lateness p99": _agent_lateness,
    "missing samples": _missing_samples,
    "CPU busy": _busy,
    "CPU busy in the worst second": _busy_worst,
    "CPU stolen by the hypervisor": _measured("cpu_steal_ratio", CPU_STEAL_RATIO, "of the time"),
    "time with a task waiting for a core": _measured("cpu_pressure_ratio", CPU_PRESSURE_RATIO, "of the time"),
    "time throttled by a CPU quota": _throttled,
    "steps of the clock": _measured("clock_steps", CLOCK_STEPS, "steps"),
    "neighbour table overflows": _measured("neighbour_overflows", NEIGHBOUR_OVERFLOWS, "times"),
}


def check_names() -> Iterator[str]:
    """Yield the names of all checks, in the order they are made."""
    yield from _CHECKS
