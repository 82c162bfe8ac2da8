"""The effect of the faults: time until detection, rerouting and recovery, and the packets lost.

All times are measured from the fault command, by the clock of the run.

    detected    the balancer considered the node dead (`NodeLeft` by mesh or port, or its own removal of a silent node)
    rerouted    the switch confirmed the removal of the node: the first `ActionsAcknowledged` that names it, or the
                first pipeline of a controller, `BalancerReady`, without it
    recovered   planned send time of the last packet that was lost; 0 if none was lost
    takeover    after the kill of a controller: the switch confirmed the pipeline of the standby (`BalancerReady`)

An event at a node is attributed to a fault until the next fault of that node, and until `AFTERMATH_NS` after its end.

*Lost packets* are packets of the flows of the failed node that were not delivered by any node.  A *false suspicion* is
the removal of a node by mesh or notification timeout without a fault, or with a fault shorter than the `harmless_ns` of
its kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.records.events import NodeLeft, Record, RemoveNode, StagesAnnounced
from testbed.records.faults import FaultCommanded, FaultHealed, FaultLosses, FaultNotSeen, FaultObserved
from testbed.records.processes import ActionsAcknowledged, BalancerReady, ControllerTookOver
from testbed.records.written import is_a, own_name
from testbed.scenario.fault_kinds import kind_of
from testbed.units import NS_PER_MS, NS_PER_S

AFTERMATH_NS = NS_PER_S  # a healed fault explains a suspicion for so long
_KINDS = (
    *(FaultCommanded, FaultObserved, FaultNotSeen, FaultHealed, FaultLosses),
    *(NodeLeft, RemoveNode, StagesAnnounced, ActionsAcknowledged, ControllerTookOver, BalancerReady),
)

Line = Mapping[str, Any]


class FaultLines:
    """Keeps the lines about faults while others read the events."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def passing(self, events: Iterable[Line]) -> Iterator[Line]:
        """Yield every line and keep those that matter here."""
        for line in events:
            if is_a(line, *_KINDS) and own_name(line.get("policy", "balancer")) == "balancer":
                self.lines.append(line)
            yield line


@dataclass(frozen=True, slots=True)
class Failure:
    """What became of one fault that takes a node away.

    Attributes:
        what: the kind of fault.
        node: the node it hit.
        detected_ms, rerouted_ms, recovered_ms: from the command on; None for what never happened, or is not known.
        lost_pkts: None while the losses are not recorded.
    """

    what: str
    node: str
    detected_ms: float | None
    rerouted_ms: float | None
    recovered_ms: float | None
    lost_pkts: int | None


def failures(lines: Iterable[Line]) -> list[Failure]:
    """Return every fault that takes a node away, in the order they were commanded."""
    lines = list(lines)
    losses = {line["fault"]: line for line in lines if is_a(line, FaultLosses)}
    return [
        _failure(fault, lines, losses.get(fault["fault"]))
        for fault in _faults(lines)
        if kind_of(fault["what"]).fails_over
    ]


def false_suspicions(lines: Iterable[Line]) -> int:
    """Return how many nodes left by mesh or silence without a fault that explains it."""
    lines = list(lines)
    faults = _faults(lines)
    healed_ns = {line["fault"]: line["t_ns"] for line in lines if is_a(line, FaultHealed)}
    return sum(not _explained(line, faults, healed_ns) for line in _suspicions(lines))


def failover_section(lines: Iterable[Line]) -> dict[str, Any] | None:
    """Return the section of the summary; None when there was no fault and nobody was suspected."""
    lines = list(lines)
    if not _faults(lines) and not _suspicions(lines):
        return None
    found = failures(lines)
    section: dict[str, Any] = {"count": len(found)}
    for name in ("detected_ms", "rerouted_ms", "recovered_ms"):
        known = [value for failure in found if (value := getattr(failure, name)) is not None]
        if known and len(known) == len(found):  # the figure of some would pass for that of all
            section[name] = _spread(known)
    lost = [failure.lost_pkts for failure in found if failure.lost_pkts is not None]
    if len(lost) == len(found):
        section["lost_packets"] = sum(lost)
    section["false_suspicions"] = false_suspicions(lines)
    section["faults"] = [_course(fault, lines) for fault in _faults(lines)]
    takeovers = list(_takeovers_ms(lines))
    return {**section, **({"takeover_ms": _spread(takeovers)} if takeovers else {})}


