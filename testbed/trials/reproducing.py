"""`reproduce`: the runs of a package made again by this machine, and compared.

    package ─ checked ─▶ folder ─ scenario.yaml of each run ─▶ `run` ─▶ compared with the run in the package

A package is data until it is trusted: its plug-ins are Python that a run would execute, so they are shown, and nothing
is run before the user has said `--trust`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import testbed
from testbed.crate.comparing import DIFFERS, NOT_RUN, Reproduction, compared
from testbed.crate.opening import Package, opened
from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_INTERRUPTED, EXIT_OK, InputError, TestbedError
from testbed.files import writing
from testbed.records.engines import is_real_time
from testbed.results.outcome import ended_if_readable
from testbed.results.recorded_run import RecordedRun
from testbed.scenario import loading
from testbed.trials.process import TrialCall, TrialProcesses

_MOST_SHOWN_CHARS = 4000


@dataclass(frozen=True, slots=True)
class ReproduceResult:
    """What came of a package: one entry a run, and the exit code."""

    path: Path
    runs: tuple[Reproduction, ...]
    exit_code: int


def reproduce(
    path: Path, out: Path, *, trust: bool = False, note: Callable[[str], None] = lambda _: None
) -> ReproduceResult:
    """Check a package, run again what this machine can, and compare.

    Args:
        path: the package.
        out: a folder that is made: ``package`` in it is the package, ``runs`` what is made here.
        trust: whether its plug-ins may be executed.
        note: gets what the user is to know on the way.

    Raises:
        InputError: it is no package or was changed, `out` is there, or it has plug-ins and is not trusted.
    """
    if out.exists():
        raise InputError(f"--out {out}", "it exists already", "choose another directory")
    package = examined(path, writing.folder(out / "package"), trust=trust, note=note)
    with TrialProcesses(lambda: None) as run_trial:
        found = tuple(_made_again(package, run, out, run_trial) for run in package.runs)
    writing.replace_json(out / "reproduction.json", [one.to_record() for one in found], durable=False)
    return ReproduceResult(out, found, _exit_code(found))


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
    for text in _named(recorded.scenario_data()):
        _refuse_elsewhere(package, text)
        if text.endswith(".py"):
            yield f"{run['path']}/{text}", recorded.source(text)


def _named(data: dict[str, Any]) -> Iterator[str]:
    """Yield the files that a scenario names: plug-ins, model, traces."""

    def of(key: str, kind: type) -> Any:
        value = data.get(key)
        return value if isinstance(value, kind) else kind()

    traces = [one.get("trace") for one in of("traffic", list) if isinstance(one, dict)]
    named = [*of("plugins", list), of("buffer", dict).get("model"), *traces]
    yield from (text for text in named if isinstance(text, str))


def _refuse_elsewhere(package: Package, text: str) -> None:
    if PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts:
        happened = f"a scenario in it names {text[:80]!r}, which is outside of it"
        raise InputError(f"reproduce {package.name}", happened, "use a package of complete run directories")


def _made_again(package: Package, run: dict[str, Any], out: Path, run_trial: TrialProcesses) -> Reproduction:
    head = (run["path"], run["engine"])
    if is_real_time(run["engine"]) and os.geteuid() != 0:
        return Reproduction(*head, NOT_RUN, "an emulated run needs root")
    scenario, target = package.folder / run["path"] / "scenario.yaml", out / "runs" / run["path"]
    arguments = ("run", str(scenario), "--engine", run["engine"], "--out", str(target), "--no-live", "--quiet")
    try:
        loaded = loading.load(scenario)
    except TestbedError as error:
        return Reproduction(*head, NOT_RUN, str(error))
    writing.folder(target.parent)
    ended = run_trial(TrialCall(run["path"], arguments, target, loaded))
    packed, made = ended_if_readable(package.folder / run["path"]), ended_if_readable(target)
    if ended.exit_code == EXIT_INTERRUPTED or packed is None or made is None or not made.summary:
        return Reproduction(*head, NOT_RUN, ended.said or "it was interrupted")
    return compared(run, packed, made, testbed.__version__)


def _exit_code(found: tuple[Reproduction, ...]) -> int:
    outcomes = {one.outcome for one in found}
    return EXIT_EXPECTATION_FAILED if DIFFERS in outcomes or NOT_RUN in outcomes else EXIT_OK
