"""A run from its directory, drawn in a terminal while another process runs it: nodes, faults, and what happened last.

Nothing is asked of the trial: its directory is read, which is at most a second behind.  Of a run that is over the last
state stays, with its verdict.  The delay is what the queue of a node takes to drain at its rate.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from testbed.records.events import Ints, Record, RemoveNode, RestoreNode
from testbed.records.faults import FaultCommanded, FaultHealed, FaultNotSeen, FaultObserved
from testbed.records.processes import (
    ControllerTookOver,
    MemberDied,
    MemberReturned,
    MemberSilent,
    NotificationLost,
    SwitchLost,
    TrialFailed,
)
from testbed.records.samples import NodeSamples
from testbed.results.recorded_run import RecordedRun
from testbed.units import NS_PER_MS, NS_PER_S

SHOWN_EVENTS = 8
SPARK_CELLS = 20
SPARK_NS = 10 * NS_PER_S  # how much of the past a sparkline shows
MAX_ROWS = 20
SILENT_NS = 500 * NS_PER_MS  # a node whose last sample is that much older than those of others
_COLUMNS = ("predicted_bytes", "weight", "severity_ratio")
_LEVELS = " ▁▂▃▄▅▆▇█"
_MB = 10**6
# Records that a reader of a trial wants to see as they happen, and the words for them.
_WORDS: Mapping[type[Record], str] = {
    FaultCommanded: "fault ordered: {what} {nodes}",
    FaultObserved: "fault in force: {what} {nodes}",
    FaultNotSeen: "fault not observed: {what} {nodes}",
    FaultHealed: "fault over: {what} {nodes}",
    MemberSilent: "{node} suspected by {policy}",
    MemberDied: "{policy} considers {node} dead",
    MemberReturned: "{policy} considers {node} alive again",
    RemoveNode: "balancer removed {node} from forwarding",
    RestoreNode: "balancer put {node} back into forwarding",
    ControllerTookOver: "the standby controller took over",
    SwitchLost: "a controller lost the switch",
    NotificationLost: "a notification of {node} was lost",
    TrialFailed: "the trial failed: {error}",
}
_WORDS_OF = {kind.__name__: words for kind, words in _WORDS.items()}


@dataclass(frozen=True, slots=True)
class Happened:
    """Something to show: when, and what."""

    t_ns: int
    text: str


class Watch:
    """Reads the directory of a run again and again.

    Events are read on from where the last reading ended; of the samples only the columns that are drawn.
    """

    def __init__(self, run: RecordedRun) -> None:
        self._path, self._run = run.path, run
        self._facts = run.facts
        self._events_seen = 0
        self._happened: deque[Happened] = deque(maxlen=200)
        self._rows: Mapping[str, NodeSamples] = {}

    @property
    def over(self) -> bool:
        """Return whether the run has ended, in whatever way."""
        return self._run.status != "running"

    @property
    def nodes(self) -> list[str]:
        """Return the nodes in the order of drawing."""
        return list(self._facts.node_rate_bps) or list(self._rows)

    def read(self) -> None:
        """Look at the directory once more.

        Raises:
            InputError: a file is damaged, or was taken away.
        """
        self._run = RecordedRun.open(self._path)
        self._rows = self._run.samples_by_node(_COLUMNS)
        for event in islice(self._run.events(), self._events_seen, None):
            self._events_seen += 1
            words = _WORDS_OF.get(event["kind"])
            if words is not None:
                self._happened.append(Happened(event["t_ns"], words.format_map(_Fields(event))))

    def drawn(self, selected: str | None = None) -> Group:
        """Return the picture; of a selected node, with what it alone has."""
        parts: list[Any] = [self._head(), self._table(selected)]
        if selected in self._rows:
            parts.append(self._detail(str(selected)))
        return Group(*parts, *self._last(), *self._verdict())

    @property
    def _t_ns(self) -> int:
        """Return the time of the last sample of any node."""
        return max((int(rows.t_ns[-1]) for rows in self._rows.values() if len(rows.t_ns)), default=0)

    def _head(self) -> Text:
        facts, at_s = self._facts, self._t_ns / NS_PER_S
        what = f"{facts.scenario}, seed {facts.seed}, {facts.engine}, {facts.buffer_policy}, {facts.balancer_policy}"
        return Text(f"{what}: {self._run.status}, {at_s:.1f} of {facts.duration_ns / NS_PER_S:.1f} s", style="bold")

    def _table(self, selected: str | None) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("node", no_wrap=True)
        table.add_column(f"backlog, last {SPARK_NS // NS_PER_S} s", no_wrap=True)
        for header in ("of limit", "delay", "arriving", "dropped"):
            table.add_column(header, justify="right", no_wrap=True)
        for node in self._shown(selected):
            style = "reverse" if node == selected else ""
            table.add_row(Text(node, style=style), *self._cells(node))
        hidden = len(self.nodes) - min(len(self.nodes), MAX_ROWS)
        if hidden:
            table.add_row(Text(f"and {hidden} more nodes; press n and p to reach them", style="dim"))
        return table

    def _shown(self, selected: str | None) -> list[str]:
        """Return the page of nodes that the selected one is on."""
        nodes = self.nodes
        first = nodes.index(selected) // MAX_ROWS * MAX_ROWS if selected in nodes else 0
        return nodes[first : first + MAX_ROWS]

    def _cells(self, node: str) -> Iterator[Text | str]:
        rows = self._rows.get(node)
        if rows is None or not len(rows.t_ns):
            yield from (Text("no sample yet", style="dim"), "", "", "", "")
            return
        backlog, limit = int(rows.backlog_bytes[-1]), int(rows.limit_bytes[-1])
        rate_bps = self._facts.node_rate_bps.get(node, 0)
        dropped = int(rows.dropped_pkts.sum())
        yield Text(sparkline(rows.t_ns, rows.backlog_bytes, rows.limit_bytes), style="cyan")
        yield f"{backlog / _MB:.2f} / {limit / _MB:.2f} MB"
        yield f"{backlog * 8 * 1000 / rate_bps:.1f} ms" if rate_bps else ""
        silent_ns = self._t_ns - int(rows.t_ns[-1])
        if silent_ns > SILENT_NS:
            yield Text(f"silent for {silent_ns / NS_PER_S:.1f} s", style="red")
        else:
            yield f"{_arriving_bps(rows) / 1e6:.1f} Mbit/s"
        yield Text(f"{dropped:,}", style="red" if dropped else "")

    def _detail(self, node: str) -> Text:
        rows = self._rows[node]
        parts = [f"{node}: {len(rows.t_ns):,} samples, {int(rows.arrived_pkts.sum()):,} packets arrived"]
        for name, words in (
            ("predicted_bytes", "forecast {:,.0f} bytes"),
            ("severity_ratio", "burst severity {:.2f}"),
            ("weight", "{:.0f} slots"),
        ):
            values = rows.optional.get(name)
            known = np.zeros(0) if values is None else values[~np.isnan(values)]
            if known.size:
                parts.append(words.format(known[-1]))
        return Text("; ".join(parts), style="dim")

    def _last(self) -> Iterator[Text]:
        for happened in list(self._happened)[-SHOWN_EVENTS:]:
            yield Text(f"{happened.t_ns / NS_PER_S:9.3f} s  {happened.text}")

    def _verdict(self) -> Iterator[Text]:
        summary = self._run.document("summary.json") if self.over else None
        if summary is not None:
            yield Text(f"verdict: {summary['verdict']}", style="bold")


class _Fields(dict[str, Any]):
    """The fields of a record for its words; nodes are joined, an absent field is empty."""

    def __getitem__(self, name: str) -> str:
        value = self.get(name, "")
        return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def sparkline(t_ns: Ints, values: Ints, full: Ints) -> str:
    """Return the last `SPARK_NS` as a line of blocks: in each the largest `values` over what would be `full`."""
    end_ns = int(t_ns[-1])
    recent = t_ns > end_ns - SPARK_NS
    cells = np.minimum((t_ns[recent] - (end_ns - SPARK_NS)) * SPARK_CELLS // SPARK_NS, SPARK_CELLS - 1)
    heights: Ints = np.zeros(SPARK_CELLS, dtype=np.int64)
    levels = np.ceil(values[recent] / np.maximum(full[recent], 1) * (len(_LEVELS) - 1)).astype(np.int64)
    np.maximum.at(heights, cells, np.clip(levels, 0, len(_LEVELS) - 1))
    return "".join(_LEVELS[height] for height in heights)


def _arriving_bps(rows: NodeSamples) -> float:
    """Return the mean arrival rate of the last 100 ms and more."""
    recent = rows.t_ns > rows.t_ns[-1] - 100 * NS_PER_MS
    span_ns = int(rows.interval_ns()[recent].sum())
    return float(rows.arrived_bytes[recent].sum()) * 8 * NS_PER_S / span_ns if span_ns else 0.0
