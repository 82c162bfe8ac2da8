"""Claims carried out: each by an ordinary sweep, which goes on where an earlier call ended, and judged.

claim file ─ sweep file ─▶ sweep directory ─▶ outcome ─▶ claims.md, claims.json, claims.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import EXIT_EXPECTATION_FAILED, EXIT_INTERRUPTED, EXIT_OK, InputError
from testbed.files import writing
from testbed.records.engines import EMULATION
from testbed.report import claims as outcomes_of
from testbed.report.claims import NOT_RUN, ClaimOutcome
from testbed.report.claims_page import write_claims_page
from testbed.scenario.claim import LoadedClaim, load_claim
from testbed.system import places
from testbed.trials import sweep
from testbed.trials.process import jobs_for
from testbed.trials.run import RUNS


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
        quiet: say nothing on the way.
        argv: the command line, for the manifests.

    Raises:
        TestbedError: as of `sweep.sweep`.
    """
    jobs = jobs_for(engine, jobs)
    loaded = [load_claim(path) for path in paths]
    names = [claim.spec.name for claim in loaded]
    if len(set(names)) < len(names):
        raise InputError("testing claims", "two of them have the same name", "give each file once")
    out = out or RUNS / f"claims{'' if engine == EMULATION else f'-{engine}'}{'-quick' if quick else ''}"
    found: list[ClaimOutcome] = []
    code = EXIT_OK
    for claim in loaded:
        if engine not in claim.spec.engines or code == EXIT_INTERRUPTED:
            found.append(outcomes_of.outcome_of(claim, engine, ()))
            continue
        outcome, code = _tested(claim, out, engine, quick=quick, jobs=jobs, quiet=quiet, argv=argv)
        found.append(outcome)
        _write(found, out)
    _write(found, out)
    if code != EXIT_INTERRUPTED:
        other = [one for one in found if one.outcome != NOT_RUN and not one.as_expected]
        code = EXIT_EXPECTATION_FAILED if other else EXIT_OK
    return ClaimsResult(out, tuple(found), code)


def write_sweep(claim: LoadedClaim, out: Path, *, quick: bool) -> Path:
    """Write the sweep of a claim as a sweep file below `out`, and return its path."""
    file = writing.folder(out / "sweeps") / f"{claim.spec.name}.yaml"
    text = json.dumps(claim.sweep_data(quick=quick), indent=2, ensure_ascii=False)  # JSON is YAML
    return writing.replace(file, f"# {' '.join(claim.spec.statement.split())}\n{text}\n", durable=False)


def _tested(
    claim: LoadedClaim, out: Path, engine: str, *, quick: bool, jobs: int, quiet: bool, argv: tuple[str, ...]
) -> tuple[ClaimOutcome, int]:
    file = write_sweep(claim, out, quick=quick)
    folder = out / claim.spec.name
    result = sweep.sweep(file, folder, engine, jobs=jobs, quiet=quiet, argv=argv)
    return outcomes_of.judge(claim, result.table, folder, engine), result.exit_code


def _write(found: Sequence[ClaimOutcome], out: Path) -> None:
    writing.folder(out)
    writing.replace(out / "claims.md", outcomes_of.markdown(found) + "\n", durable=False)
    writing.replace_json(out / "claims.json", [one.to_record() for one in found], durable=False)
    write_claims_page(found, out / "claims.html")