def _course(fault: Line, lines: list[Line]) -> dict[str, Any]:
    """Return what became of one fault, moment by moment in ms from its command; what never happened is absent."""
    own = [line for line in lines if _same(line, fault)]
    commanded_ns = fault["t_commanded_ns"]
    loss = next((line for line in own if is_a(line, FaultLosses)), {})
    lost_pkts = next((line["lost_pkts"] for line in own if line.get("lost_pkts") is not None), None)
    at_ns = {
        "observed": _time_of(own, FaultObserved),
        "first_effect": loss.get("first_lost_ns"),
        "first_good": loss.get("first_good_ns"),
        "last_lost": loss.get("last_lost_ns"),
        "healed": _time_of(own, FaultHealed),
    }
    moments = {name: (t_ns - commanded_ns) / NS_PER_MS for name, t_ns in at_ns.items() if t_ns is not None}
    if kind_of(fault["what"]).fails_over:
        steps = {"detected": _first(lines, fault, NodeLeft, RemoveNode), "rerouted": _rerouted(lines, fault)}
        moments |= {name: after_ms for name, after_ms in steps.items() if after_ms is not None}
    return {
        "what": fault["what"],
        "nodes": list(fault["nodes"]),
        "commanded_ms": commanded_ns / NS_PER_MS,
        **{f"{name}_ms": after_ms for name, after_ms in moments.items()},
        **({} if lost_pkts is None else {"lost_packets": lost_pkts}),
        "verified": at_ns["observed"] is not None and not any(is_a(line, FaultNotSeen) for line in own),
    }


def _same(line: Line, fault: Line) -> bool:
    """Return whether a line is about that fault, and about that turn of it."""
    return (line.get("fault"), line.get("turn", 0)) == (fault["fault"], fault.get("turn", 0))


def _time_of(lines: list[Line], kind: type[Record]) -> int | None:
    return next((line["t_ns"] for line in lines if is_a(line, kind)), None)


def _takeovers_ms(lines: list[Line]) -> Iterator[float]:
    """Yield for each takeover how long after the kill before it the standby's pipeline was confirmed."""
    for took in (line for line in lines if is_a(line, ControllerTookOver)):
        kills = [fault["t_commanded_ns"] for fault in _faults(lines) if kind_of(fault["what"]).target == "controllers"]
        before = [t_ns for t_ns in kills if t_ns <= took["t_ns"]]
        ready = [line["t_ns"] for line in lines if is_a(line, BalancerReady) and line["t_ns"] >= took["t_ns"]]
        if before and ready:
            yield (min(ready) - max(before)) / NS_PER_MS


def _faults(lines: list[Line]) -> list[Line]:
    return [line for line in lines if is_a(line, FaultCommanded)]


def _suspicions(lines: list[Line]) -> list[Line]:
    """Return what took a node away though nothing was seen of its port: the mesh's word, or missing notifications.

    The first come to the balancer as events; the second it concludes itself, and a removal without a `NodeLeft` of
    the same instant is one, unless the stages of the nodes were announced then: that is by order.
    """
    left = {(line["t_ns"], line["node"]) for line in lines if is_a(line, NodeLeft)}
    ordered_ns = {line["t_ns"] for line in lines if is_a(line, StagesAnnounced)}
    removed = [line for line in lines if is_a(line, RemoveNode) and line["t_ns"] not in ordered_ns]
    silent = [line for line in removed if (line["t_ns"], line["node"]) not in left]
    return [*(line for line in lines if is_a(line, NodeLeft) and line["reason"] == "mesh"), *silent]


def _failure(fault: Line, lines: list[Line], loss: Line | None) -> Failure:
    return Failure(
        what=fault["what"],
        node=fault["nodes"][0],
        detected_ms=_first(lines, fault, NodeLeft, RemoveNode),
        rerouted_ms=_rerouted(lines, fault),
        recovered_ms=None if loss is None else _recovered(loss, fault),
        lost_pkts=None if loss is None else loss["lost_pkts"],
    )


