"""What a fault cost: the packets of the flows it hit, by sequence number.

A flow of the failed node was delivered there up to some number and goes on behind another node from a later one: the
numbers between are lost, and the plan knows when each was to be sent.  So the loss is told packet by packet without a
record of every packet.  Numbers that a full buffer dropped at the seam count too; a flow that never goes on has lost
all that was still to come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testbed.events import Ints
from testbed.traffic.plan import PacketPlan

FlowRows = NDArray[np.void]  # structured `SINK_FLOW`, one row a flow


@dataclass(frozen=True, slots=True)
class FaultLoss:
    """The loss of one fault.

    Attributes:
        flows: those that were delivered behind the failed node before.
        moved_flows: those that went on behind another.
        lost_pkts: numbers that were delivered nowhere.
        last_lost_ns: planned time of the last of them; None without any.
        first_good_ns: planned time of the first packet delivered behind another node; None without any.
    """

    flows: int
    moved_flows: int
    lost_pkts: int
    last_lost_ns: int | None
    first_good_ns: int | None


class PlannedTimes:
    """When packet `seq` of a flow is planned."""

    def __init__(self, plan: PacketPlan) -> None:
        self._t_ns = plan.t_ns[np.argsort(plan.flow, kind="stable")]  # numbers rise with time within a flow
        self._starts = np.concatenate(([0], np.cumsum(np.bincount(plan.flow, minlength=len(plan.flows)))))

    def until(self, flow: int, end_ns: int) -> int:
        """Return how many packets of the flow are planned before `end_ns`."""
        return int(np.searchsorted(self._of(flow), end_ns))

    def at(self, flow: int, seq: int) -> int:
        """Return the planned time of one packet."""
        return int(self._of(flow)[seq])

    def _of(self, flow: int) -> Ints:
        times: Ints = self._t_ns[self._starts[flow] : self._starts[flow + 1]]
        return times


def loss_of(
    victim: str, before: Mapping[str, FlowRows], after: Mapping[str, FlowRows], times: PlannedTimes, ran_ns: int
) -> FaultLoss:
    """Return what the failure of `victim` cost.

    Args:
        victim: the node.
        before: flow tables of all sinks at the fault, by node.
        after: the same at the end of the run.
        times: of the plan.
        ran_ns: when sending ended.
    """
    hit = np.flatnonzero(before[victim]["pkts"])
    lost, last_lost_ns, first_good_ns = 0, [], []
    for flow in hit.tolist():
        begin = int(after[victim]["highest_seq"][flow]) + 1
        ends = [
            int(after[node]["first_seq"][flow])
            for node in after
            if node != victim and after[node]["pkts"][flow] and not before[node]["pkts"][flow]
        ]
        if ends:
            first_good_ns.append(times.at(flow, min(ends)))
        end = min(ends) if ends else times.until(flow, ran_ns)
        if end > begin:
            lost += end - begin
            last_lost_ns.append(times.at(flow, end - 1))
    return FaultLoss(
        len(hit), len(first_good_ns), lost, max(last_lost_ns, default=None), min(first_good_ns, default=None)
    )


def broken_flows(tables: Mapping[str, FlowRows], failed: frozenset[str]) -> int:
    """Return how many flows changed node although their node served: seen behind several, none of which failed.

    A flow that was behind a failed node has had to move, and may do so twice: the switch's own fallback is quicker than
    the balancer, which then deals by load.
    """
    seen = {node: rows["pkts"] > 0 for node, rows in tables.items()}
    places = np.sum(list(seen.values()), axis=0)
    hit = np.any([seen[node] for node in seen if node in failed] or [np.zeros_like(places, dtype=bool)], axis=0)
    return int(np.sum((places > 1) & ~hit))
