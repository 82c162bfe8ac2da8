"""The forms of the JSON files in a run directory: what their readers rely on.

The figures of a summary have the form that `metrics.paths` spells out, so a figure that is added there is checked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from testbed.files.records import Count, Figure, Form, Name, Text

Status = Literal["running", "completed", "interrupted", "failed"]
Verdict = Literal["VALID", "DEGRADED", "INVALID"]

Words = Annotated[list[Text], Field(max_length=10_000)]
Pairs = dict[Name, Any]


class ProcessForm(Form):
    """What `recorded_run.process_identity` gives."""

    pid: Count
    start_ticks: Count | None = None
    boot: Text | None = None


class ManifestForm(Form):
    """``manifest.json``; what is not named here is shown and nothing else is done with it."""

    status: Status
    process: ProcessForm | None = None
    started_utc: Text | None = None
    ended_utc: Text | None = None
    command: Words = Field(default_factory=list)
    project: dict[Name, Text | int | bool] = Field(default_factory=dict)
    openvswitch: Pairs = Field(default_factory=dict)
    machine: Pairs = Field(default_factory=dict)
    tools: dict[Name, Text] = Field(default_factory=dict)
    sysctls: dict[Name, Text] = Field(default_factory=dict)
    hashes: dict[Name, Text] = Field(default_factory=dict)
    seeds: dict[Name, Annotated[int, Field(ge=0, lt=2**64)]] = Field(default_factory=dict)
    facts: Pairs = Field(default_factory=dict)


class ExpectationForm(Form):
    """What became of an expectation."""

    text: Text
    value: Figure | None
    passed: bool
    reason: Text = ""


class CheckForm(Form):
    """One check of ``fidelity.json``."""

    name: Text
    verdict: Verdict
    value: Figure
    good: Figure
    usable: Figure | None = None
    unit: Text = ""
    evidence: Pairs = Field(default_factory=dict)


class FidelityForm(Form):
    """``fidelity.json``."""

    verdict: Verdict
    reasons: Words = Field(default_factory=list)
    checks: Annotated[list[CheckForm], Field(max_length=1000)] = Field(default_factory=list)
    not_checked: Words = Field(default_factory=list)


class _Waited(Form):
    p50: Figure
    p99: Figure


class TcpSourceForm(Form):
    """What one source of TCP connections got."""

    name: Text
    congestion: Text
    goodput_bps: Figure
    retransmitted_packets: Figure
    queueing_ms: _Waited | None = None


class RegionForm(Form):
    """What the clients of one region got, and which sites served how much of it."""

    region: Name
    sent_packets: Count
    loss_ratio: Figure
    delay_ms: dict[Name, Figure] = Field(default_factory=dict)
    shares: dict[Name, Figure] = Field(default_factory=dict)


class FaultCourseForm(Form):
    """What became of a fault, its moments in ms from the command; what never happened is absent."""

    what: Name
    nodes: Annotated[list[Name], Field(max_length=10_000)]
    commanded_ms: Figure
    observed_ms: Figure | None = None
    first_effect_ms: Figure | None = None
    detected_ms: Figure | None = None
    rerouted_ms: Figure | None = None
    last_lost_ms: Figure | None = None
    first_good_ms: Figure | None = None
    healed_ms: Figure | None = None
    lost_packets: Count | None = None


# Of the sections of a summary, what is no figure, or more than the known ones.
_BESIDE_FIGURES: Mapping[str, tuple[Any, Any]] = {
    "buffer.policy": (Text | None, None),
    "balancer.policy": (Text | None, None),
    "traffic.dropped_packets": (dict[Name, Figure], Field(default_factory=dict)),
    "failover.faults": (Annotated[list[FaultCourseForm], Field(max_length=100_000)], Field(default_factory=list)),
    "tcp.sources": (list[TcpSourceForm], Field(default_factory=list)),
    "sites.regions": (Annotated[list[RegionForm], Field(max_length=1000)], Field(default_factory=list)),
    "scenario": (Text, ...),
    "engine": (Name, ...),
    "seed": (Count, ...),
    "status": (Status, ...),
    "verdict": (Verdict, ...),
    "verdict_reasons": (Words, ...),
    "expectations": (Annotated[list[ExpectationForm], Field(max_length=10_000)], Field(default_factory=list)),
}


@cache
def summary_form(paths: tuple[str, ...]) -> type[Form]:
    """Return the form of ``summary.json`` whose figures lie at the dotted `paths`."""
    beside = dict(_BESIDE_FIGURES)
    return _section("Summary", [path for path in paths if not path.startswith("traffic.dropped_packets.")], beside)


def _section(name: str, paths: Iterable[str], beside: dict[str, tuple[Any, Any]]) -> type[Form]:
    """Return the form of one section: figures and sections below it by the first word of their paths."""
    below: dict[str, list[str]] = {}
    for path in (*paths, *beside):
        first, _, rest = path.partition(".")
        below.setdefault(first, []).append(rest)
    fields: dict[str, Any] = {}
    for first, rests in below.items():
        further = {path.partition(".")[2]: what for path, what in beside.items() if path.startswith(f"{first}.")}
        if first in beside:
            fields[first] = beside[first]
        elif rests == [""]:
            fields[first] = (Figure | None, None)
        else:
            fields[first] = (_section(first, [rest for rest in rests if rest not in further], further) | None, None)
    return create_model(name, __base__=Form, **fields)
