"""Is a run that was made again the one in the package?

The traffic must be the same packet by packet (the hash of its plan).  A simulation is deterministic, so every figure of
its summary must be equal, those apart that are wall time.  An emulated run meets another kernel, another clock and
other work beside it: its figures must lie as close as two engines are asked to agree
(`report.agreement`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from testbed.records.engines import SIMULATION
from testbed.report.agreement import BOUNDS
from testbed.report.written import figure
from testbed.results.metrics import METRICS
from testbed.results.outcome import EndedRun

REPRODUCED, DIFFERS, NOT_RUN = "reproduced", "differs", "not run"
_WALL_TIME = ("setup_s", "teardown_s", "control_loop_us.", "balancer.decision_us.", "traffic.send_lateness_us.")


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What became of one run.

    Attributes:
        run: its path in the package.
        engine: which carried it out.
        outcome: one of the three words above.
        why: the figure that differs most and by how much, with the likely cause; or why it was not run.
    """

    run: str
    engine: str
    outcome: str
    why: str = ""

    def to_record(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self)


def compared(run: Mapping[str, Any], packed: EndedRun, made: EndedRun, version: str) -> Reproduction:
    """Return whether a run made again is that of the package; `version` is that of this testbed."""
    head = (run["path"], run["engine"])
    if packed.run.plan_hash != made.run.plan_hash:
        return Reproduction(*head, DIFFERS, f"the traffic is not the same: {_likely(run, made, version)}")
    if not made.counts and packed.counts:
        return Reproduction(*head, DIFFERS, f"it is {made.outcome} here, but was {packed.outcome}")
    exact = run["engine"] == SIMULATION
    found = list(_unequal(packed.summary, made.summary) if exact else _far(packed.summary, made.summary))
    if not found:
        return Reproduction(*head, REPRODUCED, "all metrics are equal" if exact else "within the tolerance")
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return Reproduction(*head, DIFFERS, f"{found[0]}{more}; {_likely(run, made, version)}")


def _unequal(packed: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    for metric in METRICS:
        before, now = figure(packed, metric.name), figure(made, metric.name)
        if before != now and not metric.name.startswith(_WALL_TIME):
            yield f"{metric.name} is {_shown(now)}, it was {_shown(before)}"


def _far(packed: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    paths = {metric.key: metric.name for metric in METRICS if metric.key}
    for bound in BOUNDS:
        before, now = (figure(summary, paths[bound.figure]) for summary in (packed, made))
        if before is None and now is None:
            continue
        if before is None or now is None or abs(now - before) > bound.allowed(before):
            allowed = "" if before is None else f", allowed ± {bound.written(bound.allowed(before))}"
            yield f"{paths[bound.figure]} is {_shown(now)}, it was {_shown(before)}{allowed}"


def _shown(value: Any) -> str:
    return "absent" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _likely(run: Mapping[str, Any], made: EndedRun, version: str) -> str:
    """Return the likely causes of a difference, the gravest first."""
    kernel = str(made.run.manifest.get("machine", {}).get("kernel", ""))
    causes = [f"another version ({run['version']}, here {version})"] if run["version"] != version else []
    if run["engine"] != SIMULATION:
        causes += [f"another kernel ({run['kernel']}, here {kernel})"] if run.get("kernel") not in ("", kernel) else []
        causes += [f"the run here is {made.outcome}"] if made.outcome != "VALID" else []
        causes += ["variation between emulated runs: repeat with several seeds"] if not causes else []
    return f"likely cause: {', '.join(causes) or 'another version of a library, or a change of the code'}"
