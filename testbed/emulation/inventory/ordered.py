"""What the faults of a scenario change by order: no disturbance.  Nothing beside it is excused by a fault.

A fault covers the things it changes, from its command until `_LINGER_NS` after its end: the kernel tells of a carrier
that comes back up to a second late.  What was found at the end without a time may be of any time; what happened between
two looks, at any time between them.
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
