"""Where flows were, epoch by epoch, made up for tests of what is told from it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from testbed.emulation.dataplane.xdp_abi import SINK_FLOW
from testbed.traffic.fates import NOWHERE
from testbed.traffic.fault_losses import FlowHistory, FlowRows, LostPackets
from testbed.traffic.numbers import PacketNumbers
from testbed.traffic.plan import FlowTable, PacketPlan

NONE = (0, 0, 0, 0)


def plan(*flows: tuple[int, ...]) -> PacketPlan:
    """Return a plan: for each flow the times of its packets."""
    rows = sorted((t, flow, seq) for flow, times in enumerate(flows) for seq, t in enumerate(times))
    t_ns, flow, seq = (np.array(column) for column in zip(*rows, strict=True))
    none16, none32 = np.zeros(len(flows), np.int16), np.zeros(len(flows), np.int32)
    table = FlowTable(none16, none16, none32, none32)
    source, size = np.zeros(len(rows), np.int16), np.full(len(rows), 1000, np.int32)
    return PacketPlan(
        100, ("c1",), ("s",), table, t_ns.astype(np.int64), source, flow.astype(np.int32), seq.astype(np.int32), size
    )


def rows(*flows: tuple[int, int, int, int]) -> FlowRows:
    """Return a flow table: packets, highest number, epoch and first number in it of each flow."""
    table = np.zeros(len(flows), SINK_FLOW)
    for row, (pkts, highest, epoch, first) in zip(table, flows, strict=True):
        row["pkts"], row["highest_seq"], row["epoch"], row["epoch_first_seq"] = pkts, highest, epoch, first
    return table


def history(*epochs: Mapping[str, FlowRows]) -> FlowHistory:
    """Return the history of the nodes n1 and n2 with a table of each at the end of each epoch."""
    made = FlowHistory(("n1", "n2"))
    for number, tables in enumerate(epochs, 1):
        assert made.end_epoch(tables) == number
    return made


def lost(of: PacketPlan, packets: Mapping[tuple[int, int], int]) -> LostPackets:
    """Return lost packets: (flow, number) → row of the node that swallowed it, or `NOWHERE`."""
    numbers = PacketNumbers.of_plan(of)
    chosen, at = np.zeros(numbers.total, dtype=bool), np.full(numbers.total, NOWHERE, dtype=np.int64)
    for (flow, seq), row in packets.items():
        number = int(numbers.first[flow]) + seq
        chosen[number], at[number] = True, row
    return LostPackets.of(of, chosen, at)


def silently(*packets: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Return lost packets that nobody has seen end."""
    return dict.fromkeys(packets, NOWHERE)
