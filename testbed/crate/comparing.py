"""Is a run that was made again the one in the package?

The traffic must be the same packet by packet (the hash of its plan).  A simulation is deterministic, so every figure of
its summary must be equal, those apart that are wall time.

**Emulated runs** meet another kernel, another clock and other work beside them.  Their loss, p99 delay, reserved memory
and cost must be *equivalent*: within the tolerance up to which two engines are asked to agree (`report.agreement`).
Of one run that is said of the figure itself.  Runs that differ in their seeds alone are tested together: the mean of
their differences, seed by seed, has a 95 % interval, and they are reproduced where all of it lies within the tolerance,
differ where all of it lies beyond, and are not decided else.  Their single runs then decide nothing: they vary.

Source: Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15 (1987): equivalence by two one-sided tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from testbed.records.engines import SIMULATION
from testbed.report.agreement import BOUNDS, Bound
from testbed.report.written import figure
from testbed.results.conditions import conditions_of
from testbed.results.confidence import estimate
from testbed.results.metrics import METRICS
from testbed.results.outcome import EndedRun

REPRODUCED, DIFFERS, NOT_RUN, OPEN = "reproduced", "differs", "not run", "not decided"
_WALL_TIME = ("setup_s", "teardown_s", "control_loop_us.", "balancer.decision_us.", "traffic.send_lateness_us.")
_PATHS = {metric.key: metric.name for metric in METRICS if metric.key}
# What of the machine a difference of emulated runs may come from: section and key of the manifest, in words.
_OF_MACHINE = (
    ("machine", "kernel", "another kernel"),
    ("machine", "cpu", "another processor"),
    ("machine", "usable_cores", "another number of processors"),
    ("openvswitch", "version", "another Open vSwitch"),
)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What became of one run, or of runs that differ in their seeds alone.

    Attributes:
        run: its path in the package; of several the first, and how many there are.
        engine: which carried it out.
        outcome: one of the four words above.
        why: the figure that differs most and by how much, with the likely cause; or why it was not run.
        decides: whether it counts: not where the entry of several runs says more.
    """

    run: str
    engine: str
    outcome: str
    why: str = ""
    decides: bool = True

    def to_record(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Pair:
    """A run of a package, and the same made again: as the package describes it, and how both ended."""

    about: Mapping[str, Any]
    packed: EndedRun
    made: EndedRun

    @property
    def head(self) -> tuple[str, str]:
        """Return the path and the engine."""
        return self.about["path"], self.about["engine"]

    @property
    def same_traffic(self) -> bool:
        """Tell whether both had the same packets."""
        return self.packed.run.plan_hash == self.made.run.plan_hash


def compared(pair: Pair, version: str) -> Reproduction:
    """Return whether a run made again is that of the package; `version` is that of this testbed."""
    if not pair.same_traffic:
        return Reproduction(*pair.head, DIFFERS, f"the traffic is not the same: {_likely(pair, version)}")
    if not pair.made.counts:
        happened = f"it is {pair.made.outcome} here, but was {pair.packed.outcome}"
        return Reproduction(*pair.head, DIFFERS, f"{happened}; {_likely(pair, version)}")
    exact = pair.about["engine"] == SIMULATION
    found = list((_unequal if exact else _far)(pair.packed.summary, pair.made.summary))
    if not found:
        return Reproduction(*pair.head, REPRODUCED, "all metrics are equal" if exact else "within the tolerance")
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return Reproduction(*pair.head, DIFFERS, f"{found[0]}{more}; {_likely(pair, version)}")


def together(found: Sequence[tuple[Reproduction, Pair | None]], version: str) -> list[Reproduction]:
    """Return all outcomes; emulated runs that differ in their seeds alone have one more, which decides."""
    groups: dict[str, list[Pair]] = {}
    for _, pair in found:
        if pair is not None and pair.about["engine"] != SIMULATION and pair.made.counts and pair.same_traffic:
            groups.setdefault(conditions_of(pair.packed.run).without("seed"), []).append(pair)
    tested = [pairs for pairs in groups.values() if len(pairs) > 1]
    grouped = {pair.about["path"] for pairs in tested for pair in pairs}
    single = [replace(one, decides=one.decides and one.run not in grouped) for one, _ in found]
    return [*single, *(_equivalent(pairs, version) for pairs in tested)]


def _equivalent(pairs: Sequence[Pair], version: str) -> Reproduction:
    """Return whether runs of several seeds are equivalent to those in the package."""
    judged = [one for bound in BOUNDS if (one := _judged(bound, pairs)) is not None]
    outcomes = [outcome for outcome, _ in judged]
    outcome = next((word for word in (DIFFERS, OPEN) if word in outcomes), REPRODUCED)
    words = "; ".join(words for found, words in judged if outcome in (found, REPRODUCED))
    likely = f"; {_likely(pairs[0], version)}" if outcome == DIFFERS else ""
    path, engine = pairs[0].head
    return Reproduction(f"{path} and {len(pairs) - 1} other seeds", engine, outcome, words + likely)


def _judged(bound: Bound, pairs: Sequence[Pair]) -> tuple[str, str] | None:
    """Return what the interval of a figure's mean difference says, and the words; None where no run has the figure."""
    values = [tuple(figure(one.summary, _PATHS[bound.figure]) for one in (pair.packed, pair.made)) for pair in pairs]
    known = [(before, now) for before, now in values if before is not None and now is not None]
    if not known:
        return None
    name = _PATHS[bound.figure]
    if len(known) < len(values):
        return DIFFERS, f"{name} is absent in some runs"
    apart = estimate([now - before for before, now in known])
    allowed = bound.allowed(sum(before for before, _ in known) / len(known))
    if apart is None or apart.half_width is None:
        return None
    low, high = apart.bounds()
    outcome = REPRODUCED if -allowed <= low and high <= allowed else OPEN
    outcome = DIFFERS if low > allowed or high < -allowed else outcome
    mean, half, most = (bound.written(value) for value in (apart.mean, apart.half_width, allowed))
    return outcome, f"{name} differs by {mean} ± {half}, allowed ± {most}"


def _unequal(packed: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    for metric in METRICS:
        before, now = figure(packed, metric.name), figure(made, metric.name)
        if before != now and not metric.name.startswith(_WALL_TIME):
            yield f"{metric.name} is {_shown(now)}, it was {_shown(before)}"


def _far(packed: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    for bound in BOUNDS:
        name = _PATHS[bound.figure]
        before, now = (figure(summary, name) for summary in (packed, made))
        if before is None and now is None:
            continue
        if before is None or now is None or abs(now - before) > bound.allowed(before):
            allowed = "" if before is None else f", allowed ± {bound.written(bound.allowed(before))}"
            yield f"{name} is {_shown(now)}, it was {_shown(before)}{allowed}"


def _shown(value: Any) -> str:
    return "absent" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _likely(pair: Pair, version: str) -> str:
    """Return the likely causes of a difference, the gravest first."""
    before, now = pair.packed.run.manifest, pair.made.run.manifest
    packed_by = pair.about["version"]
    causes = [f"another version ({packed_by}, here {version})"] if packed_by != version else []
    if pair.about["engine"] != SIMULATION:
        reasons = pair.made.summary.get("verdict_reasons") or [""]
        causes += [f"the run here is {pair.made.outcome}: {reasons[0]}"] if pair.made.outcome != "VALID" else []
        for section, key, words in _OF_MACHINE:
            was, here = (manifest.get(section, {}).get(key) for manifest in (before, now))
            causes += [f"{words} ({was}, here {here})"] if None not in (was, here) and was != here else []
        causes += ["variation between emulated runs: repeat with several seeds"] if not causes else []
    return f"likely cause: {', '.join(causes) or 'another version of a library, or a change of the code'}"
