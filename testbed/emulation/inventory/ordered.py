"""Which changes the faults of a scenario explain.  Any other change counts as a disturbance.

A fault explains changes of the things that it covers, from its command until `_LINGER_NS` after its end, because the
kernel reports a returning carrier up to a second late.  A change found only at the end may have happened at any time; a
change between two readings, at any time between them.
"""

from __future__ import annotations

from collections.abc import Iterable

from testbed.emulation.faults.fault_acts import act_of
from testbed.emulation.inventory.difference import Difference
from testbed.scenario.network import Network
from testbed.traffic.carried_out import Fault
from testbed.units import NS_PER_MS

_LINGER_NS = 1200 * NS_PER_MS


def not_ordered(found: Iterable[Difference], faults: Iterable[Fault], network: Network) -> list[Difference]:
    """Return the differences that no fault ordered."""
    carried_out = tuple(faults)
    return [d for d in found if not any(_in_time(d, f) and _covers(f, d, network) for f in carried_out)]


def _in_time(found: Difference, fault: Fault) -> bool:
    if found.t_ns is None:
        return True
    at_the_latest_ns = found.t_ns if found.by_ns is None else found.by_ns
    return fault.commanded_ns <= at_the_latest_ns and (
        fault.over_ns is None or found.t_ns <= fault.over_ns + _LINGER_NS
    )


def _covers(fault: Fault, found: Difference, network: Network) -> bool:
    return act_of(fault.spec.row.act).covers(found, fault.spec, network)
