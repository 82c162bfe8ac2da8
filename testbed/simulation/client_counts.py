"""What clients have sent, counted from the plan in blocks."""

from __future__ import annotations

import numpy as np

from testbed.records.events import Ints
from testbed.records.evidence import ClientEvidence
from testbed.traffic.plan import PacketPlan

_BLOCK_PKTS = 1 << 20


def sent_by_clients(plan: PacketPlan, end: int, under_way: Ints) -> tuple[ClientEvidence, ...]:
    """Return what each client has sent of the plan before row `end`, but for the rows `under_way`."""
    count = len(plan.clients)
    pkts, amounts = np.zeros((2, count), dtype=np.int64)
    blocks: list[slice | Ints] = [slice(begin, min(begin + _BLOCK_PKTS, end)) for begin in range(0, end, _BLOCK_PKTS)]
    for sign, block in [(1, block) for block in blocks] + [(-1, under_way)]:
        client = plan.flows.client[plan.flow[block]]
        pkts += sign * np.bincount(client, minlength=count)
        amounts += sign * np.bincount(client, weights=plan.size_bytes[block], minlength=count).astype(np.int64)
    return tuple(
        ClientEvidence(name, planned_pkts=sent, sent_pkts=sent, sent_bytes=amount)
        for name, sent, amount in zip(plan.clients, pkts.tolist(), amounts.tolist(), strict=True)
    )
