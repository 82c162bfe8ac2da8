"""A sweep carried out: trials one after the other, each an ordinary run directory, resumable at any point.

Simulated trials run on all processors, and yet one after the other in all that can be seen: those that come later are
begun before their turn, and count only when that comes (`process`).

    sweep file ─ trials ─▶ run directories ─▶ sweep.json ─▶ table, page

**What is true lies in the run directories.**  A trial's runs are ``NAME``, ``NAME,try=2``, …; which of them ended and
how is read from them and nowhere else, so it does not matter what ended the last call: Ctrl-C, ``kill -9`` or a power
cut, which may leave any file empty.  A trial is *settled* when one of its runs is VALID or DEGRADED, or when two of
them are INVALID: a machine that disturbs a trial twice would do so again, and dropping results until one pleases is no
measurement.  Runs that were interrupted, killed or failed, or are damaged, are kept and made again.  ``sweep.json``
only lists what there is; one that was lost or damaged is rewritten.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import testbed
from testbed import doctor, output
from testbed.errors import (
    EXIT_EXPECTATION_FAILED,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_OK,
    EXIT_TOOL_FAILED,
    InputError,
    ToolError,
)
from testbed.files import writing
from testbed.records.engines import EMULATION
from testbed.report.sweep_page import write_sweep_page
from testbed.report.sweep_progress import SweepProgress
from testbed.report.sweep_table import SweepTable, tabulate
from testbed.results import provenance, recorded_run
from testbed.results.outcome import COUNTING
from testbed.results.sweep_file import MANIFEST
from testbed.scenario import plugins as plugged
from testbed.scenario.document import read_bytes
from testbed.scenario.loading import LoadedScenario
from testbed.scenario.sweep import LoadedSweep, TrialSpec, load_sweep, option_text, settings_of
from testbed.system import patience
from testbed.traffic.traces import TraceFiles
from testbed.trials import checks
from testbed.trials.child import Ended
from testbed.trials.executing import executing, refuse_jobs, uses_this_machine
from testbed.trials.process import HOPELESS, Executor, RunTrial, TrialCall, TrialProcesses, Upcoming
from testbed.trials.run import RUNS
from testbed.trials.sweep_runs import COPY, SweepRuns, held, summary_of

MOST_FAILURES = 3  # in a row: it will not get better by itself
_ELSEWHERE = "choose another --out"

LookingAhead = Callable[[Upcoming], AbstractContextManager[object]]
Status = Literal["running", "completed", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class SweepResult:
    """A sweep as far as it came.

    Attributes:
        path: its directory.
        table: what was found.
        exit_code: as `errors` has them; what is worst of the trials.
        unsettled: trials that are still to be run.
    """

    path: Path
    table: SweepTable
    exit_code: int
    unsettled: int


def sweep(
    path: Path,
    out: Path | None = None,
    engine: str = EMULATION,
    *,
    plugins: Sequence[Path] = (),
    baseline: Sequence[str] = (),
    jobs: int | None = None,
    scheduler: str = "",
    executor: Executor | None = None,
    quiet: bool = False,
    argv: tuple[str, ...] = (),
) -> SweepResult:
    """Run what is left of a sweep, write table and page, and return them.

    Args:
        path: the sweep file.
        out: the sweep directory; default ``runs/sweep-NAME`` (simulated: ``runs/sweep-NAME-simulation``).  It may hold
            an earlier part of the same sweep.
        engine: which engine runs the trials.
        plugins: files that add policies or families, beside those that the scenario names.
        baseline: ``key=value``, what the others are compared with, in place of what the file says.
        jobs: how many simulated trials run at a time; default: as many as there are processors.
        scheduler: the address of a Dask scheduler whose workers run the trials, or ``local``; empty: this process does.
        executor: what runs the trials, if the caller has made it; `jobs` is then without effect.
        quiet: say nothing on the way.
        argv: the command line, for the manifest and for hints.

    Raises:
        InputError: the sweep, its scenario, the directory, `jobs` or `scheduler` is wrong.
        MachineError: this machine, or a worker, cannot run the scenario.
        ToolError: trials fail one after the other, or the scheduler is not there.
    """
    refuse_jobs(engine, jobs, scheduler)
    loaded = _loaded(path, engine, plugins, quiet=quiet).against(baseline)
    if uses_this_machine(engine, scheduler):
        doctor.refuse_without_root(argv)
        doctor.refuse_if_lacking(loaded.load(loaded.trials[0]).scenario, out)
    out = out or RUNS / f"sweep-{loaded.spec.name}{'' if engine == EMULATION else f'-{engine}'}"
    with executing(engine, jobs, scheduler, output.note) if executor is None else nullcontext(executor) as place:
        progress = SweepProgress(output.console(stderr=True), len(loaded.trials), quiet=quiet)
        trials = TrialProcesses(lambda: progress.tick(trials.ended_ahead, trials.running_ahead), executor=place)
        with progress, trials:
            return carry_out(loaded, out, trials, progress, engine, argv, plugins, trials.looking_ahead)


def _loaded(path: Path, engine: str, plugins: Sequence[Path], *, quiet: bool) -> LoadedSweep:
    for plugin in plugins:
        plugged.load(plugin)
    with patience.noted(f"checking the trials of {path}", quiet=quiet):
        return checked(path, engine, (lambda _: None) if quiet else output.note)


def checked(path: Path, engine: str = EMULATION, note: Callable[[str], None] = lambda _: None) -> LoadedSweep:
    """Return a sweep, every trial of it checked as far as that goes without running it; see `checks`.

    Args:
        path: the sweep file.
        engine: which engine is to run the trials.
        note: gets what the readers of traces found out or corrected, each once.

    Raises:
        InputError: names file and line.
    """
    said: set[str] = set()
    files: dict[Path, TraceFiles] = {}

    def check(loaded: LoadedScenario, seeds: tuple[int, ...]) -> None:
        reader = files.setdefault(loaded.path.parent, TraceFiles(loaded.path.parent))
        for line in checks.check(loaded, engine, reader, seeds):
            if line not in said:
                note(line)
            said.add(line)

    return load_sweep(path, check)


def carry_out(
    loaded: LoadedSweep,
    out: Path,
    run_trial: RunTrial,
    progress: SweepProgress,
    engine: str = EMULATION,
    argv: tuple[str, ...] = (),
    plugins: Sequence[Path] = (),
    looking_ahead: LookingAhead = nullcontext,
) -> SweepResult:
    """Make the runs that are missing in `out` by `run_trial`; see `sweep`.

    `run_trial` leaves a run directory and never raises for what happens in a trial.  For the length of the block that
    `looking_ahead` returns, trials may be begun before `run_trial` is called with them.
    """
    with held(out):
        return _Sweep(loaded, out, run_trial, progress, engine, argv, plugins, looking_ahead).carry_out()


class _Sweep:
    def __init__(
        self,
        loaded: LoadedSweep,
        out: Path,
        run_trial: RunTrial,
        progress: SweepProgress,
        engine: str,
        argv: tuple[str, ...],
        plugins: Sequence[Path],
        looking_ahead: LookingAhead,
    ) -> None:
        self._loaded, self._out, self._run_trial, self._progress = loaded, out, run_trial, progress
        self._looking_ahead, self._left = looking_ahead, deque(loaded.trials)
        self._begun: dict[str, TrialCall] = {}  # before their turn, by trial
        self._engine, self._argv, self._started_utc = engine, argv, provenance.utc_now()
        self._there = SweepRuns(loaded, out, engine)
        self._plugins = [word for plugin in plugins for word in ("--plugin", os.path.realpath(plugin))]
        self._failures = 0

    def carry_out(self) -> SweepResult:
        self._there.refuse_another_sweep()
        for trial in self._loaded.trials:
            self._there.refuse_stale(trial)
        writing.replace(self._out / COPY, read_bytes(self._loaded.path), durable=False, elsewhere=_ELSEWHERE)
        self._write_manifest("running")
        status: Status = "failed"
        try:
            with self._looking_ahead(self._begin_ahead):
                status = "completed" if self._run_all() else "interrupted"
        except KeyboardInterrupt:
            status = "interrupted"
        finally:
            self._there.under_way.clear()
            self._write_manifest(status)
        return self._conclude(status)

    # ------------------------------------------------------------------------------------------ what is missing

    def _run_all(self) -> bool:
        """Run the missing trials; return whether all were run and it was not stopped."""
        while self._left:
            trial = self._left.popleft()
            if self._there.settled(trial):
                self._progress.skipped()
                continue
            mean = self._there.mean_bytes(trial)
            if trial.mean_from and mean is None:
                continue
            if not self._settle(trial, mean):
                return False
            self._progress.settled()
        return True

    def _settle(self, trial: TrialSpec, mean_bytes: int | None) -> bool:
        """Run a trial until it is settled or fails; return whether to continue."""
        while not self._there.settled(trial):
            call = self._begun.pop(trial.name, None) or self._call(trial, mean_bytes)
            self._progress.running(call.out.name)
            ended = self._run_trial(call)
            self._there.under_way.discard(call.out)
            outcome = self._there.outcome(call.out)
            self._write_manifest("running")
            if ended.exit_code == EXIT_INTERRUPTED:
                return False
            self._progress.ran(call.out.name, outcome, summary_of(call.out), ended.said)
            self._refuse_hopeless(call, ended, outcome)
            if outcome not in (*COUNTING, "INVALID"):
                return True
        return True

    def _begin_ahead(self) -> TrialCall | None:
        """Return the next trial that may begin before its turn; what is wrong with one is said when its turn comes."""
        for trial in self._left:
            if trial.name in self._begun or self._there.settled(trial):
                continue
            with suppress(InputError):
                mean = self._there.mean_bytes(trial)
                if mean is not None or not trial.mean_from:
                    self._begun[trial.name] = self._call(trial, mean)
                    return self._begun[trial.name]
        return None

    def _call(self, trial: TrialSpec, mean_bytes: int | None) -> TrialCall:
        *_, out = self._there.paths(trial)
        options = [word for s in settings_of(trial, mean_bytes) for word in ("--set", option_text(s))]
        scenario = (str(self._loaded.scenario_path), "--seed", str(trial.seed))
        place = ("--engine", self._engine, "--out", str(out))
        arguments = ("run", *scenario, *options, *self._plugins, *place, "--no-live", "--quiet")
        call = TrialCall(trial.name, arguments, out, self._loaded.load(trial, mean_bytes))
        self._there.under_way.add(out)
        return call

    def _refuse_hopeless(self, call: TrialCall, ended: Ended, outcome: str) -> None:
        """End the sweep where the next trial would fare no better."""
        if ended.exit_code in HOPELESS:
            raise HOPELESS[ended.exit_code](f"trial {call.name}", ended.said or f"it ended with {ended.exit_code}")
        self._failures = 0 if outcome in (*COUNTING, "INVALID") else self._failures + 1
        if self._failures >= MOST_FAILURES:
            happened = f"{MOST_FAILURES} trials in a row failed, the last with: {ended.said or outcome}"
            raise ToolError(
                f"sweep {self._loaded.spec.name}", happened, f"see {call.out}; repeat the command to continue"
            )

    # ------------------------------------------------------------------------------------------- what came of it

    def _write_manifest(self, status: Status) -> None:
        loaded, spec = self._loaded, self._loaded.spec
        content: dict[str, Any] = {
            "schema": 1,
            "status": status,
            "name": spec.name,
            "question": loaded.question,
            "version": testbed.__version__,
            "command": list(self._argv),
            "engine": self._engine,
            "started_utc": self._started_utc,
            **({} if status == "running" else {"ended_utc": provenance.utc_now()}),
            "process": recorded_run.process_identity(),
            "sweep": {"sha256": loaded.sha256},
            "scenario": {"name": loaded.load(loaded.trials[0]).scenario.name, "file": spec.scenario},
            "parameters": {key: list(values) for key, values in loaded.parameters.items()},
            "fixed": loaded.fixed,
            "seeds": list(spec.seeds),
            "mean_from": spec.mean_from,
            "baseline": loaded.baseline,
            "trials": [self._trial_record(trial) for trial in loaded.trials],
        }
        writing.replace_json(self._out / MANIFEST, content, elsewhere=_ELSEWHERE)

    def _trial_record(self, trial: TrialSpec) -> dict[str, Any]:
        return {
            "name": trial.name,
            "parameters": dict(trial.combination.parameters),
            "seed": trial.seed,
            "settled": self._there.settled(trial),
            "runs": [{"path": path.name, "outcome": outcome} for path, outcome in self._there.runs(trial)],
        }

    def _conclude(self, status: Status) -> SweepResult:
        with patience.noted("writing table and page of the sweep", quiet=self._progress.quiet):
            table = tabulate(self._out)
            writing.replace(self._out / "sweep.txt", table.text() + "\n", durable=False, elsewhere=_ELSEWHERE)
            writing.replace_json(self._out / "table.json", table.to_record(), durable=False, elsewhere=_ELSEWHERE)
            write_sweep_page(table, self._out / "sweep.html")
        unsettled = sum(map(self._there.open, self._loaded.trials))
        code = EXIT_INTERRUPTED if status == "interrupted" else self._exit_code()
        return SweepResult(self._out, table, code, unsettled)

    def _exit_code(self) -> int:
        """Return the worst of the trials: not run, then INVALID, then an expectation that does not hold."""
        chosen = [self._there.chosen(trial.name) for trial in self._loaded.trials]
        if any(run is None for run in chosen):
            return EXIT_TOOL_FAILED if any(map(self._there.open, self._loaded.trials)) else EXIT_INVALID
        summaries = [summary_of(run) for run in chosen if run is not None]
        held = all(result["passed"] for summary in summaries for result in summary.get("expectations", ()))
        return EXIT_OK if held else EXIT_EXPECTATION_FAILED
