"""The packet plan: every packet of a run, known before the run begins.

Both engines carry out the same plan: the emulation sends it, the simulation offers it.  Runs of one scenario and seed
under different policies have the same `PacketPlan.digest`, which is how a comparison proves that it compared like with
like.

Flows are numbered over the whole plan, sources in the order of the scenario.  A flow is one UDP source port of one
client, and no client uses a port twice: the balancer identifies flows by address and port.  Sources differ in their
destination port, so that a capture shows which source a packet is of.

`plan_file` is a plan as a file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from testbed.errors import InputError
from testbed.records.events import Ints
from testbed.scenario.complaints import refuse_first
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.sources import SourceSpec, TraceSpec
from testbed.scenario.traffic_checks import FIRST_SRC_PORT
from testbed.traffic import traces
from testbed.traffic.feasible import feasible
from testbed.traffic.shape import Packets, packets_of

FIRST_DST_PORT = 9_000

Int16s = NDArray[np.int16]
Int32s = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class FlowTable:
    """What each flow is; row = flow number, shape [f].

    Attributes:
        client: int16, index into `PacketPlan.clients`.
        source: int16, index into `PacketPlan.sources`.
        src_port, dst_port: int32, UDP ports.
        ip_version: int16, 4 or 6; left out: all 4.
    """

    client: Int16s
    source: Int16s
    src_port: Int32s
    dst_port: Int32s
    ip_version: Int16s = field(default_factory=lambda: np.zeros(0, np.int16))

    def __post_init__(self) -> None:
        if not len(self.ip_version):
            object.__setattr__(self, "ip_version", np.full(len(self.client), 4, np.int16))

    def __len__(self) -> int:
        return len(self.client)


@dataclass(frozen=True, eq=False)
class PacketPlan:
    """Planned packets, ascending in time.  Arrays are read-only and have shape [n].

    Attributes:
        duration_ns: length of the run.
        clients, sources: the names behind the indices of the flow table.
        flows: the flow table, of the whole plan also in the part of one client.
        t_ns: int64, planned instant since the start of the run.
        source: int16, index into `sources`.
        flow: int32, row of the flow table.
        seq: int32, number within the flow, from 0 without gaps.
        size_bytes: int32, frame length from the Ethernet header on, without checksum trailer.
        notes: what the readers of traces found out or mended, a line each; not part of the plan as written.
    """

    duration_ns: int
    clients: tuple[str, ...]
    sources: tuple[str, ...]
    flows: FlowTable
    t_ns: Ints
    source: Int16s
    flow: Int32s
    seq: Int32s
    size_bytes: Int32s
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for array in (*self.packet_columns().values(), *flow_columns(self.flows).values()):
            array.setflags(write=False)

    def __len__(self) -> int:
        return len(self.t_ns)

    def packet_columns(self) -> dict[str, NDArray[np.signedinteger]]:
        """Return the arrays with a row for each packet, by name."""
        return {name: getattr(self, name) for name in ("t_ns", "source", "flow", "seq", "size_bytes")}

    @property
    def total_bytes(self) -> int:
        """Return the bytes of all packets."""
        return int(np.sum(self.size_bytes, dtype=np.int64))

    def of_client(self, name: str) -> PacketPlan:
        """Return the packets that one client sends (none, for a client without a source)."""
        chosen = self.rows_of_client(name)
        columns: dict[str, Any] = {key: array[chosen] for key, array in self.packet_columns().items()}
        return replace(self, **columns)

    def rows_of_client(self, name: str) -> Ints:
        """Return the rows of those packets."""
        wanted = self.clients.index(name) if name in self.clients else -1
        rows: Ints = np.flatnonzero((self.flows.client == wanted)[self.flow])
        return rows

    def begun_ns(self, idle_ns: int) -> Ints:
        """Return when the flow of each packet began to send, int64; it starts again after a silence of `idle_ns`."""
        order = order_by(self.flow)
        t_ns, flow = self.t_ns[order], self.flow[order]
        begins = np.diff(flow, prepend=-1) != 0
        begins[1:] |= np.diff(t_ns) > idle_ns
        begun: Ints = np.empty_like(self.t_ns)
        begun[order] = t_ns[np.maximum.accumulate(np.where(begins, np.arange(len(t_ns)), 0))]
        return begun

    def digest(self) -> str:
        """Return the SHA-256 of everything in the plan, in hexadecimal."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        head = {"plan": 1, "duration_ns": self.duration_ns, "clients": self.clients, "sources": self.sources}
        state = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for name, array in {**flow_columns(self.flows), **self.packet_columns()}.items():
            state.update(f"{name} {len(array)} ".encode())
            state.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
        return state.hexdigest()


def flow_columns(flows: FlowTable) -> dict[str, NDArray[np.signedinteger]]:
    """Return the arrays of a flow table by name; versions of IP only where they differ from 4.

    A plan of IPv4 alone keeps the digest that it had before there was IPv6.
    """
    columns = {one.name: getattr(flows, one.name) for one in fields(flows)}
    return columns if (flows.ip_version != 4).any() else {k: v for k, v in columns.items() if k != "ip_version"}


