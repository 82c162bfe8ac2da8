"""Reads the history of a run: the lines that policies read or wrote, and the events in them.

`records.written` defines the format.  Records of several processes are written slightly out of order.  They are sorted
by time within `REORDER_NS`, or within as many lines as `MAX_WAITING_BYTES` hold.  The files may come from another
machine, so they are checked: an input of a policy must name nodes of the scenario, and an input of a brain only its own
nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from testbed.errors import InputError
from testbed.files.event_records import from_record
from testbed.policies.cohorts import BRAIN, rows_of
from testbed.records.events import MEASURED, Action, Event, Record, TrafficSampled, names_of, recast
from testbed.records.registry import by_kind
from testbed.records.written import DIGEST, OF_SITE, in_short
from testbed.results.recorded_run import RecordedRun
from testbed.scenario.network import Network
from testbed.units import NS_PER_S

REORDER_NS = 5 * NS_PER_S
MAX_WAITING_BYTES = 40 * 10**6
_REMEDY = "replay it with the version of the testbed that wrote it"

Line = Mapping[str, Any]


class RecordedInputs:
    """What a run's history holds for a replay."""

    def __init__(self, run: RecordedRun, network: Network) -> None:
        self._run = run
        clusters = {f"{site}{OF_SITE}": network.at_site(site) for site in network.sites} or {"": network}
        self._nodes_of = {at: tuple(node.name for node in cluster.nodes) for at, cluster in clusters.items()}
        self._samples = _Samples(run, shared=len(clusters) > 1)

    def lines(self) -> Iterator[Line]:
        """Yield the lines that policies read or wrote, in the order of time.

        Raises:
            InputError: when the file is damaged.
        """
        waiting: list[tuple[int, int, int, Line]] = []
        held_bytes = 0
        for number, line, n_bytes in self._run.numbered_events():
            if "direction" not in line:
                continue
            _check(line, self._run, number)
            heapq.heappush(waiting, (line["t_ns"], number, n_bytes, line))
            held_bytes += n_bytes
            while waiting[0][0] < line["t_ns"] - REORDER_NS or held_bytes > MAX_WAITING_BYTES:
                first = heapq.heappop(waiting)
                held_bytes -= first[2]
                yield first[3]
        while waiting:
            yield heapq.heappop(waiting)[3]

    def event(self, line: Line, outputs: Mapping[str, Record]) -> Event | Action | None:
        """Return the input in a line; None when it is in short and no policy has made it.

        Args:
            line: of `lines`, with the direction ``in``.
            outputs: what policies answered, by digest.

        Raises:
            InputError: when it is none, or about nodes that are not there.
        """
        try:
            event = self._read(line, outputs)
            if event is not None:
                self._check_nodes(event, *self._named(line["policy"]))
        except ValueError as error:
            raise _refusal(self._run, line["t_ns"], str(error)) from error
        return event

    def _read(self, line: Line, outputs: Mapping[str, Record]) -> Event | Action | None:
        if not in_short(line):
            return _of_a_policy(from_record(line))
        kind = line["kind"]
        if kind == TrafficSampled.__name__:
            nodes, _ = self._named(line["policy"])
            return self._samples.at(line["t_ns"], line.get("interval_ns"), nodes)
        made = outputs.get(str(line.get(DIGEST)))
        if made is None:
            return None
        cls = by_kind().get(kind)
        if cls is None or names_of(cls) != names_of(type(made)):
            raise ValueError(f"a record in short of kind {kind}")
        return _of_a_policy(recast(made, cls))

    def _named(self, policy: str) -> tuple[tuple[str, ...], str]:
        """Return the nodes of the cluster that a policy belongs to, and the name that the policy has there."""
        site, within, own_name = policy.partition(OF_SITE)
        at = f"{site}{within}" if within else ""
        if at not in self._nodes_of:
            raise ValueError(f"a record of {policy}, no policy of the scenario")
        return self._nodes_of[at], own_name if within else policy

    @staticmethod
    def _check_nodes(event: Event | Action, nodes: tuple[str, ...], policy: str) -> None:
        named = tuple(getattr(event, "nodes", ())) or tuple(filter(None, [getattr(event, "node", None)]))
        strangers = set(named) - set(nodes)
        if strangers:
            raise ValueError(f"a record about {min(strangers)}, no node of the scenario")
        if policy.partition(":")[0] == BRAIN:
            own = nodes[rows_of(policy, nodes)]
            if not set(named) <= set(own) or (isinstance(event, TrafficSampled) and named != own):
                raise ValueError(f"{policy} is asked about other nodes than its own")


def _of_a_policy(record: Record) -> Event | Action:
    if not isinstance(record, (Event, Action)):
        raise ValueError(f"a record of kind {type(record).__name__} as one of a policy")
    return record


def _check(line: Line, run: RecordedRun, number: int) -> None:
    if line["direction"] not in ("in", "out") or not isinstance(line.get("policy"), str):
        raise _refusal(run, line["t_ns"], f"line {number} has no policy or no direction")


def _refusal(run: RecordedRun, t_ns: int, happened: str) -> InputError:
    return InputError(f"replaying {run.path}", f"{happened}, at {t_ns / NS_PER_S:.6f} s", _REMEDY)


class _Samples:
    """``samples.parquet`` by time, read when it is first needed."""

    def __init__(self, run: RecordedRun, *, shared: bool) -> None:
        """Read those of `run`; `shared`: nodes of several clusters may have samples of one instant."""
        self._run, self._shared = run, shared
        self._table: Any = None

    def at(self, t_ns: int, interval_ns: Any, cluster: tuple[str, ...]) -> TrafficSampled:
        """Return what the rows of one instant say of the nodes of a cluster.

        Raises:
            ValueError: when they do not say it all.
        """
        if self._table is None:
            self._table = self._run.samples().combine_chunks()
            self._t_ns = self._table.column("t_ns").to_numpy()
        first, end = np.searchsorted(self._t_ns, (t_ns, t_ns + 1)).tolist()
        rows = self._table.slice(first, end - first)
        if self._shared:
            there = set(cluster)
            rows = rows.filter([node in there for node in rows.column("node").to_pylist()])
        absent = [name for name in MEASURED if name not in rows.column_names or rows.column(name).null_count]
        if absent or type(interval_ns) is not int or interval_ns <= 0:
            raise ValueError(f"a sample without {', '.join(absent) or 'its interval'}")
        nodes = tuple(rows.column("node").to_pylist())
        if len(set(nodes)) < len(nodes):
            raise ValueError("two samples of one node")
        columns = {name: rows.column(name).to_numpy() for name in MEASURED}
        return TrafficSampled(nodes=nodes, interval_ns=interval_ns, **columns)
