"""What the faults of a scenario change by order: no disturbance.  Nothing beside it is excused by a fault.

A fault covers the things it changes, from its command until `_LINGER_NS` after its end: the kernel tells of a carrier
that comes back up to a second late.  What was found at the end without a time may be of any time.
"""

from __future__ import annotations

from collections.abc import Iterable

from testbed.emulation.inventory.difference import Difference
from testbed.emulation.inventory.switch_stock import SWITCH
from testbed.scenario.network import Network
from testbed.traffic.carried_out import Fault
from testbed.units import NS_PER_MS

_LINGER_NS = 1200 * NS_PER_MS
_LINK_STATE = {
    "state", "flags", "operstate", "carrier", "carrier_changes", "carrier_up_count", "carrier_down_count",
    "af_spec.af_inet6.flags",
}  # fmt: skip
_GOES_WITH_A_LINK = {"address", "route", "neighbour"}


def not_ordered(found: Iterable[Difference], faults: Iterable[Fault], network: Network) -> list[Difference]:
    """Return the differences that no fault ordered."""
    carried_out = tuple(faults)
    return [d for d in found if not any(_in_time(d, f) and _covers(f, d, network) for f in carried_out)]


def _in_time(found: Difference, fault: Fault) -> bool:
    if found.t_ns is None:
        return True
    return fault.commanded_ns <= found.t_ns and (fault.over_ns is None or found.t_ns <= fault.over_ns + _LINGER_NS)


def _covers(fault: Fault, found: Difference, network: Network) -> bool:
    kind, node = fault.spec.kind, fault.spec.node
    if kind in ("link_down", "flap"):
        return _of_the_link(found, node, network)
    if kind == "crash":
        egress = network.interface(node, network.next_hop(node))
        queue = (found.namespace, found.kind, found.interface) == (node, "qdisc", egress)
        return queue or _is_control(found, node, "crashed")
    if kind == "loss":
        return _is_control(found, node, "loss_threshold", "loss_seed")
    if kind == "pause":
        return found.what == "state" and found.thing in (f"agent {node}", f"mesh {node}")
    if kind == "partition":
        members = {member for group in fault.spec.partition or () for member in group}
        ends = {(member, "neighbour", network.interface(member, "m1")) for member in members}
        return (found.namespace, found.kind, found.interface) in ends
    return False


def _is_control(found: Difference, node: str, *words: str) -> bool:
    return (found.namespace, found.kind, found.thing) == (node, "buffer", "control") and found.what in words


def _of_the_link(found: Difference, node: str, network: Network) -> bool:
    ends = {(node, network.interface(node, "s1")), (SWITCH, network.interface("s1", node))}
    if (found.namespace, found.interface) not in ends:
        return False
    return found.kind in {*_GOES_WITH_A_LINK, "port"} or (found.kind == "link" and found.what in _LINK_STATE)
