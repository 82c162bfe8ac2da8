"""The view of a run while it runs: a table in a terminal, a line now and then elsewhere, nothing when quiet.

The supervisor shares two cores with the trial, so the view must cost nothing: samples only overwrite the last state
of their node, and the table is drawn at most four times a second by whoever calls `tick`.  There is no thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from testbed.units import NS_PER_MS, NS_PER_S

REDRAW_NS = 250 * NS_PER_MS
LINE_NS = 5 * NS_PER_S
WAITING_NS = 2 * NS_PER_S
MAX_ROWS = 16
_BAR_CELLS = 24
_MB = 10**6


@dataclass(slots=True)
class NodeState:
    """Last known state of a node and its drops so far."""

    backlog_bytes: int = 0
    limit_bytes: int = 0
    dropped_pkts: int = 0
    arrived_pkts: int = 0

    @property
    def fill_ratio(self) -> float:
        """Return how full the buffer is."""
        return min(1.0, self.backlog_bytes / self.limit_bytes) if self.limit_bytes else 0.0


class LiveView:
    """Shows time, and per node backlog, limit and drops.

    A context manager: outside of it nothing is drawn.

    Args:
        title: what runs, such as the scenario's name.
        duration_ns: how long traffic is planned to last.
        nodes: their names, in the order to show.
        console: where to draw; normally ``Console(stderr=True)``.
        quiet: draw nothing.
        clock_ns: the clock by which it is redrawn.
    """

    def __init__(
        self,
        title: str,
        duration_ns: int,
        nodes: Iterable[str],
        console: Console,
        *,
        quiet: bool = False,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.states = {node: NodeState() for node in nodes}
        self._title, self._duration_ns, self._console, self._quiet = title, duration_ns, console, quiet
        self._clock_ns = clock_ns
        self._t_ns = 0
        self._due_ns = 0
        self._live: Live | None = None
        self._waiting = ""

    @property
    def drawing(self) -> bool:
        """Return whether a table is being drawn, which says what is waited for."""
        return self._live is not None

    def __enter__(self) -> LiveView:
        if not self._quiet and _can_redraw(self._console):
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def observe(self, columns: Mapping[str, Any]) -> None:
        """Process sample rows as columns (see `records.samples`); nodes not named before are added."""
        names = ("node", "t_ns", "backlog_bytes", "limit_bytes", "dropped_pkts", "arrived_pkts")
        for node, t_ns, backlog, limit, dropped, arrived in zip(*(columns[name] for name in names), strict=True):
            state = self.states.setdefault(node, NodeState())
            state.backlog_bytes, state.limit_bytes = int(backlog), int(limit)
            state.dropped_pkts += int(dropped)
            state.arrived_pkts += int(arrived)
            self._t_ns = max(self._t_ns, int(t_ns))

    def waiting(self, what: str, for_ns: int) -> None:
        """Process what is being done, and for how long no traffic has flowed."""
        self._waiting = f"  {what} ({for_ns // NS_PER_S} s)" if for_ns >= WAITING_NS else ""

    def tick(self) -> None:
        """Draw if it is time to; call it as often as you like."""
        now_ns = self._clock_ns()
        if self._quiet or now_ns < self._due_ns:
            return
        if self._live is not None:
            self._due_ns = now_ns + REDRAW_NS
            self._live.update(self._table(), refresh=True)
        elif not _can_redraw(self._console):
            self._due_ns = now_ns + LINE_NS
            self._console.print(self.line(), soft_wrap=True, highlight=False)

    def line(self) -> str:
        """Return the state as one line, for logs: nodes while they fit, totals beyond."""
        if len(self.states) > MAX_ROWS:
            backlog = sum(state.backlog_bytes for state in self.states.values()) / _MB
            dropped = sum(state.dropped_pkts for state in self.states.values())
            return f"{self._clock()}  {len(self.states)} nodes, backlog {backlog:.2f} MB, {dropped:,} dropped"
        parts = (
            f"{node} {s.backlog_bytes / _MB:.2f}/{s.limit_bytes / _MB:.2f} MB, {s.dropped_pkts:,} dropped"
            for node, s in self.states.items()
        )
        return f"{self._clock()}  " + "  ".join(parts)

    def _clock(self) -> str:
        sent_s, planned_s = min(self._t_ns, self._duration_ns) / NS_PER_S, self._duration_ns / NS_PER_S
        after_s = (self._t_ns - self._duration_ns) / NS_PER_S
        draining = f", draining queues ({after_s:.1f} s)" if after_s > 0 else ""
        return f"{self._title} {sent_s:5.1f} of {planned_s:.1f} s{draining}{self._waiting}"

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for header in ("node", "backlog of limit", "", "arrived", "dropped"):
            table.add_column(header, justify="left" if header in ("node", "backlog of limit") else "right")
        shown = sorted(self.states, key=lambda node: -self.states[node].backlog_bytes)[:MAX_ROWS]
        for node in (name for name in self.states if name in set(shown)):
            table.add_row(node, *_cells(self.states[node]))
        hidden = len(self.states) - len(shown)
        rest = [Text(f"and {hidden} nodes with less backlog", style="dim")] if hidden else []
        return Group(Text(self._clock(), style="bold"), table, *rest)


def _can_redraw(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


def _cells(state: NodeState) -> tuple[Text, str, str, Text]:
    full = round(state.fill_ratio * _BAR_CELLS)
    colour = "red" if state.fill_ratio > 0.9 else "yellow" if state.fill_ratio > 0.5 else "green"
    bar = Text.assemble(("█" * full, colour), ("░" * (_BAR_CELLS - full), "dim"))
    size = f"{state.backlog_bytes / _MB:.2f} / {state.limit_bytes / _MB:.2f} MB"
    dropped = Text(f"{state.dropped_pkts:,}", style="red" if state.dropped_pkts else "")
    return bar, size, f"{state.arrived_pkts:,}", dropped
