"""What a shape of traffic is: from a source of a scenario to the instants of its packets.

    Shape(name="saw", doc="…", options=Options, packets=saw)       saw(source, duration_ns, seed) -> Packets

The shapes of `shapes` are such rows, and so are those of a plug-in, whose answers are looked at before a plan is made
of them.  Everything random comes from `open_stream`, so that a seed means the same packets everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.errors import InputError
from testbed.records.events import Ints
from testbed.scenario.answers import hold, made
from testbed.scenario.sources import SourceSpec
from testbed.scenario.tables import TRAFFIC_SHAPES, ShapeTraits
from testbed.traffic.streams import Stream
from testbed.units import NS_PER_S

MAX_PACKETS = 50_000_000


@dataclass(frozen=True, eq=False)
class Packets:
    """The packets of one source, ascending in time.

    Attributes:
        t_ns: int64 [n], instants since the start of the run.
        flow: int64 [n], which of the source's own flows, from 0.
        size_bytes: int64 [n], length of each frame; None: all have `packet_bytes`.
    """

    t_ns: Ints
    flow: Ints
    size_bytes: Ints | None = None


def gap_ns(spec: SourceSpec, rate_bps: int) -> float:
    """Return the mean distance of the packets of a source that sends at this rate."""
    return spec.packet_bytes * 8 * NS_PER_S / rate_bps


def _at_its_rate(spec: Any, duration_ns: int, _seed: int) -> float:
    return duration_ns / gap_ns(spec, spec.rate_bps)


@dataclass(frozen=True, kw_only=True)
class Shape(ShapeTraits):
    """A shape of traffic and how its packets are made.

    Attributes:
        packets: returns the packets of a source; takes it as the scenario has it (`rate_bps`, `packet_bytes`, `flows`
            and, of a plug-in's shape, `options`), the length of the run in nanoseconds and the seed.
        expected: returns how many packets that will be, about; takes the same.  Default: what the rate makes.
        sends_evenly: whether two expected packets are enough to be sure of one.
    """

    packets: Callable[[Any, int, int], Packets]
    expected: Callable[[Any, int, int], float] = _at_its_rate
    sends_evenly: bool = False


def open_stream(spec: SourceSpec, seed: int, what: str) -> Stream:
    """Return the stream that decides `what` of a source."""
    return Stream(seed, f"traffic/{spec.name}/{what}")


def check_count(spec: SourceSpec, count: float) -> None:
    """Refuse more packets than a plan may hold, before memory is allocated for them."""
    if count > MAX_PACKETS:
        raise InputError(
            f"planning the traffic of {spec.name}",
            f"it would send about {count:,.0f} packets; the maximum of a plan is {MAX_PACKETS:,}",
            "lower its rate, shorten the run or use larger packets",
        )


def spread(spec: SourceSpec, t_ns: Ints, seed: int) -> Packets:
    """Give each packet one of the source's flows at random."""
    return Packets(t_ns, open_stream(spec, seed, "flows").below(len(t_ns), spec.flows))


def shape_of(spec: Any) -> Shape:
    """Return the row of a source's shape."""
    row = TRAFFIC_SHAPES[spec.shape]
    assert isinstance(row, Shape), f"{row.name} does not say how its packets are made"
    return row


def expected(spec: SourceSpec, duration_ns: int, seed: int) -> float:
    """Return how many packets a source of a shape is expected to send, given its bursts.

    Raises:
        InputError: too many bursts.
        PolicyError: a plug-in's answer is no number.
    """
    row = shape_of(spec)
    count = made(row.expected, spec, duration_ns, seed)
    if not isinstance(count, (int, float, np.number)) or not 0 <= count < float("inf"):
        hold(row.expected, f"{count!r}, not a number of packets")
    return float(count)


def packets_of(spec: SourceSpec, duration_ns: int, seed: int) -> Packets:
    """Return the packets of a source of a shape.

    Raises:
        InputError: too many packets or bursts.
        PolicyError: a plug-in's packets cannot be sent.
    """
    row = shape_of(spec)
    if TRAFFIC_SHAPES.is_ours(row.name):
        return row.packets(spec, duration_ns, seed)
    check_count(spec, expected(spec, duration_ns, seed))
    packets = made(row.packets, spec, duration_ns, seed)
    hold(row.packets, _defect(packets, spec, duration_ns))
    return Packets(np.asarray(packets.t_ns, np.int64), np.asarray(packets.flow, np.int64))


def _defect(packets: Any, spec: SourceSpec, duration_ns: int) -> str:
    """Return what is wrong with what a plug-in made, empty when nothing is."""
    if not isinstance(packets, Packets):
        return f"a {type(packets).__name__}, not Packets"
    t_ns, flow = np.asarray(packets.t_ns), np.asarray(packets.flow)
    for name, array in (("t_ns", t_ns), ("flow", flow)):
        if array.dtype.kind not in "iu" or array.ndim != 1:
            return f"{name} of type {array.dtype} and shape {list(array.shape)}, not a list of integers"
    if len(t_ns) != len(flow):
        return f"{len(t_ns):,} times, but {len(flow):,} flows"
    if len(t_ns) > MAX_PACKETS:
        return f"{len(t_ns):,} packets; the maximum of a plan is {MAX_PACKETS:,}"
    return _beyond(t_ns, flow, spec, duration_ns) if len(t_ns) else ""


def _beyond(t_ns: Ints, flow: Ints, spec: SourceSpec, duration_ns: int) -> str:
    if np.any(np.diff(t_ns.astype(np.int64)) < 0):
        return "times that decrease"
    if t_ns[0] < 0 or t_ns[-1] >= duration_ns:
        return f"times from {int(t_ns[0])} to {int(t_ns[-1])} ns, not within the run of {duration_ns} ns"
    if flow.min() < 0 or flow.max() >= spec.flows:
        return f"flow {int(flow.max() if flow.max() >= spec.flows else flow.min())} of a source with {spec.flows}"
    return ""
