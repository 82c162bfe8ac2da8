"""The shapes of traffic: from a source to the instants of its packets.

Every shape yields packets of one size (`packet_bytes`) within [0, duration), times in whole nanoseconds, ascending.

* **poisson**: gaps are exponential with mean packet bits / rate.
* **constant**: packet k leaves at phase + k x packet bits / rate, rounded down, so rounding never adds up.  The phase
  is random within one gap: sources of equal rate shall not march in step.
* **on-off**: an off period comes first, then on and off periods alternate.  Within an on period packets are a Poisson
  process at `peak` (not paced: paced bursts would make the queue smoother than any aggregate of flows is).  Burst b
  uses the `burst_flows` flows from number b x burst_flows on, modulo `flows`; each packet takes one of them at random.
* **precursor**: for `lead` before a burst the rate rises linearly from 0 to strength x peak, on the flows of the coming
  burst.  When the off period is shorter than `lead`, the ramp takes the whole of it and still ends at strength x peak.

On-off packets are drawn in *operational time* (Cinlar 1975; Lewis and Shedler 1979 call it inversion): one Poisson
process at `peak` runs on a clock that advances with the rate.  An on period of length T advances it by T; a ramp of
length L by strength x L / 2, and the instant x into it maps back to L x sqrt(x / (strength x L / 2)).  So there is one
source of packets and no thinning, and all of it is array arithmetic.

Periods, packets and flow choices come from streams of their own: another packet size leaves the bursts where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np

from testbed.errors import InputError
from testbed.records.events import Floats, Ints
from testbed.scenario.sources import ConstantSpec, DurationDist, OnOffSpec, PoissonSpec
from testbed.traffic.shape import Packets, Shape, check_count, gap_ns, open_stream, spread
from testbed.traffic.streams import Stream
from testbed.units import NS_PER_S

MAX_BURSTS = 5_000_000
_CHUNK = 4096  # periods drawn at once
_LONGEST_NS = 2**49  # six days, and a chunk of on and off periods still sums up below 2**63


def poisson(spec: PoissonSpec, duration_ns: int, seed: int) -> Packets:
    """Return Poisson arrivals at the source's rate."""
    mean_ns = gap_ns(spec, spec.rate_bps)
    check_count(spec, duration_ns / mean_ns)
    return spread(spec, _poisson_times(duration_ns, mean_ns, open_stream(spec, seed, "packets")), seed)


