"""What every node counted, as evidence: the counters of the meter, less what waits there and what faults lost."""

from __future__ import annotations

from typing import Any

from testbed.records.events import Ints
from testbed.records.evidence import NodeEvidence
from testbed.simulation.delays import DelayCounts
from testbed.simulation.fault_loss_counters import FaultLossCounters
from testbed.simulation.meter import Meter


def passed_bytes(meter: Meter, losses: FaultLossCounters | None) -> Ints:
    """Return what has been admitted and not thrown away, shape [n]."""
    passed: Ints = meter.arrived_bytes - meter.dropped_bytes - meter.deflected_bytes
    return passed if losses is None else passed - losses.discarded_bytes


def node_evidence(
    nodes: tuple[str, ...],
    meter: Meter,
    losses: FaultLossCounters | None,
    delays: DelayCounts,
    waiting: tuple[Ints, Ints],
    *,
    deflects: bool,
    marks: bool,
) -> tuple[NodeEvidence, ...]:
    """Return what each node counted so far.

    Args:
        nodes: their names.
        meter: counts what came and what was dropped.
        losses: counts what faults cost; None where nothing fails.
        delays: counts delays.
        waiting: packets and bytes that are in each queue, which are in flight.
        deflects: whether full nodes hand packets on.
        marks: whether packets are marked.
    """
    passed = passed_bytes(meter, losses)
    pkts, amounts = (column.tolist() for column in waiting)

    def of(row: int, name: str) -> NodeEvidence:
        discarded = 0 if losses is None else int(losses.discarded_pkts[row])
        refused_pkts = meter.dropped_pkts[row] + meter.deflected_pkts[row] + discarded
        return NodeEvidence(
            node=name,
            arrived_pkts=int(meter.arrived_pkts[row]),
            arrived_bytes=int(meter.arrived_bytes[row]),
            dropped_pkts=int(meter.dropped_pkts[row]),
            dropped_bytes=int(meter.dropped_bytes[row]),
            delivered_pkts=int(meter.arrived_pkts[row] - refused_pkts) - pkts[row],
            delivered_bytes=int(passed[row]) - amounts[row],
            in_flight_pkts=pkts[row],
            fault_dropped_pkts=None if losses is None else int(losses.kept_pkts[row]),
            discarded_pkts=None if losses is None else discarded,
            delay=delays.histogram(row),
            **_deflected(meter, row, deflects),
            marked_pkts=int(meter.marked_pkts[row]) if marks else None,
        )

    return tuple(of(row, name) for row, name in enumerate(nodes))


def _deflected(meter: Meter, row: int, deflects: bool) -> dict[str, Any]:
    return (
        {name: int(getattr(meter, name)[row]) for name in ("deflected_pkts", "deflected_in_pkts")} if deflects else {}
    )