def _first(lines: list[Line], fault: Line, *kinds: type[Record]) -> float | None:
    """Return when a line of these kinds first named a node of the fault that it is the work of."""
    times = [line["t_ns"] for node in fault["nodes"] for line in _due_to(lines, fault, node, kinds)]
    return (min(times) - fault["t_commanded_ns"]) / NS_PER_MS if times else None


def _rerouted(lines: list[Line], fault: Line) -> float | None:
    times = [t_ns for node in fault["nodes"] if (t_ns := _rerouted_ns(lines, fault, node)) is not None]
    return (min(times) - fault["t_commanded_ns"]) / NS_PER_MS if times else None


def _rerouted_ns(lines: list[Line], fault: Line, node: str) -> int | None:
    """Return when the switch confirmed that `node` was removed because of the fault."""
    removed = _due_to(lines, fault, node, (RemoveNode,))
    if not removed:
        return None
    since_ns = removed[0]["t_ns"]
    confirmed = (line["t_ns"] for line in lines if _confirms(line, node) and line["t_ns"] >= since_ns)
    return min(confirmed, default=None)


def _confirms(line: Line, node: str) -> bool:
    return is_a(line, ActionsAcknowledged, BalancerReady) and node in line.get("removed", ())


def _due_to(lines: list[Line], fault: Line, node: str, kinds: tuple[type[Record], ...]) -> list[Line]:
    """Return the lines of these kinds about a node that are the work of the fault."""
    until_ns = _works_until_ns(lines, fault, node)
    return [
        line
        for line in lines
        if is_a(line, *kinds) and line["node"] == node and fault["t_commanded_ns"] <= line["t_ns"] < until_ns
    ]


def _works_until_ns(lines: list[Line], fault: Line, node: str) -> float:
    commanded_ns: int = fault["t_commanded_ns"]
    turns = [other["t_commanded_ns"] for other in _faults(lines) if node in other["nodes"]]
    later: list[int] = [t_ns for t_ns in turns if t_ns > commanded_ns]
    healed_ns = _time_of([line for line in lines if _same(line, fault)], FaultHealed)
    aftermath_ns: float = float("inf") if healed_ns is None else healed_ns + AFTERMATH_NS
    return min([*later, aftermath_ns])


def broken_flows(moved_ns: Iterable[int], lines: Iterable[Line]) -> int:
    """Return how many of the flows that moved, and began at these times, no fault explains.

    A flow that begins between a fault and the rerouting may be meant for the failed node and be taken to another one
    by the switch's own fallback, and moves once more when the balancer has dealt.  Where nothing is ever rerouted, it
    goes back when the node has healed.
    """
    lines = list(lines)
    hits = [(fault, node) for fault in _faults(lines) for node in fault["nodes"]]
    spans = [(fault["t_commanded_ns"], _settled_ns(lines, fault, node)) for fault, node in hits]
    return sum(not any(begin <= t_ns <= end for begin, end in spans) for t_ns in moved_ns)


def _settled_ns(lines: list[Line], fault: Line, node: str) -> int:
    """Return until when flows that begin may be moved because of a fault; its own time where that is no flow."""
    rerouted_ns = _rerouted_ns(lines, fault, node)
    healed_ns = _time_of([line for line in lines if _same(line, fault)], FaultHealed)
    settled_ns = healed_ns if rerouted_ns is None else rerouted_ns
    return fault["t_commanded_ns"] if settled_ns is None else settled_ns


def _recovered(loss: Line, fault: Line) -> float:
    last_ns = loss["last_lost_ns"]
    return 0.0 if last_ns is None else max(0.0, (last_ns - fault["t_commanded_ns"]) / NS_PER_MS)


def _explained(suspicion: Line, faults: list[Line], healed_ns: Mapping[int, int]) -> bool:
    return any(
        suspicion["node"] in fault["nodes"]
        and fault["t_commanded_ns"] <= suspicion["t_ns"] <= _explains_until_ns(fault, healed_ns.get(fault["fault"]))
        for fault in faults
    )


def _explains_until_ns(fault: Line, healed_ns: int | None) -> float:
    if (fault["for_ns"] or 0) < kind_of(fault["what"]).harmless_ns:
        return float("-inf")
    return float("inf") if healed_ns is None else healed_ns + AFTERMATH_NS


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {"p50": ordered[(len(ordered) - 1) // 2], "max": ordered[-1]}
