"""The outcome of claims as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from testbed.files import writing
from testbed.report.claims import HEADERS, NO_RESULT, NOT_RUN, ClaimOutcome, cells_of, summary_of
from testbed.report.compare_page import Table, render_page


def write_claims_page(outcomes: Sequence[ClaimOutcome], target: Path) -> Path:
    """Write the page to `target` and return its path.

    Raises:
        ToolError: when it cannot be written.
    """
    return writing.replace(target, render(outcomes), durable=False)


def render(outcomes: Sequence[ClaimOutcome]) -> str:
    """Return the page: one table of all tests, and the statements above it."""
    statements = "\n\n".join(f"{one.name}: {one.statement} {one.note}".strip() for one in outcomes)
    cells = cells_of(outcomes)
    counts = [row[1] not in (NO_RESULT, NOT_RUN) for row in cells]
    table = Table("Tests", list(HEADERS), cells, 6, counts)
    engine = outcomes[0].engine if outcomes else ""
    return render_page("Claims", engine, statements, [], [], [table], f"{summary_of(outcomes)}.")
