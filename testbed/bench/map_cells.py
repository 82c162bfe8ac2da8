"""The cells of the map: families of traffic on equal and unequal nodes, and axes along which one of them is varied.

All clusters have three nodes and 120 Mbit/s in all; unequal ones have rates of 1:2:4.  Buffers hold 0.1 to 0.5 MB, 100
ms at 40 Mbit/s, since a byte that waits twice the target costs as much as a lost one.  Every family but ``overload``
stays below 120 Mbit/s most of the time, so that what is lost or late is lost by the spreading.

    many flows    bursts of 30 new flows                     few flows   bursts of 8 new flows
    recurring     bursts of the same 8 flows, pinned         elephants   4 pinned flows that burst, beside many mice
    heavy tail    one flow after the other from 6 sources, Pareto sizes (alpha 1.3)
    crowd         300 new flows for 0.6 s                    overload    bursts of 30 new flows at twice what is served
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Data = Mapping[str, Any]

_EQUAL: Data = {"family": "cluster", "nodes": 3, "clients": 2, "node_rate": "40Mbit"}
_UNEQUAL: Data = {"family": "cluster", "nodes": 3, "clients": 2, "node_rates": ["17Mbit", "34Mbit", "69Mbit"]}
_ONE_SLOW: Data = {"family": "cluster", "nodes": 3, "clients": 2, "node_rates": ["50Mbit", "50Mbit", "20Mbit"]}
_BUFFER: Data = {"min": "0.1MB", "max": "0.5MB"}
_LEAD: Data = {"lead": "60ms", "strength": 0.3}

_BASE: Data = {
    "name": "base", "from": "c1", "shape": "poisson", "rate": "24Mbit", "flows": 200, "packet": "1000B",
}  # fmt: skip


def _bursts(peak: str, burst_flows: int, flows: int, precursor: Data | None = _LEAD) -> Data:
    announced = {"precursor": precursor} if precursor else {}
    return {
        "name": "bursts", "from": "c2", "shape": "on-off", "packet": "2000B", "peak": peak,
        "on": {"pareto": {"mean": "100ms", "alpha": 2.2}}, "off": {"exponential": {"mean": "250ms"}},
        "burst_flows": burst_flows, "flows": flows, **announced,
    }  # fmt: skip


def _few(precursor: Data | None = _LEAD) -> tuple[Data, ...]:
    return _BASE, _bursts("90Mbit", 8, 800, precursor)


def _elephant(number: int) -> Data:
    return {
        "name": f"elephant{number}", "from": "c2", "shape": "on-off", "packet": "2000B", "peak": "30Mbit",
        "on": {"exponential": {"mean": "120ms"}}, "off": {"exponential": {"mean": "400ms"}},
        "burst_flows": 1, "flows": 1, "precursor": _LEAD,
    }  # fmt: skip


def _heavy(number: int) -> Data:
    return {
        "name": f"heavy{number}", "from": "c2", "shape": "on-off", "packet": "1500B", "peak": "24Mbit",
        "on": {"pareto": {"mean": "60ms", "alpha": 1.3}}, "off": {"exponential": {"mean": "60ms"}},
        "burst_flows": 1, "flows": 600,
    }  # fmt: skip


_MICE: Data = {
    "name": "mice", "from": "c1", "shape": "on-off", "packet": "1000B", "peak": "40Mbit",
    "on": {"constant": "40ms"}, "off": {"constant": "1ms"}, "burst_flows": 12, "flows": 6000,
}  # fmt: skip
_CROWD: Data = {
    "name": "crowd", "from": "c2", "shape": "on-off", "packet": "1500B", "peak": "85Mbit",
    "on": {"constant": "600ms"}, "off": {"constant": "700ms"}, "burst_flows": 300, "flows": 3000,
    "precursor": {"lead": "200ms", "strength": 0.3},
}  # fmt: skip

_FAMILIES: Mapping[str, tuple[Data, ...]] = {
    "many flows": (_BASE, _bursts("90Mbit", 30, 3000)),
    "few flows": _few(),
    "recurring": (_BASE, _bursts("90Mbit", 8, 8)),
    "elephants": (_MICE, *(_elephant(number) for number in range(1, 5))),
    "heavy tail": tuple(_heavy(number) for number in range(1, 7)),
    "crowd": (_BASE, _CROWD),
    "overload": (_BASE, _bursts("250Mbit", 30, 3000)),
}
_NODES = {"equal": _EQUAL, "unequal": _UNEQUAL}


def _scenario(topology: Data, traffic: tuple[Data, ...], **buffer: str) -> dict[str, Any]:
    return {
        "version": 1, "name": "map", "duration": "3s", "topology": topology, "buffer": {**_BUFFER, **buffer},
        "traffic": list(traffic),
    }  # fmt: skip


def cells() -> dict[str, dict[str, Any]]:
    """Return the scenario of each cell, without policies and seed, by name."""
    return {
        **{
            f"{family}, {nodes}": _scenario(topology, traffic)
            for family, traffic in _FAMILIES.items()
            for nodes, topology in _NODES.items()
        },
        "elephants, one slow": _scenario(_ONE_SLOW, _FAMILIES["elephants"]),
        "few flows, unequal, no precursor": _scenario(_UNEQUAL, _few(None)),
        "few flows, unequal, precursor 0.6 for 200 ms": _scenario(
            _UNEQUAL, _few({"lead": "200ms", "strength": 0.6})
        ),
        "elephants, unequal, reports every 100 ms": _scenario(
            _UNEQUAL, _FAMILIES["elephants"], sample_interval="100ms"
        ),
        "elephants, unequal, actuation 100 ms": _scenario(
            _UNEQUAL, _FAMILIES["elephants"], actuation_delay="100ms"
        ),
    }  # fmt: skip