def constant(spec: ConstantSpec, duration_ns: int, seed: int) -> Packets:
    """Return equally spaced packets at the source's rate, their phase random."""
    check_count(spec, duration_ns / gap_ns(spec, spec.rate_bps))
    bits_ns = spec.packet_bytes * 8 * NS_PER_S
    common = gcd(bits_ns, spec.rate_bps)
    whole_ns, rest = divmod(bits_ns, spec.rate_bps)
    k = np.arange(duration_ns * spec.rate_bps // bits_ns + 1, dtype=np.int64)
    # k x rest / rate in lowest terms: 5e7 packets x 1e11 bit/s still fit into 63 bits
    t_ns = k * whole_ns + k * (rest // common) // (spec.rate_bps // common)
    phase_ns = int(open_stream(spec, seed, "packets").uniform(1)[0] * whole_ns)
    t_ns += phase_ns
    return spread(spec, t_ns[t_ns < duration_ns], seed)


def _poisson_times(span_ns: int, mean_ns: float, stream: Stream) -> Ints:
    """Return the arrivals within [0, span_ns) of a Poisson process, gaps rounded to whole nanoseconds."""
    parts: list[Ints] = []
    last_ns = 0
    while last_ns < span_ns:
        expected = (span_ns - last_ns) / mean_ns
        gaps = np.rint(stream.exponential(int(expected + 5 * expected**0.5) + 16) * mean_ns).astype(np.int64)
        parts.append(np.cumsum(gaps) + last_ns)
        last_ns = int(parts[-1][-1])
    times = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    return times[: np.searchsorted(times, span_ns)]


# --------------------------------------------------------------------------------------------------------- on-off


@dataclass(frozen=True, eq=False)
class Bursts:
    """The bursts of an on-off source that begin, or announce themselves, before the end of the run.

    Attributes:
        ramp_ns: int64 [b], where the ramp before the burst begins; equals `start_ns` without a precursor.
        start_ns, end_ns: int64 [b], the on period.
    """

    ramp_ns: Ints
    start_ns: Ints
    end_ns: Ints


def on_off(spec: OnOffSpec, duration_ns: int, seed: int) -> Packets:
    """Return the packets of bursts and of the ramps that announce them.

    Raises:
        InputError: too many bursts or packets.
    """
    bursts = bursts_of(spec, duration_ns, seed)
    advance = _advance(spec, bursts, duration_ns)
    edges = np.cumsum(advance)
    span_ns = int(edges[-1])
    mean_ns = gap_ns(spec, spec.peak_bps)
    check_count(spec, span_ns / mean_ns)
    operational_ns = _poisson_times(span_ns, mean_ns, open_stream(spec, seed, "packets"))
    segment = np.searchsorted(edges, operational_ns, side="right")
    into_ns = operational_ns - (edges - advance)[segment]
    t_ns = _to_clock(bursts, segment, into_ns, advance)
    flow = segment // 2 * spec.burst_flows + open_stream(spec, seed, "flows").below(len(t_ns), spec.burst_flows)
    kept = int(np.searchsorted(t_ns, duration_ns))
    return Packets(t_ns[:kept], (flow % spec.flows)[:kept])


def bursts_of(spec: OnOffSpec, duration_ns: int, seed: int) -> Bursts:
    """Return the bursts of the source: the ground truth for whoever judges predictions of them."""
    off_ns, on_ns = _periods(spec, duration_ns, seed)
    end_ns = np.cumsum(off_ns + on_ns)
    start_ns = end_ns - on_ns
    lead_ns = spec.precursor.lead_ns if spec.precursor else 0
    ramp_ns = start_ns - np.minimum(off_ns, lead_ns)
    kept = max(1, int(np.searchsorted(ramp_ns, duration_ns)))
    return Bursts(ramp_ns[:kept], start_ns[:kept], end_ns[:kept])


def _periods(spec: OnOffSpec, duration_ns: int, seed: int) -> tuple[Ints, Ints]:
    """Return off and on periods, alternating from an off period, until they fill the run."""
    off_stream, on_stream = open_stream(spec, seed, "off"), open_stream(spec, seed, "on")
    off_parts: list[Ints] = []
    on_parts: list[Ints] = []
    filled_ns, count = 0, 0
    while filled_ns < duration_ns:
        off_parts.append(_durations(spec.off, _CHUNK, off_stream))
        on_parts.append(_durations(spec.on, _CHUNK, on_stream))
        filled_ns += int(np.sum(off_parts[-1]) + np.sum(on_parts[-1]))
        count += _CHUNK
        if count > MAX_BURSTS:
            raise InputError(
                f"planning the traffic of {spec.name}",
                f"it has more than {MAX_BURSTS:,} bursts",
                "lengthen on or off, or shorten the run",
            )
    return np.concatenate(off_parts), np.concatenate(on_parts)


def _durations(dist: DurationDist, n: int, stream: Stream) -> Ints:
    """Return `n` durations of at least 1 ns, cut at `_LONGEST_NS` (a heavy tail outlasts any run)."""
    if dist.constant_ns is not None:
        return np.full(n, min(dist.constant_ns, _LONGEST_NS), np.int64)
    drawn: Floats
    if dist.exponential is not None:
        drawn = stream.exponential(n) * dist.exponential.mean_ns
    else:
        assert dist.pareto is not None, "the specification has exactly one of the three"
        alpha = dist.pareto.alpha
        drawn = stream.pareto(n, alpha) * (dist.pareto.mean_ns * (alpha - 1.0) / alpha)
    return np.rint(np.clip(drawn, 1.0, float(_LONGEST_NS))).astype(np.int64)


def _advance(spec: OnOffSpec, bursts: Bursts, duration_ns: int) -> Ints:
    """Return how far operational time goes in ramp 0, burst 0, ramp 1, burst 1 …: int64 [2b]."""
    strength = spec.precursor.strength_ratio if spec.precursor else 0.0
    ramps = np.floor((bursts.start_ns - bursts.ramp_ns) * (strength / 2.0)).astype(np.int64)
    ons = np.clip(np.minimum(bursts.end_ns, duration_ns) - bursts.start_ns, 0, None)
    return np.stack([ramps, ons], axis=1).reshape(-1)


def _to_clock(bursts: Bursts, segment: Ints, into_ns: Ints, advance: Ints) -> Ints:
    """Return the clock times of packets that lie `into_ns` of operational time into their segments."""
    burst = segment // 2
    in_burst_ns = bursts.start_ns[burst] + into_ns
    lead_ns = (bursts.start_ns - bursts.ramp_ns)[burst]
    part = np.sqrt(into_ns / np.maximum(advance[segment], 1))
    in_ramp_ns = bursts.ramp_ns[burst] + np.floor(lead_ns * np.minimum(part, 1.0)).astype(np.int64)
    return np.where(segment % 2 == 0, in_ramp_ns, in_burst_ns)


def _expected_on_off(spec: OnOffSpec, duration_ns: int, seed: int) -> float:
    span_ns = int(np.sum(_advance(spec, bursts_of(spec, duration_ns, seed), duration_ns)))
    return span_ns / gap_ns(spec, spec.peak_bps)


ROWS = (
    Shape(name="poisson", doc="Poisson arrivals at a mean rate", packets=poisson),
    Shape(name="constant", doc="equally spaced packets", packets=constant, sends_evenly=True),
    Shape(
        name="on-off",
        doc="bursts: packets are sent at rate `peak` in on periods; nothing is sent in off periods",
        source="Cinlar, Introduction to Stochastic Processes, 1975 (operational time)",
        packets=on_off,
        expected=_expected_on_off,
    ),
)
