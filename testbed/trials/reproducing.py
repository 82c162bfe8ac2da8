"""`reproduce`: the runs of a package made again by this machine, and compared.

    package ─ checked ─▶ folder ─ scenario.yaml of each run ─▶ `run` ─▶ compared with the run in the package

A package is data until it is trusted: its plug-ins are Python that a run would execute, so they are shown, and nothing
is run before the user has said `--trust`.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import testbed
from testbed.crate import comparing
from testbed.crate.comparing import NOT_RUN, REPRODUCED, Pair, Reproduction
from testbed.crate.opening import Package, opened
from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_INTERRUPTED, EXIT_INVALID, EXIT_OK, InputError, TestbedError
from testbed.files import writing
from testbed.records.engines import SIMULATION, is_real_time
from testbed.results.outcome import DAMAGED, EndedRun, ended_if_readable
from testbed.results.recorded_run import RecordedRun
from testbed.scenario import loading
from testbed.system.patience import WaitNotes
from testbed.trials.child import Ended
from testbed.trials.process import TrialCall, TrialProcesses, jobs_for

_VERSION = testbed.__version__
_MOST_SHOWN_CHARS = 4000


@dataclass(frozen=True, slots=True)
class ReproduceResult:
    """What came of a package: one entry a run, and the exit code."""

    path: Path
    runs: tuple[Reproduction, ...]
    exit_code: int


def reproduce(
    path: Path,
    out: Path,
    *,
    trust: bool = False,
    jobs: int | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> ReproduceResult:
    """Check a package, run again what this machine can, and compare.

    Args:
        path: the package.
        out: a folder that is made: ``package`` in it is the package, ``runs`` what is made here.
        trust: whether its plug-ins may be executed.
        jobs: how many simulated runs are made at a time; default: as many as there are processors.
        note: gets what the user is to know on the way.

    Raises:
        InputError: it is no package or was changed, `out` is there, `jobs` is less than 1, or it has plug-ins and is
            not trusted.
    """
    jobs_for(SIMULATION, jobs)
    if os.path.lexists(out):
        raise InputError(f"--out {out}", "it exists already", "choose another directory")
    try:
        package = examined(path, writing.folder(out / "package"), trust=trust, note=note)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # what was refused is in nobody's way
        raise
    made, stopped = _all_made(package, out, jobs, note)
    found = tuple(comparing.together([_compared(package, run, made[run["path"]]) for run in package.runs], _VERSION))
    writing.replace_json(out / "reproduction.json", [one.to_record() for one in found], durable=False)
    return ReproduceResult(out, found, EXIT_INTERRUPTED if stopped else _exit_code(found))


def examined(path: Path, folder: Path, *, trust: bool, note: Callable[[str], None]) -> Package:
    """Unpack a package into an empty folder and return it, checked as far as that goes without running anything.

    Raises:
        InputError: as of `reproduce`.
    """
    package = opened(path, folder)
    note(f"{package.name}: {package.kind} of {len(package.runs)} runs, all files are unchanged")
    if package.version != testbed.__version__:
        note(f"it was made by version {package.version}, this is {testbed.__version__}")
    _refuse_untrusted(package, trust, note)
    return package


def _refuse_untrusted(package: Package, trust: bool, note: Callable[[str], None]) -> None:
    code = {text: file for run in package.runs for text, file in _plugins(package, run)}
    if not code or trust:
        return
    for name, file in code.items():
        text = file.read(_MOST_SHOWN_CHARS * 4).decode("utf-8", "replace")
        cut = text[:_MOST_SHOWN_CHARS] + ("\n…" if len(text) > _MOST_SHOWN_CHARS else "")
        note(f"plug-in {name} would be executed:\n{cut}")
    happened = f"it contains {len(code)} plug-ins, whose code would be executed: {', '.join(code)}"
    raise InputError(f"reproduce {package.name}", happened, "read them, and pass --trust to run them")


def _plugins(package: Package, run: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    recorded = RecordedRun.open(package.folder / run["path"])
    data = recorded.scenario_data()
    texts, topo = loading.code_named(data)
    code = [*texts, *([topo] if topo is not None else [])]
    for text in (*code, *_data_named(data)):
        _refuse_elsewhere(package, text)
    yield from ((f"{run['path']}/{text}", recorded.source(text)) for text in code)


def _data_named(data: dict[str, Any]) -> Iterator[str]:
    """Yield the files of data that a scenario names: model, traces."""

    def of(key: str, kind: type) -> Any:
        value = data.get(key)
        return value if isinstance(value, kind) else kind()

    traces = [one.get("trace") for one in of("traffic", list) if isinstance(one, dict)]
    yield from (text for text in (of("buffer", dict).get("model"), *traces) if isinstance(text, str))


def _refuse_elsewhere(package: Package, text: str) -> None:
    if PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts:
        happened = f"a scenario in it names {text[:80]!r}, which is outside of it"
        raise InputError(f"reproduce {package.name}", happened, "use a package of complete run directories")


def _all_made(
    package: Package, out: Path, jobs: int | None, note: Callable[[str], None]
) -> tuple[dict[str, EndedRun | str], bool]:
    """Run again what can be run, and return for each run how it ended or why it has no result; whether it was stopped.

    Simulated runs are made on all processors, emulated ones one at a time.
    """
    made: dict[str, EndedRun | str] = {}
    stopped = False
    for engine in dict.fromkeys(run["engine"] for run in package.runs):
        calls: list[TrialCall] = []
        for run in (run for run in package.runs if run["engine"] == engine):
            call = _call(package, run, out)
            if isinstance(call, TrialCall):
                calls.append(call)
            else:
                made[run["path"]] = call
        at_a_time = jobs_for(engine, None if is_real_time(engine) else jobs)
        trials = TrialProcesses(_progress(calls, note), at_a_time)
        with trials, closing(trials.in_order(calls)) as ended:
            made |= {call.name: _result(call, how) for call, how in ended}
            stopped |= trials.stopped()
    return made, stopped


def _progress(calls: Sequence[TrialCall], note: Callable[[str], None]) -> Callable[[], None]:
    """Return what says, now and then, how many runs have been made."""
    notes, began_ns = WaitNotes(note), time.monotonic_ns()

    def tick() -> None:
        done = sum((call.out / "summary.json").exists() for call in calls)
        notes.at(f"repeating, {done} of {len(calls)} runs are done", time.monotonic_ns() - began_ns)

    return tick


def _call(package: Package, run: Mapping[str, Any], out: Path) -> TrialCall | str:
    """Return the call that makes a run again, or why that is not to be."""
    packed = ended_if_readable(package.folder / run["path"])
    if packed is None or not packed.counts:
        return (
            f"the run in the package is {DAMAGED if packed is None else packed.outcome}: it has no figures to compare"
        )
    if is_real_time(run["engine"]) and os.geteuid() != 0:
        return "an emulated run needs root"
    scenario, target = package.folder / run["path"] / "scenario.yaml", out / "runs" / run["path"]
    arguments = ("run", str(scenario), "--engine", run["engine"], "--out", str(target), "--no-live", "--quiet")
    try:
        loaded = loading.load(scenario)
    except TestbedError as error:
        return str(error)
    writing.folder(target.parent)
    return TrialCall(run["path"], arguments, target, loaded)


def _result(call: TrialCall, ended: Ended) -> EndedRun | str:
    made = ended_if_readable(call.out)
    if ended.exit_code == EXIT_INTERRUPTED or made is None or not made.summary:
        return ended.said or "it was interrupted"
    return made


def _compared(package: Package, run: Mapping[str, Any], made: EndedRun | str) -> tuple[Reproduction, Pair | None]:
    packed = ended_if_readable(package.folder / run["path"])
    if isinstance(made, str) or packed is None:
        decides = packed is not None and packed.counts
        return Reproduction(run["path"], run["engine"], NOT_RUN, str(made), decides), None
    pair = Pair(run, packed, made)
    return comparing.compared(pair, _VERSION), pair


def _exit_code(found: Sequence[Reproduction]) -> int:
    """Return 0 where all that decides was reproduced; a run that is INVALID in the package has nothing to reproduce."""
    deciding = [one for one in found if one.decides]
    if not deciding:
        return EXIT_INVALID
    return EXIT_OK if all(one.outcome == REPRODUCED for one in deciding) else EXIT_EXPECTATION_FAILED