def make_plan(scenario: Scenario, network: Network, base_dir: Path | traces.TraceFiles) -> PacketPlan:
    """Plan every packet of a scenario.

    Args:
        scenario: what is to be sent, and the seed.
        network: who there is to send it.
        base_dir: the folder that traces are relative to, that of the scenario file; or what has read them already.

    Raises:
        InputError: unknown client, a name used twice, more flows than ports, a rate or a number of packets beyond
            reason, an unusable trace, or a plan without any packet.
    """
    files = traces.TraceFiles(base_dir) if isinstance(base_dir, Path) else base_dir
    refuse_first(feasible(scenario, files))
    clients = tuple(dict.fromkeys(source.client for source in scenario.planned))
    flows = _flow_table(scenario.planned, clients)
    notes: list[str] = []
    parts = [_packets_of(source, scenario, files, notes) for source in scenario.planned]
    if not any(len(part.t_ns) for part in parts):
        raise InputError("planning the traffic", "no source sends a single packet", "raise a rate or the duration")
    first_flow = np.concatenate(([0], np.cumsum([source.flows for source in scenario.planned])))
    order = np.argsort(np.concatenate([part.t_ns for part in parts]), kind="stable")
    flow = np.concatenate([part.flow + first for part, first in zip(parts, first_flow, strict=False)])[order]
    source = flows.source[flow]
    return PacketPlan(
        duration_ns=scenario.duration_ns,
        clients=clients,
        sources=tuple(source.name for source in scenario.planned),
        flows=flows,
        t_ns=np.concatenate([part.t_ns for part in parts])[order],
        source=source,
        flow=flow.astype(np.int32),
        seq=_sequence_numbers(flow, len(flows)),
        size_bytes=np.concatenate([_sizes(*pair) for pair in zip(scenario.planned, parts, strict=True)])[order],
        notes=tuple(notes),
    )


def _packets_of(source: SourceSpec, scenario: Scenario, files: traces.TraceFiles, notes: list[str]) -> Packets:
    if not isinstance(source, TraceSpec):
        return packets_of(source, scenario.duration_ns, scenario.seed)
    notes += [f"traffic.{source.name}: {source.trace}: {note}" for note in files.notes(source, scenario.duration_ns)]
    if source.replay == "packets":
        return traces.replay_packets(source, files.captured(source), scenario.duration_ns)
    return traces.replay(source, files.for_run(source, scenario.duration_ns), scenario.duration_ns, scenario.seed)


def _sizes(source: SourceSpec, packets: Packets) -> Int32s:
    if packets.size_bytes is None:
        return np.full(len(packets.t_ns), source.packet_bytes, np.int32)
    return packets.size_bytes.astype(np.int32)


def _flow_table(sources: Sequence[SourceSpec], clients: tuple[str, ...]) -> FlowTable:
    """Number the flows and give each a port its client uses for nothing else."""
    next_port = dict.fromkeys(clients, FIRST_SRC_PORT)
    src_ports = []
    for source in sources:
        src_ports.append(np.arange(source.flows, dtype=np.int32) + next_port[source.client])
        next_port[source.client] += source.flows
    counts = [source.flows for source in sources]
    index = np.repeat(np.arange(len(sources), dtype=np.int16), counts)
    return FlowTable(
        client=np.array([clients.index(source.client) for source in sources], np.int16)[index],
        source=index,
        src_port=np.concatenate(src_ports),
        dst_port=(FIRST_DST_PORT + index).astype(np.int32),
        ip_version=np.concatenate([_ip_versions(source) for source in sources]),
    )


def _ip_versions(source: SourceSpec) -> Int16s:
    if source.ip == "mixed":
        return (4 + 2 * (np.arange(source.flows) % 2)).astype(np.int16)
    return np.full(source.flows, source.ip, np.int16)


def _sequence_numbers(flow: Ints, flow_count: int) -> Int32s:
    """Return how many packets of the same flow came before each one."""
    by_flow = order_by(flow)
    counts = np.bincount(flow, minlength=flow_count)
    seq = np.empty(len(flow), np.int32)
    seq[by_flow] = np.arange(len(flow)) - np.repeat(np.cumsum(counts) - counts, counts)
    return seq


def order_by(flow: NDArray[np.signedinteger]) -> Ints:
    """Return the order that sorts `flow` (0 to 2^32 - 1), what is equal staying in order; int64.

    NumPy sorts 16 bits by radix: twice that is several times as fast as once all of them, and a request to stop, which
    waits for NumPy to return, waits for a second instead of ten.
    """
    order: Ints = np.argsort((flow & 0xFFFF).astype(np.uint16), kind="stable")
    high = (flow >> 16).astype(np.uint16)
    return order[np.argsort(high[order], kind="stable")] if high.any() else order
