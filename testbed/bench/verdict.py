"""Does the verdict name what disturbs a run?  Each disturbance in a short run of its own, beside undisturbed ones.

The table (`disturbances`) says what is done, by which words it has to be named, and from which length on.  A run that
is disturbed for longer has to be DEGRADED or INVALID with a reason that names it; one that is not disturbed is to be
VALID.  A machine that is busy with other work adds reasons: one that names the disturbance has to be among them.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from testbed import output
from testbed.bench import touches
from testbed.bench.disturbances import AT_MS, AT_ONCE, LEFT_MS, NEVER, SCENARIO, TABLE, Disturbance
from testbed.bench.rows import Row, row
from testbed.bench.running_trial import RunningTrial
from testbed.bench.touches import Touch
from testbed.errors import TestbedError
from testbed.system import kernel

COUNT = 3  # undisturbed runs
_PRIORITY = 60  # before whatever is disturbed: what was begun has to end in time
_CONTROL = "undisturbed"


def run(count: int = COUNT, only: str = "") -> list[Row]:
    """Disturb runs in every way whose name or kind contains `only`, and make `count` undisturbed ones.

    A run that fails, or a disturbance that cannot be carried out, is a row that is not met; the others follow.
    """
    chosen = [(d, ms) for d in TABLE if only.lower() in f"{d.relies_on}: {d.name}".lower() for ms in d.durations_ms]
    rows = [_disturbed(disturbance, ms, f"{k + 1} of {len(chosen)}") for k, (disturbance, ms) in enumerate(chosen)]
    return [*rows, *(_control(number) for number in range(1, count + 1))]


def _disturbed(disturbance: Disturbance, ms: float, which: str) -> Row:
    said = f"{disturbance.name}, {_length(ms)}"
    output.note(f"  {which}: {said}")
    summary, held_ms = _attempted(disturbance.touch, ms)
    reasons = [reason for reason in summary["verdict_reasons"] if re.search(disturbance.named_by, reason)]
    must = ms >= disturbance.from_ms or ms == LEFT_MS
    made = row(f"verdict.{disturbance.relies_on}", float(bool(reasons)), "named", ">= 1" if must else "")
    reason = (reasons or summary["verdict_reasons"] or [summary.get("failure", "")])[0]
    return {
        **made, "note": reason, "disturbance": disturbance.name, "asked_ms": ms, "held_ms": held_ms,
        "from_ms": disturbance.from_ms, "verdict": summary["verdict"],
    }  # fmt: skip


def _control(number: int) -> Row:
    output.note(f"  undisturbed, {number}")
    summary, _ = _attempted(None, LEFT_MS)
    reason = (summary["verdict_reasons"] or [summary.get("failure", "")])[0]
    made = row(f"verdict.{_CONTROL}", float(summary["verdict"] == "VALID"), "valid", ">= 1")
    return {**made, "note": reason, "disturbance": "none", "asked_ms": 0.0, "held_ms": 0.0, "from_ms": NEVER,
            "verdict": summary["verdict"]}  # fmt: skip


def _attempted(touch: Touch | None, ms: float) -> tuple[dict[str, Any], float]:
    """Return what `_trial` returns; of a trial that failed, no verdict and the failure."""
    try:
        return _trial(touch, ms)
    except TestbedError as error:
        return {"verdict": "none", "verdict_reasons": [], "failure": f"not carried out: {error}"}, 0.0


def _trial(touch: Touch | None, ms: float) -> tuple[dict[str, Any], float]:
    """Run once, disturbed for so long, and return the summary and how long it was."""
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        trial = RunningTrial(Path(folder), SCENARIO)
        try:
            trial.wait_until_ms(AT_MS)
            held_ms = 0.0 if touch is None else _hold(trial, touch, ms)
            return trial.finish(), held_ms
        finally:
            trial.kill()


def _hold(trial: RunningTrial, touch: Touch, ms: float) -> float:
    with kernel.in_real_time(_PRIORITY):
        began = time.monotonic()
        with touches.done_to(trial, touch):
            time.sleep(ms / 1e3)
        return (time.monotonic() - began) * 1e3


def table(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of the table, its head first."""
    yield "relies on", "disturbance", "for", "named from", "verdict", "met", "reason"
    for made in rows:
        met = {True: "yes", False: "NO", None: "–"}[made["met"]]
        length = _length(made["asked_ms"]) if made["disturbance"] != "none" else ""
        yield (
            made["name"].removeprefix("verdict."), made["disturbance"], length, _threshold(made["from_ms"]),
            made["verdict"], met, made["note"],
        )  # fmt: skip


def _length(ms: float) -> str:
    return "left" if ms == LEFT_MS else f"{ms:g} ms"


def _threshold(ms: float) -> str:
    return {AT_ONCE: "at once", NEVER: "never"}.get(ms, f"{ms:g} ms")
