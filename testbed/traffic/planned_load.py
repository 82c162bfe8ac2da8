"""The load that a plan holds for a time to come, as a rule that knows the future asks for it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS, NS_PER_S

_BINS_A_PERIOD = 4


def ahead_of(plan: PacketPlan, period_ns: int) -> Callable[[int, int], int]:
    """Return what gives the highest load between two times: bit/s, over `period_ns` from any quarter of it on."""
    bin_ns = max(NS_PER_MS, period_ns // _BINS_A_PERIOD)
    last_ns = int(plan.t_ns[-1]) if len(plan) else 0
    sent = np.bincount(plan.t_ns // bin_ns, weights=plan.size_bytes, minlength=last_ns // bin_ns + 1)
    before = np.concatenate((np.zeros(1), np.cumsum(sent), np.full(_BINS_A_PERIOD, sent.sum())))
    over_a_period = before[_BINS_A_PERIOD:] - before[:-_BINS_A_PERIOD]

    def highest_bps(from_ns: int, to_ns: int) -> int:
        first, end = from_ns // bin_ns, max(from_ns, to_ns - period_ns) // bin_ns + 1
        highest_bytes = over_a_period[first:end].max(initial=0.0)
        return int(highest_bytes * 8 * NS_PER_S / (bin_ns * _BINS_A_PERIOD))

    return highest_bps
