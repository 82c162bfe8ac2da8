"""Whatever is killed, however and whenever: nothing is left, and what is said is right.

    a run in a process of its own ── wait for a phase ── send a signal to one of its processes ── look

Each place of the matrix (`kill_cells`) is a run of little more than a second of traffic.  After it the machine is
compared with what it was before (`leavings`), the folder for temporary files of the run has to be empty, and exit code,
message and the status in the manifest have to be those of the table, and to agree.  Every so many trials, and at the
end, a run that nobody disturbs has to be VALID: what does not show as a thing left behind would show there.
"""

from __future__ import annotations

import os
import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed import output
from testbed.bench import kill_cells as of
from testbed.bench.kill_moments import SCENARIO, wait_for
from testbed.bench.leavings import Surroundings, end_descendants
from testbed.bench.rows import Row, row
from testbed.bench.running_trial import Ended, RunningTrial
from testbed.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_TOOL_FAILED, InputError, TestbedError, ToolError
from testbed.results.recorded_run import RecordedRun
from testbed.system import kernel

CHECK_EVERY = 50
_END_WITHIN_S, _GONE_WITHIN_S = 60.0, 5.0
_VALID_WITHIN = 3  # a machine that is busy with other work makes single runs DEGRADED; what is left would make all
_STATUS_OF = {EXIT_INTERRUPTED: "interrupted", EXIT_TOOL_FAILED: "failed", **dict.fromkeys(of.COMPLETED, "completed")}
_SAYS_STOPPED = re.compile(r'stopped|interrupted|"status": "interrupted"')


@dataclass(frozen=True, slots=True)
class _Came:
    """What came of a trial.

    Attributes:
        ended: how its command did.
        status: what the manifest says, None without one.
        left: what there is that was not there before.
    """

    ended: Ended
    status: str | None
    left: list[str]


def run(count: int | None = None, only: str = "", seed: int = 1, check_every: int = CHECK_EVERY) -> list[Row]:
    """Kill in `count` of the places whose name contains `only`, each place once before any twice; None: all of them.

    Args:
        count: trials.
        only: a part of ``phase/signal/victim``.
        seed: of the order of the places and of the instants.
        check_every: so many trials lie between two undisturbed runs; there is one at the end in any case.
    """
    rng, rows = random.Random(seed), list[Row]()
    with kernel.adopting_orphans():
        for number, cell in enumerate(chosen := _chosen(only, count, rng), 1):
            rows.append(_killed(cell, rng, f"{number} of {len(chosen)}"))
            if number % check_every == 0 or number == len(chosen):
                rows.append(_next_run())
    return rows


