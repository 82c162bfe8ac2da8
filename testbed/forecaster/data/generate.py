"""Generated traffic as a node sees it, in bins of one millisecond.

The meaning is that of the scenario's sources (``spec/scenario.py``): a Poisson base; on-off sources that send at
`peak` while on and are silent while off; a precursor that for `lead` before each burst ramps linearly from 0 to
``strength x peak``.  A node of a cluster sees its share of a burst: the flows of the burst hash to N nodes, so the
share is binomial.  The flows of a burst are new to the node; they show at its first packets, which a ramp brings
forward. Packets are Poisson about the rate of the moment, as in ``testbed/traffic``; there every packet is planned,
here only the number in each millisecond is drawn, for thousands of nodes at once.

Controls that keep a model honest are part of the mix: series without any precursor, ramps that no burst follows,
series in which no flow of a burst is new, background flows that come and go, a base load that drifts.  A *crowd* is a
series of many sources with short bursts, most of them shorter than a sample: sums of hosts look like that.

Every series draws from its own stream, named by (seed, series), so adding one does not change another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from testbed import units

Range = tuple[float, float]
Floats32 = NDArray[np.float32]
Floats64 = NDArray[np.float64]

BIN_NS = units.NS_PER_MS
BITS_PER_BYTE = 8
MS_PER_S = 1000


@dataclass(frozen=True)
class TrafficProfile:
    """Ranges that each series draws its parameters from; (low, high), uniform or log-uniform where it says so.

    Attributes:
        rate_bps: service rate of the node (log-uniform).
        packet_bytes: packet size.
        base_ratio: base load over the rate.
        peak_ratio: a source's burst rate at this node over the rate, before hashing (log-uniform).
        on_ms, off_ms: mean duration of bursts and of the silence between (log-uniform).
        lead_ms, strength: of the precursor ramp.
        precursor_share: share of series whose bursts are announced.
        false_ramp_share: share of series that also have ramps no burst follows.
        stale_flows_share: share of series in which no flow is new.
        sources: number of on-off sources, inclusive.
        nodes: nodes of the cluster the flows hash to, inclusive.
        burst_flows: flows of a burst over the whole cluster, inclusive.
        base_flows: flows of the base load, all new at the start (log-uniform).
        load: mean load over the rate, base and bursts; the silences stretch to keep it.
        crowd_share: share of series that are crowds; `crowd_sources`, `crowd_peak_ratio`, `crowd_on_ms` and
            `crowd_off_ms` are to them what the same without the prefix are to the others.
    """

    rate_bps: Range = (1e7, 1e10)
    packet_bytes: Range = (200.0, 1500.0)
    base_ratio: Range = (0.05, 0.8)
    peak_ratio: Range = (0.8, 6.0)
    on_ms: Range = (30.0, 250.0)
    off_ms: Range = (200.0, 3000.0)
    lead_ms: Range = (20.0, 120.0)
    strength: Range = (0.0, 1.0)
    precursor_share: float = 0.75
    false_ramp_share: float = 0.25
    stale_flows_share: float = 0.4
    sources: tuple[int, int] = (1, 3)
    nodes: tuple[int, int] = (1, 8)
    burst_flows: tuple[int, int] = (4, 60)
    base_flows: Range = (1.0, 500.0)
    load: Range = (0.4, 0.9)
    crowd_share: float = 0.0
    crowd_sources: tuple[int, int] = (4, 16)
    crowd_peak_ratio: Range = (0.2, 5.0)
    crowd_on_ms: Range = (2.0, 60.0)
    crowd_off_ms: Range = (20.0, 1000.0)

    def crowded(self) -> TrafficProfile:
        """Return the profile of a crowd."""
        return replace(
            self,
            sources=self.crowd_sources,
            peak_ratio=self.crowd_peak_ratio,
            on_ms=self.crowd_on_ms,
            off_ms=self.crowd_off_ms,
        )


@dataclass(frozen=True)
class NodeTraffic:
    """Arrivals at S independent nodes.

    Attributes:
        rate_bps: service rates, int64 [S].
        arrived_bytes: arrivals a bin, int64 [S, bins].
        new_flows: expected first packets of flows a bin, float32 [S, bins].
        strength: of the precursors, float64 [S]; 0 where there are none.
        announced: whether a precursor is in progress, bool [S, bins]; None where nobody knows.
    """

    rate_bps: NDArray[np.int64]
    arrived_bytes: NDArray[np.int64]
    new_flows: Floats32
    strength: Floats64
    announced: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class _Source:
    peak_pkts: float  # a bin
    on_ms: float
    on_kind: str
    on_alpha: float
    off_ms: float
    lead_ms: float
    strength: float
    false_ramps: float  # share of ramps that no burst follows
    nodes: int
    flows: int


def generate(profile: TrafficProfile, series: int, bins: int, seed: tuple[int, ...], tempo: float = 1.0) -> NodeTraffic:
    """Return the traffic of `series` nodes over `bins` milliseconds.

    Args:
        profile: what the parameters are drawn from.
        series: number of nodes S.
        bins: length in milliseconds.
        seed: names the random streams; series i draws from (*seed, i).
        tempo: multiplies every duration (bursts, silences, leads).
    """
    traffic = NodeTraffic(
        np.zeros(series, dtype=np.int64),
        np.zeros((series, bins), dtype=np.int64),
        np.zeros((series, bins), dtype=np.float32),
        np.zeros(series),
        np.zeros((series, bins), dtype=np.bool_),
    )
    for index in range(series):
        _fill(traffic, index, profile, np.random.default_rng((*seed, index)), tempo)
    return traffic


def _fill(traffic: NodeTraffic, index: int, profile: TrafficProfile, rng: np.random.Generator, tempo: float) -> None:
    if profile.crowd_share and rng.random() < profile.crowd_share:
        profile = profile.crowded()
    rate_bps = _log_uniform(rng, profile.rate_bps)
    packet_bytes = round(rng.uniform(*profile.packet_bytes))
    line_pkts = rate_bps / (BITS_PER_BYTE * MS_PER_S * packet_bytes)
    base_ratio = rng.uniform(*profile.base_ratio)
    sources = _draw_sources(profile, rng, line_pkts, base_ratio, tempo)
    bins = traffic.arrived_bytes.shape[1]
    bursts, flows, ramps = np.zeros(bins), np.zeros(bins), np.zeros(bins, dtype=np.bool_)
    for source in sources:
        _paint_source(bursts, flows, ramps, source, rng)
    base = base_ratio * line_pkts * _drift(rng, bins)
    traffic.rate_bps[index] = round(rate_bps)
    traffic.arrived_bytes[index] = rng.poisson(base + bursts) * packet_bytes
    traffic.new_flows[index] = _new_flows(profile, rng, flows, base)
    traffic.strength[index] = sources[0].strength
    if traffic.announced is not None:
        traffic.announced[index] = ramps


def _new_flows(profile: TrafficProfile, rng: np.random.Generator, of_bursts: Floats64, base: Floats64) -> Floats64:
    """Return the new flows a bin: those of bursts unless they are stale, those of the base, and some that churn."""
    fresh = rng.random() >= profile.stale_flows_share
    churn = rng.uniform(0, 0.3) * (rng.random() < 0.5)
    return of_bursts * fresh + _first_packets(base, _log_uniform(rng, profile.base_flows)) + churn


def _first_packets(packets: Floats64, flows: float) -> Floats64:
    """Return in how many flows, of `flows` that share `packets` a bin at random, the first packet falls in each bin."""
    return np.diff(flows * -np.expm1(-np.cumsum(packets) / flows), prepend=0.0)


def _draw_sources(
    profile: TrafficProfile, rng: np.random.Generator, line_pkts: float, base_ratio: float, tempo: float
) -> list[_Source]:
    count = int(rng.integers(profile.sources[0], profile.sources[1] + 1))
    announced = rng.random() < profile.precursor_share
    strength = rng.uniform(*profile.strength) if announced else 0.0
    false_ramps = rng.uniform(0, 0.5) if rng.random() < profile.false_ramp_share else 0.0
    nodes = int(rng.integers(profile.nodes[0], profile.nodes[1] + 1))
    free_ratio = max(rng.uniform(*profile.load) - base_ratio, 0.05) / count
    sources = []
    for _ in range(count):
        peak_ratio = _log_uniform(rng, profile.peak_ratio)
        on_ms, lead_ms = _log_uniform(rng, profile.on_ms) * tempo, rng.uniform(*profile.lead_ms) * tempo
        busy_ms = (1 - false_ramps) * on_ms + strength * lead_ms / 2  # at the peak, or worth as much
        off_ms = max(_log_uniform(rng, profile.off_ms) * tempo, busy_ms * peak_ratio / free_ratio - on_ms)
        sources.append(
            _Source(
                peak_pkts=peak_ratio * line_pkts,
                on_ms=on_ms,
                on_kind=str(rng.choice(["pareto", "exponential", "constant"])),
                on_alpha=rng.uniform(1.3, 2.5),
                off_ms=off_ms,
                lead_ms=lead_ms,
                strength=strength,
                false_ramps=false_ramps,
                nodes=nodes,
                flows=int(rng.integers(profile.burst_flows[0], profile.burst_flows[1] + 1)),
            )
        )
    return sources


def _paint_source(
    bursts: Floats64, flows: Floats64, ramps: NDArray[np.bool_], source: _Source, rng: np.random.Generator
) -> None:
    """Add the bursts of one source to packets a bin and new flows a bin, and mark the ramps before them."""
    clock = 0.0
    while clock < len(bursts):
        silence = rng.exponential(source.off_ms)
        clock += silence
        duration = 0.0 if rng.random() < source.false_ramps else _on_duration(source, rng)
        lead = min(silence, source.lead_ms)
        _paint_burst(bursts, flows, source, (clock, duration, lead), rng)
        if source.strength > 0:
            ramps[max(round(clock) - round(lead), 0) : round(clock)] = True
        clock += duration


def _paint_burst(
    bursts: Floats64, flows: Floats64, source: _Source, when_ms: tuple[float, float, float], rng: np.random.Generator
) -> None:
    """Add one burst; `when_ms` is its start, its duration (0: a ramp that no burst follows) and its ramp's length."""
    own_flows = int(rng.binomial(source.flows, 1 / source.nodes))
    begin, lead = round(when_ms[0]), round(when_ms[2]) if source.strength > 0 else 0
    peak = source.peak_pkts * own_flows * source.nodes / source.flows
    ramp = (np.arange(lead) + 0.5) / max(lead, 1) * source.strength * peak
    begin -= lead
    shape = np.concatenate([ramp, np.full(round(when_ms[1]), peak)])[max(-begin, 0) : max(len(bursts) - begin, 0)]
    begin = max(begin, 0)
    if own_flows and len(shape):
        bursts[begin : begin + len(shape)] += shape
        flows[begin : begin + len(shape)] += _first_packets(shape, own_flows)


def _on_duration(source: _Source, rng: np.random.Generator) -> float:
    if source.on_kind == "pareto":
        scale = source.on_ms * (source.on_alpha - 1) / source.on_alpha
        return float(min(scale * (1 + rng.pareto(source.on_alpha)), 20 * source.on_ms))
    return float(rng.exponential(source.on_ms)) if source.on_kind == "exponential" else source.on_ms


def _drift(rng: np.random.Generator, bins: int) -> Floats64:
    """Return a slow factor around 1: still in half of the series, a wave of random depth in the others."""
    depth = rng.uniform(0, 0.4) * (rng.random() < 0.5)
    period_ms, phase = rng.uniform(500, 20_000), rng.uniform(0, 2 * np.pi)
    return np.asarray(1 + depth * np.sin(2 * np.pi * np.arange(bins) / period_ms + phase))


def _log_uniform(rng: np.random.Generator, bounds: Range) -> float:
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))
