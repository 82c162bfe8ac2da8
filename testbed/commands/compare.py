"""`compare`: runs of one scenario and seed side by side, and against a baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testbed import output
from testbed.commands.app import app
from testbed.commands.options import AsJson, JunitFile
from testbed.errors import InputError
from testbed.system import patience

if TYPE_CHECKING:
    from testbed.report.baseline import Judged

BaselineSource = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        metavar="FILE|RUN",
        help="exit with code 1 if a metric is worse than this baseline and its tolerance allow",
    ),
]
BaselineFigures = Annotated[
    list[str] | None,
    typer.Option(
        "--figure",
        metavar="NAME[=TOLERANCE]",
        help="metric of the baseline, such as delay_ms.p99=5% or, in its unit, delay_ms.p99=2; repeatable. "
        "Default: loss, p99 delay, reserved memory, cost",
    ),
]


@app.command(
    epilog="Examples:\n\n"
    "`python -m testbed compare runs/burst-lstm runs/burst-reactive`\n\n"
    "`python -m testbed compare runs/burst-lstm --baseline runs/baseline.json --write`\n\n"
    "`python -m testbed compare runs/burst-lstm --baseline runs/baseline.json --junit runs/junit.xml`"
)
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="run directories", show_default=False)],
    page: Annotated[
        Path | None,
        typer.Option("--page", metavar="FILE.html", help="also write the comparison as an HTML page"),
    ] = None,
    allow_different: Annotated[
        bool, typer.Option("--allow-different", help="compare although scenario, seed or traffic differ")
    ] = False,
    baseline: BaselineSource = None,
    write: Annotated[bool, typer.Option("--write", help="store the metrics of RUN as the baseline FILE")] = False,
    figures: BaselineFigures = None,
    junit: JunitFile = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs of one scenario and seed, also with a stored baseline."""
    from testbed.report import compare as comparing
    from testbed.report import junit_cases
    from testbed.report.compare_page import write_compare_page
    from testbed.report.junit import reported

    with reported(junit, "compare") as suites:
        with patience.noted(f"comparing {len(runs)} runs"):
            comparison = comparing.compare(runs, allow_different=allow_different)
        suites.extend(junit_cases.suites_of(runs) if junit else [])
        judged = _against(baseline, runs, figures or [], write, allow_different)
        suites.extend([junit_cases.suite_of_baseline(judged.results)] if judged else [])
    if as_json:
        output.say_json({**comparison.to_record(), **({"baseline": judged.to_record()} if judged else {})})
    else:
        output.say("\n\n".join([comparison.text(), *([judged.text()] if judged else [])]))
    if page is not None:
        with patience.noted("writing the page"):
            written = write_compare_page(comparison, page)
        output.note(f"page: {written}")
    if judged is not None:
        raise typer.Exit(judged.exit_code)


def _against(
    baseline: Path | None, runs: list[Path], figures: list[str], write: bool, allow_different: bool
) -> Judged | None:
    """Return the runs against the baseline; None without one, or where it is written."""
    from testbed.report import baseline as baselines

    if baseline is None:
        if write or figures:
            remedy = "name it with --baseline"
            raise InputError("--write" if write else f"--figure {figures[0]}", "there is no baseline", remedy)
        return None
    if write:
        output.note(f"baseline: {baselines.store(baseline, runs, figures)}")
        return None
    return baselines.judge(baseline, runs, figures, allow_different=allow_different)