def _chosen(only: str, count: int | None, rng: random.Random) -> list[of.Cell]:
    """Return the places in an order of the seed, again and again up to `count`.

    Raises:
        ToolError: no name contains `only`.
    """
    found = [cell for cell in of.cells() if only.lower() in str(cell).lower()]
    if not found:
        raise ToolError("bench kill-matrix --only", f"no cell contains {only!r}", "an example is traffic/KILL/guard")
    rng.shuffle(found)
    wanted = len(found) if count is None else count
    return (found * (wanted // len(found) + 1))[:wanted]


def _killed(cell: of.Cell, rng: random.Random, which: str) -> Row:
    try:
        came = _trial(cell, rng)
    except TestbedError as error:
        return _row(cell, which, None, [f"not killed: {error}"])
    return _row(cell, which, came, list(faults_of(cell, came.ended, came.status, came.left)))


def _trial(cell: of.Cell, rng: random.Random) -> _Came:
    surroundings = Surroundings()
    with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
        temporary = Path(folder, "tmp")
        temporary.mkdir()
        trial = RunningTrial(Path(folder), SCENARIO, {"TMPDIR": str(temporary)})
        try:
            pid = wait_for(trial, cell, rng)
            with suppress(ProcessLookupError):  # it has ended by itself in this very instant
                os.kill(pid, cell.number)
            ended = trial.ended(_END_WITHIN_S)
        finally:
            trial.kill()
        left = surroundings.left(_GONE_WITHIN_S) + [f"file {name}" for name in os.listdir(temporary)]
        end_descendants()
        return _Came(ended, _status(trial.out), left)


def _status(folder: Path) -> str | None:
    with suppress(InputError):
        return str(RecordedRun.open(folder).manifest["status"])
    return None


def faults_of(cell: of.Cell, ended: Ended, status: str | None, left: list[str]) -> Iterator[str]:
    """Yield all that is not as it has to be."""
    right = of.expected(cell)
    yield from (f"left: {thing}" for thing in left)
    if ended.code is None:
        yield f"no end within {_END_WITHIN_S:g} s"
    elif ended.code not in right.codes:
        yield f"exit {ended.code}, expected {' or '.join(map(str, sorted(right.codes)))}"
    if ended.code == EXIT_TOOL_FAILED and not re.search(right.message, ended.errors):
        yield f"the message does not contain {right.message!r}"
    if ended.code == EXIT_INTERRUPTED and not _SAYS_STOPPED.search(ended.errors + ended.output):
        yield "it does not say that it was interrupted"
    late = cell.phase in (of.ENDING, of.WRITING) and ended.code == EXIT_INTERRUPTED  # the results were complete
    if status and status != _STATUS_OF.get(ended.code or 0, status) and not (late and status == "completed"):
        yield f"exit {ended.code}, and status {status} in the manifest"
    if "Traceback" in ended.errors or ended.code == EXIT_BUG:
        yield "a traceback, or an internal error"


def _row(cell: of.Cell, which: str, came: _Came | None, faults: list[str]) -> Row:
    said = (came.ended.errors.strip().splitlines() or [""])[-1] if came else ""
    code = came.ended.code if came else None
    result = "; ".join(faults) or "right"
    output.note(f"  {which}: {cell}: exit {code}, {len(came.left) if came else 0} left, {result}: {said}")
    made = row(f"kill-matrix.{cell.phase}", float(not faults), "right", ">= 1", note="; ".join([*faults, said]))
    left = len(came.left) if came else 0
    return {**made, "signal": cell.number.name, "victim": cell.victim, "exit": code, "left": left}


def _next_run() -> Row:
    """Return the row of a run that nobody disturbs."""
    for _ in range(_VALID_WITHIN):
        with tempfile.TemporaryDirectory(prefix="testbed-bench-") as folder:
            trial = RunningTrial(Path(folder), SCENARIO)
            try:
                summary = trial.finish()
            finally:
                trial.kill()
        reasons = "; ".join(summary["verdict_reasons"])
        output.note(f"  next run: {summary['verdict']} {reasons}")
        if summary["verdict"] == "VALID":
            break
    made = row("kill-matrix.next run", float(summary["verdict"] == "VALID"), "valid", ">= 1", note=reasons)
    return {**made, "signal": "", "victim": "", "exit": 0, "left": 0}


def table(rows: list[Row]) -> Iterator[tuple[str, ...]]:
    """Yield the cells of the table, its head first: a line for each phase and victim, and what was not right."""
    yield "phase", "victim", "trials", "signals", "left behind", "passed", "failures"
    keys = dict.fromkeys((made["name"].removeprefix("kill-matrix."), made["victim"]) for made in rows)
    for phase, victim in keys:
        of_it = [made for made in rows if (made["name"], made["victim"]) == (f"kill-matrix.{phase}", victim)]
        signals = " ".join(sorted({made["signal"].removeprefix("SIG") for made in of_it}))
        left, right = sum(made["left"] for made in of_it), sum(bool(made["met"]) for made in of_it)
        wrong = " | ".join(f"{made['signal']}: {made['note']}" for made in of_it if not made["met"])
        yield phase, victim, str(len(of_it)), signals, str(left), str(right), wrong
    trials = [made for made in rows if made["victim"]]
    right = sum(bool(made["met"]) for made in trials)
    yield "all", "", str(len(trials)), "", str(sum(made["left"] for made in trials)), str(right), ""
