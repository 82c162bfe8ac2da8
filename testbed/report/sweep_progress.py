"""How far a sweep is: one line a trial as it ends, and a bar below them on a terminal.

Trials may have ended or be running before their turn: they count as done, and their lines come when it is their turn.
The bar is drawn when `tick` is called and by no thread of its own: the sweep forks, and the machine is to be left to
the trial.  The remaining time is estimated from the trials made in this call only; those made before took no time now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from testbed.report.terminal import VERDICT_STYLES
from testbed.report.written import figure, percent, short

FIRST_S, AGAIN_S = 2.0, 30.0


class SweepProgress:
    """Shows a sweep on a console; as a context manager it draws from entry to exit.

    Attributes:
        quiet: whether nothing is shown.

    Args:
        console: where to.
        trials: how many there are.
        quiet: show nothing.
        clock_s: returns the time, in seconds.
    """

    def __init__(
        self, console: Console, trials: int, *, quiet: bool = False, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._console, self.quiet, self._clock_s = console, quiet, clock_s
        self._running, self._since_s, self._say_at_s = "", 0.0, 0.0
        self._bar = Progress(
            *(BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn()),
            *(TextColumn("{task.fields[left]}"), TextColumn("{task.description}", markup=False)),
            console=console,
            transient=True,
            auto_refresh=False,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=trials, left="")
        self._trials, self._done, self._made, self._began_s = trials, 0, 0, clock_s()
        self._ahead = 0  # trials that are done before their turn

    def __enter__(self) -> SweepProgress:
        """Begin to draw."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away; the lines stay."""
        self._bar.stop()

    def skipped(self) -> None:
        """Count a trial that was done before."""
        self._advance()

    def running(self, name: str) -> None:
        """Show which trial is running."""
        self._running, self._since_s = name, self._clock_s()
        self._say_at_s = self._since_s + FIRST_S
        self._bar.update(self._task, description=name)
        self._bar.refresh()

    def tick(self, ahead: int = 0, beside: int = 0) -> None:
        """Redraw the bar; where there is none, say now and then what is waited for.

        Args:
            ahead: how many trials are done before their turn.
            beside: how many run beside the one whose turn it is.
        """
        if ahead != self._ahead:
            self._ahead = ahead
            self._show()
        self._bar.refresh()
        now_s = self._clock_s()
        if not (self.quiet or self._console.is_terminal) and now_s >= self._say_at_s:
            self._say_at_s = now_s + AGAIN_S
            others = f" and {beside} more" if beside else ""
            done = f"; {self._done + ahead} of {self._trials} trials are done" if beside or ahead else ""
            line = f"running {self._running}{others} ({now_s - self._since_s:.0f} s so far){done}"
            self._console.print(line, soft_wrap=True)

    def ran(self, name: str, outcome: str, summary: Mapping[str, Any], said: str) -> None:
        """Print a line for a run that ended."""
        if not self.quiet:
            line = Text.assemble((f"{outcome:11}", VERDICT_STYLES.get(outcome, "bold red")), " ", name)
            line.append(_figures(summary) or (f": {said}" if said else ""))
            self._console.print(line, soft_wrap=True)

    def settled(self) -> None:
        """Count a trial that is done now."""
        self._made += 1
        self._advance()

    @property
    def left_text(self) -> str:
        """Return how long the rest may take, "" while there is nothing to estimate it from."""
        if not self._made:
            return ""
        made, left = self._made + self._ahead, self._trials - self._done - self._ahead
        left_s = (self._clock_s() - self._began_s) / made * max(0, left)
        return f"{left_s / 60:.0f} min left" if left_s >= 90 else f"{left_s:.0f} s left"

    def _advance(self) -> None:
        self._done += 1
        self._ahead = min(self._ahead, self._trials - self._done)
        self._show()

    def _show(self) -> None:
        self._bar.update(self._task, completed=self._done + self._ahead, left=self.left_text)


def _figures(summary: Mapping[str, Any]) -> str:
    """Return the figures of a run in a few words, or why it is worth nothing."""
    reasons = summary.get("verdict_reasons") or [""]
    if summary.get("verdict") == "INVALID":
        return f": {reasons[0]}"
    loss, reserved = figure(summary, "buffer.loss_ratio"), figure(summary, "buffer.reserved_mb_s")
    if loss is None or reserved is None:
        return ""
    return f": {percent(loss)} lost, {short(reserved)} MB·s reserved"
