"""Claims carried out: each by an ordinary sweep, which goes on where an earlier call ended, and judged.

claim file ─ sweep file ─▶ sweep directory ─▶ outcome ─▶ claims.md, claims.json, claims.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed import output
from testbed.errors import (
    EXIT_EXPECTATION_FAILED,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    EXIT_OK,
    EXIT_TOOL_FAILED,
    InputError,
)
from testbed.files import writing
from testbed.records.engines import EMULATION
from testbed.report import claims as outcomes_of
from testbed.report.claims import NO_RESULT, ClaimOutcome
from testbed.report.claims_page import write_claims_page
from testbed.scenario.claim import LoadedClaim, load_claim
from testbed.system import places
from testbed.trials import sweep
from testbed.trials.executing import executing, refuse_jobs
from testbed.trials.run import RUNS

_GRAVEST_FIRST = (EXIT_INTERRUPTED, EXIT_TOOL_FAILED, EXIT_INVALID, EXIT_EXPECTATION_FAILED)


@dataclass(frozen=True, slots=True)
class ClaimsResult:
    """What came of them: the directory, the outcomes, and the exit code."""

    path: Path
    outcomes: tuple[ClaimOutcome, ...]
    exit_code: int


def default_claims() -> tuple[Path, ...]:
    """Return the claims that come with the project."""
    return tuple(sorted((places.scenarios() / "claims").glob("*.yaml")))


def claims(
    paths: Sequence[Path],
    out: Path | None = None,
    engine: str = EMULATION,
    *,
    quick: bool = False,
    jobs: int | None = None,
    scheduler: str = "",
    quiet: bool = False,
    argv: tuple[str, ...] = (),
) -> ClaimsResult:
    """Test claims, what is left of them, and write the outcome.

    Args:
        paths: the files of the claims.
        out: the directory; default ``runs/claims``, with the engine and ``quick`` in its name.
        engine: which engine runs the trials; a claim that is not about it is not run.
        quick: fewer seeds and shorter runs, as each claim says.
        jobs: how many simulated trials run at a time; default: as many as there are processors.
        scheduler: as of `sweep.sweep`.
        quiet: say nothing on the way.
        argv: the command line, for the manifests.

    Raises:
        TestbedError: as of `sweep.sweep`.
    """
    refuse_jobs(engine, jobs, scheduler)
    loaded = _loaded(paths)
    out = out or RUNS / f"claims{'' if engine == EMULATION else f'-{engine}'}{'-quick' if quick else ''}"
    found: list[ClaimOutcome] = []
    codes: list[int] = []
    with executing(engine, jobs, scheduler, output.note) as executor:
        for claim in loaded:
            if engine not in claim.spec.engines or EXIT_INTERRUPTED in codes:
                found.append(outcomes_of.outcome_of(claim, engine, ()))
                continue
            file, folder = write_sweep(claim, out, quick=quick), out / claim.spec.name
            swept = sweep.sweep(
                file, folder, engine, scheduler=scheduler, executor=executor, quiet=quiet, argv=argv
            )  # fmt: skip
            found.append(outcomes_of.judge(claim, swept.table, folder, engine))
            codes.append(_exit_code(found[-1], swept.exit_code))
            _write(found, out)
    _write(found, out)
    return ClaimsResult(out, tuple(found), next((code for code in _GRAVEST_FIRST if code in codes), EXIT_OK))


def _loaded(paths: Sequence[Path]) -> list[LoadedClaim]:
    loaded = [load_claim(path) for path in paths]
    names = [claim.spec.name for claim in loaded]
    if len(set(names)) < len(names):
        raise InputError("testing claims", "two of them have the same name", "give each file once")
    return loaded


def _exit_code(outcome: ClaimOutcome, of_sweep: int) -> int:
    """Return what a claim contributes: a claim without a result says why its runs have none."""
    if of_sweep == EXIT_INTERRUPTED:
        return EXIT_INTERRUPTED
    if outcome.as_expected:
        return EXIT_OK
    unknown = outcome.outcome == NO_RESULT and of_sweep in (EXIT_TOOL_FAILED, EXIT_INVALID)
    return of_sweep if unknown else EXIT_EXPECTATION_FAILED


def write_sweep(claim: LoadedClaim, out: Path, *, quick: bool) -> Path:
    """Write the sweep of a claim as a sweep file below `out`, and return its path."""
    file = writing.folder(out / "sweeps") / f"{claim.spec.name}.yaml"
    text = json.dumps(claim.sweep_data(quick=quick), indent=2, ensure_ascii=False)  # JSON is YAML
    return writing.replace(file, f"# {' '.join(claim.spec.statement.split())}\n{text}\n", durable=False)


def _write(found: Sequence[ClaimOutcome], out: Path) -> None:
    writing.folder(out)
    writing.replace(out / "claims.md", outcomes_of.markdown(found) + "\n", durable=False)
    writing.replace_json(out / "claims.json", [one.to_record() for one in found], durable=False)
    write_claims_page(found, out / "claims.html")
