"""The packet plan as a file: Parquet, one row a packet; the flow table, the names and the digest in its metadata.

A plan that is read may come from elsewhere.  Beyond the digest, which anybody can compute, it is checked that the
arrays fit each other: whoever has a plan indexes one with another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from testbed.files import json_text, parquet, records, tables
from testbed.files.reading import Source
from testbed.files.records import Form, Name, Positive
from testbed.scenario.model import MAX_DURATION_NS, MAX_SOURCES
from testbed.scenario.sources import MAX_PACKET_BYTES
from testbed.traffic.plan import FlowTable, PacketPlan, flow_columns
from testbed.traffic.shape import MAX_PACKETS

_METADATA_KEY = b"testbed.plan"
_COLUMNS: Mapping[str, tuple[pa.DataType, int]] = {  # and the largest value there may be
    "t_ns": (pa.int64(), MAX_DURATION_NS),
    "source": (pa.int16(), MAX_SOURCES),
    "flow": (pa.int32(), 2**31 - 1),
    "seq": (pa.int32(), MAX_PACKETS),
    "size_bytes": (pa.int32(), MAX_PACKET_BYTES),
}
_Numbers = Annotated[list[Annotated[int, Field(ge=0, le=65_535)]], Field(max_length=20_000_000)]


class _FlowsForm(Form):
    client: _Numbers
    source: _Numbers
    src_port: _Numbers
    dst_port: _Numbers
    ip_version: _Numbers = Field(default_factory=list)


class _HeadForm(Form):
    duration_ns: Annotated[Positive, Field(le=MAX_DURATION_NS)]
    clients: list[Name]
    sources: list[Name]
    digest: Name
    flows: _FlowsForm


def write(plan: PacketPlan, path: Path, *, durable: bool = True) -> None:
    """Write a plan to `path`; `source` stays an index into the names in the metadata.

    Raises:
        ToolError: when the disk does not take it.
    """
    head = {
        "duration_ns": plan.duration_ns,
        "clients": plan.clients,
        "sources": plan.sources,
        "digest": plan.digest(),
        "flows": {name: array.tolist() for name, array in flow_columns(plan.flows).items()},
    }
    table = pa.table(dict(plan.packet_columns())).replace_schema_metadata({_METADATA_KEY: json.dumps(head).encode()})

    tables.write_parquet(table, path, durable=durable)


def read(path: Path) -> PacketPlan:
    """Read back what `write` wrote.

    Raises:
        InputError: when the file is missing, is no plan, or is not what was written.
    """
    source = Source(path, "give a plan.parquet", f"reading the plan {path}", follow=False)
    plan, digest = _plan_in(source)
    _check(plan, source)
    if plan.digest() != digest:
        raise source.refusal("it has been changed since it was written", "run the scenario again")
    return plan


def _plan_in(source: Source) -> tuple[PacketPlan, str]:
    """Return the plan in a file, and the digest it was written with."""
    form = {name: kind for name, (kind, _) in _COLUMNS.items()}
    with parquet.opened(source, form, frozenset(form)) as file:
        if file.rows > MAX_PACKETS:
            raise source.refusal(f"it declares {file.rows:,} packets, more than {MAX_PACKETS:,}")
        head = _head(file.metadata, source)
        columns = {name: parquet.numbers(file.read(name), name, source) for name in form}
    flows = head["flows"]
    plan = PacketPlan(
        duration_ns=head["duration_ns"],
        clients=tuple(head["clients"]),
        sources=tuple(head["sources"]),
        flows=FlowTable(
            client=np.array(flows["client"], np.uint16).astype(np.int16),
            source=np.array(flows["source"], np.uint16).astype(np.int16),
            src_port=np.array(flows["src_port"], np.int32),
            dst_port=np.array(flows["dst_port"], np.int32),
            ip_version=np.array(flows.get("ip_version", ()), np.int16),
        ),
        t_ns=columns["t_ns"],
        source=columns["source"],
        flow=columns["flow"],
        seq=columns["seq"],
        size_bytes=columns["size_bytes"],
    )
    return plan, head["digest"]


def _head(metadata: Mapping[bytes, bytes], source: Source) -> dict[str, Any]:
    if _METADATA_KEY not in metadata:
        raise source.refusal("it is not a plan (its metadata do not say so)")
    head = json_text.parse(metadata[_METADATA_KEY][: json_text.MAX_BYTES + 1], source, "its metadata")
    records.check(head, _HeadForm, source, "its metadata")
    return dict(head)


def _check(plan: PacketPlan, source: Source) -> None:
    """Refuse arrays that do not fit each other."""
    flows, packets = flow_columns(plan.flows), plan.packet_columns()
    largest = {"client": len(plan.clients) - 1, "source": len(plan.sources) - 1}
    _refuse_unless(
        len({len(array) for array in flows.values()}) == 1, "the flow table has columns of two lengths", source
    )
    for name, array in flows.items():
        _refuse_unless(_within(array, largest.get(name, 65_535)), f"a flow has a {name} that does not exist", source)
    largest = {name: most for name, (_, most) in _COLUMNS.items()}
    largest |= {"flow": len(plan.flows) - 1, "source": len(plan.sources) - 1}
    for name, array in packets.items():
        _refuse_unless(_within(array, largest[name]), f"a packet has a {name} out of bounds", source)
    _refuse_unless(bool(np.all(np.diff(plan.t_ns) >= 0)), "its packets are not in time order", source)
    _refuse_unless(len(plan) > 0, "it has no packets", source)


def _within(array: NDArray[Any], most: int) -> bool:
    return not array.size or bool(array.min() >= 0 and array.max() <= most)


def _refuse_unless(holds: bool, happened: str, source: Source) -> None:
    if not holds:
        raise source.refusal(happened)
