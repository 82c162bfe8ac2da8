"""Several trials of one scenario and seed, in DIR/1, DIR/2, …: one after the other, or simulated ones side by side.

In either case their results come in order, and the first error ends them all.  A trial whose process was killed from
outside says nothing about the others: they are made, and it is reported at the end.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from testbed import output
from testbed.errors import (
    EXIT_INTERRUPTED,
    Bug,
    InputError,
    MachineError,
    TestbedError,
    ToolError,
)
from testbed.results.outcome import ended_if_readable
from testbed.scenario.loading import LoadedScenario
from testbed.system import patience
from testbed.trials.child import Ended
from testbed.trials.process import WITH_RESULT, TrialCall, TrialProcesses
from testbed.trials.run import RunOptions, RunResult, default_path, process_start_ns, run, say_undrained

_KINDS: dict[int, type[TestbedError]] = {kind.exit_code: kind for kind in (InputError, MachineError, ToolError, Bug)}


def repeated(
    loaded: LoadedScenario, options: RunOptions, count: int, jobs: int = 1, words: Sequence[str] = ()
) -> Iterator[RunResult]:
    """Yield the results of `count` trials of one scenario and seed; an interrupted one is the last.

    The set-up of the first counts from the start of this process, imports included.

    Args:
        loaded: the scenario.
        options: how to run it.
        count: how many trials.
        jobs: how many run at a time; more than one of engines in virtual time alone.  Metrics are served by one.
        words: of the command line that runs one of them, without ``--out``; needed for more than one at a time.

    Raises:
        TestbedError: of the first trial that fails.
    """
    if min(jobs, count) > 1 and not options.metrics:
        yield from _side_by_side(loaded, options, count, jobs, words)
        return
    for number in range(1, count + 1):
        out = options.out / str(number) if options.out is not None and count > 1 else options.out
        result = run(loaded, replace(options, out=out), process_start_ns() if number == 1 else None)
        yield result
        if result.exit_code == EXIT_INTERRUPTED:
            return


def _side_by_side(
    loaded: LoadedScenario, options: RunOptions, count: int, jobs: int, words: Sequence[str]
) -> Iterator[RunResult]:
    calls = _calls(loaded, options.out, count, words)
    notes, began_ns = patience.WaitNotes(output.note), time.monotonic_ns()
    killed: list[TestbedError] = []
    done = 0

    def tick() -> None:
        if not options.quiet:
            what = f"simulating, {done + processes.ended_ahead} of {count} trials are done"
            notes.at(what, time.monotonic_ns() - began_ns)

    processes = TrialProcesses(tick, jobs)
    with processes, closing(processes.in_order(calls)) as made:
        for call, ended in made:
            done += 1
            if ended.exit_code < 0:
                killed.append(_error(call, ended))
                continue
            result = _result(call, ended, options)
            yield result
            if result.exit_code == EXIT_INTERRUPTED:
                return
    for error in killed[1:]:
        output.note(f"testbed: {error}")
    for error in killed[:1]:
        raise error


def _calls(loaded: LoadedScenario, out: Path | None, count: int, words: Sequence[str]) -> list[TrialCall]:
    places: list[Path] = []
    for number in range(1, count + 1):
        places.append(default_path(loaded, places) if out is None else out / str(number))
    return [
        TrialCall(f"{number} of {count}", (*words, "--out", str(place), "--no-live", "--quiet"), place, loaded)
        for number, place in enumerate(places, 1)
    ]


def _result(call: TrialCall, ended: Ended, options: RunOptions) -> RunResult:
    """Return what a trial came to, and say what it would have said by itself; raise the error that it ended with."""
    found = ended_if_readable(call.out) if ended.exit_code in WITH_RESULT else None
    if ended.exit_code == EXIT_INTERRUPTED and (found is None or found.outcome != "interrupted"):
        raise KeyboardInterrupt
    if found is None or not found.summary:
        raise _error(call, ended)
    if not options.quiet:
        for note in found.run.manifest.get("notes", ()):
            output.note(note)
        say_undrained(found.summary)
    return RunResult(call.out, dict(found.summary), found.run.manifest)


def _error(call: TrialCall, ended: Ended) -> TestbedError:
    """Return the error that ended a process, in the class of its exit code and in its words."""
    attempted, _, happened = ended.said.partition(": ")
    if ended.exit_code < 0 or not happened:
        attempted = f"trial {call.name}, {call.out}"
        happened = ended.said or f"its process ended with status {ended.exit_code} and said nothing"
    return _KINDS.get(ended.exit_code, ToolError)(attempted, happened)
