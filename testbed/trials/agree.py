"""Do the engines agree?  Sweeps carried out in both, and every figure held against the other.

    sweep file ─┬─ DIR/NAME-emulation ──┐
                └─ DIR/NAME-simulation ─┴─▶ judgements ─▶ agreement.txt, .json, .html

The sweeps are ordinary ones and are resumed where an earlier call ended; so is this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_INTERRUPTED, EXIT_OK
from testbed.files import writing
from testbed.records.engines import EMULATION, SIMULATION, is_real_time
from testbed.report import agreement
from testbed.report.agreement import Judgement
from testbed.report.agreement_page import write_agreement_page
from testbed.report.sweep_table import SweepTable
from testbed.system import patience, places
from testbed.trials import sweep
from testbed.trials.run import RUNS

COMPARED = (EMULATION, SIMULATION)


@dataclass(frozen=True, slots=True)
class AgreementResult:
    """What came of it.

    Attributes:
        path: the directory.
        judgements: one a figure and combination, and the rankings.
        exit_code: 0 when all agree, 1 when some differ; else that of the sweep that went worst.
    """

    path: Path
    judgements: tuple[Judgement, ...]
    exit_code: int


def default_sweeps() -> tuple[Path, ...]:
    """Return the sweeps that come with the project for this."""
    return tuple(sorted((places.scenarios() / "sweeps").glob("agreement*.yaml")))


def agree(
    paths: Sequence[Path],
    out: Path | None = None,
    *,
    jobs: int | None = None,
    quiet: bool = False,
    argv: tuple[str, ...] = (),
) -> AgreementResult:
    """Carry sweeps out in both engines, what is left of them, and judge.

    Args:
        paths: the sweep files.
        out: the directory; default ``runs/agreement``.
        jobs: how many simulated trials run at a time; default: as many as there are processors.
        quiet: say nothing on the way.
        argv: the command line, for the manifests and for hints.

    Raises:
        TestbedError: as of `sweep.sweep`.
    """
    out = out or RUNS / "agreement"
    tables: list[tuple[SweepTable, SweepTable]] = []
    codes: list[int] = []
    for path in paths:
        with patience.noted(f"checking the trials of {path}", quiet=quiet):
            name = [sweep.checked(path, engine).spec.name for engine in COMPARED][-1]
        results = [_swept(path, out / f"{name}-{engine}", engine, jobs, quiet, argv) for engine in COMPARED]
        tables.append((results[0].table, results[1].table))
        codes += [result.exit_code for result in results]
        if EXIT_INTERRUPTED in codes:
            break
    with patience.noted("judging, and writing table and page", quiet=quiet):
        judgements = tuple(judgement for pair in tables for judgement in agreement.judge(*pair))
        _write(judgements, tables, out)
    return AgreementResult(out, judgements, _exit_code(judgements, codes))


def _swept(
    path: Path, out: Path, engine: str, jobs: int | None, quiet: bool, argv: tuple[str, ...]
) -> sweep.SweepResult:
    jobs = None if is_real_time(engine) else jobs
    return sweep.sweep(path, out, engine, jobs=jobs, quiet=quiet, argv=argv)


def _write(judgements: Sequence[Judgement], tables: Sequence[tuple[SweepTable, SweepTable]], out: Path) -> None:
    writing.replace(out / "agreement.txt", agreement.text(judgements) + "\n", durable=False)
    writing.replace_json(out / "agreement.json", agreement.to_record(judgements), durable=False)
    write_agreement_page(judgements, tables, out / "agreement.html")


def _exit_code(judgements: Sequence[Judgement], codes: Sequence[int]) -> int:
    worst = max(codes, default=EXIT_OK)
    if worst:
        return worst
    return EXIT_OK if all(judgement.agrees for judgement in judgements) else EXIT_EXPECTATION_FAILED
