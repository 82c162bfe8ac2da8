"""The nearest scenario that would be VALID: the smallest change of a single parameter, for each parameter.

Nodes are removed together with their traffic; the sample interval is increased to the next round value; rates are
lowered.  If no single change suffices, the interval is increased first.  All of this is computed by the model; nothing
is measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from testbed import units
from testbed.capacity.costs import Costs
from testbed.capacity.load import Load
from testbed.capacity.model import forecast
from testbed.units import NS_PER_MS

_INTERVALS_NS = tuple(ms * NS_PER_MS for ms in (5, 10, 20, 50, 100, 200))
_TENTHS = range(9, 0, -1)


def nearest(load: Load, costs: Costs) -> list[str]:
    """Return changes, each of which would make a run VALID, in words; empty if there are none."""
    return [*_without_others(load, costs), *_alone(load, costs)] or [*_together(load, costs)]


def _valid(load: Load, costs: Costs) -> bool:
    return forecast(load, costs).verdict == "VALID"


def _without_others(load: Load, costs: Costs) -> Iterator[str]:
    """Yield the demand of other work on the machine, if that is the reason."""
    if _valid(load, replace(costs, other_ratio=0.0)):
        yield f"end other work on this machine (it uses {costs.other_ratio:.1f} of {costs.cores} cores)"


def _alone(load: Load, costs: Costs) -> Iterator[str]:
    nodes = most_nodes(load, costs)
    if nodes:
        yield _nodes_text(load, nodes)
    interval = next((ns for ns in _longer(load) if _valid(load.of_interval(ns), costs)), None)
    if interval:
        yield f"a sample interval of {units.duration_text(interval)}"
    tenths = next((k for k in _TENTHS if _valid(load.of_rate(k / 10), costs)), None)
    if tenths:
        yield f"rates multiplied by {tenths / 10:g}"


def _together(load: Load, costs: Costs) -> Iterator[str]:
    """Yield fewer nodes with longer intervals, the shortest that leaves any."""
    for interval_ns in _longer(load):
        nodes = most_nodes(load.of_interval(interval_ns), costs)
        if nodes:
            yield f"{_nodes_text(load, nodes)} with a sample interval of {units.duration_text(interval_ns)}"
            return


def most_nodes(load: Load, costs: Costs) -> int:
    """Return the largest smaller number of nodes, each with its present traffic, that would be VALID."""
    return _largest(load.nodes - 1, lambda nodes: _valid(load.of_nodes(nodes), costs))


def _largest(most: int, holds: Callable[[int], bool]) -> int:
    """Return the largest number up to `most` for which something holds that holds for all smaller ones; 0: for none."""
    least = 0
    while least < most:
        middle = (least + most + 1) // 2
        least, most = (middle, most) if holds(middle) else (least, middle - 1)
    return least


def _longer(load: Load) -> list[int]:
    return [ns for ns in _INTERVALS_NS if ns > load.interval_ns]


def _nodes_text(load: Load, nodes: int) -> str:
    each = units.rate_text(round(load.bits_per_s / load.nodes / 1e5) * 100_000)
    return f"at most {nodes} node{'s' if nodes > 1 else ''} of {each}"
