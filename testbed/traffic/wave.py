"""`wave`: demand that swells and ebbs, in flows that come and go.

The rate at time t, with d the time to the nearest top of a wave (`peak_at` + k x `period`) and w its `width`, is

    low + (peak - low) x (1 - (2 d / w)^2)^2     for |d| <= w / 2,    low elsewhere

It looks like the wave of a cosine, and needs no function that rounds differently on different processors.  Packets are
a Poisson process in operational time (see `shapes`): the integral of the rate is tabulated every `_GRID_NS` and
interpolated linearly.

At any time `concurrent` consecutive flows send, and this window advances by one flow each `flow_life` / `concurrent`,
so that each flow sends for `flow_life` and is then silent until all others had their turn.
"""

from __future__ import annotations

import numpy as np

from testbed.records.events import Floats
from testbed.scenario.sources import WaveSpec
from testbed.traffic.shape import Packets, Shape, check_count, open_stream
from testbed.units import NS_PER_MS, NS_PER_S

_GRID_NS = NS_PER_MS
_MOST_POINTS = 2_000_000
_SPARE_DEVIATIONS = 6.0


def wave(spec: WaveSpec, duration_ns: int, seed: int) -> Packets:
    """Return the packets of a source whose rate swells and ebbs.

    Raises:
        InputError: too many packets.
    """
    t_ns, sent = _expected_by(spec, duration_ns)
    mean = float(sent[-1])
    check_count(spec, mean)
    drawn = open_stream(spec, seed, "packets").exponential(int(mean + _SPARE_DEVIATIONS * mean**0.5) + 16)
    places = np.cumsum(drawn)
    at_ns = np.interp(places[places < mean], sent, t_ns).astype(np.int64)
    first = at_ns * spec.concurrent // spec.flow_life_ns
    chosen = open_stream(spec, seed, "flows").below(len(at_ns), spec.concurrent)
    return Packets(np.minimum(at_ns, duration_ns - 1), (first + chosen) % spec.flows)


def _expected_by(spec: WaveSpec, duration_ns: int) -> tuple[Floats, Floats]:
    """Return instants, and how many packets are expected until each of them."""
    step_ns = max(_GRID_NS, duration_ns // _MOST_POINTS)
    t_ns = np.append(np.arange(0, duration_ns, step_ns, dtype=np.float64), float(duration_ns))
    between = rate_bps(spec, (t_ns[1:] + t_ns[:-1]) / 2)
    bits = between * np.diff(t_ns) / NS_PER_S
    return t_ns, np.concatenate((np.zeros(1), np.cumsum(bits))) / (8 * spec.packet_bytes)


def rate_bps(spec: WaveSpec, t_ns: Floats) -> Floats:
    """Return the rate at each instant."""
    width_ns = spec.width_ns or spec.period_ns
    away_ns = (t_ns - spec.peak_at_ns + spec.period_ns / 2) % spec.period_ns - spec.period_ns / 2
    part = 2 * away_ns / width_ns
    level = np.maximum(0.0, 1 - part * part)
    swell = level * level
    rate: Floats = spec.low_bps + (spec.peak_bps - spec.low_bps) * swell
    return rate


def _expected(spec: WaveSpec, duration_ns: int, seed: int) -> float:
    return float(_expected_by(spec, duration_ns)[1][-1])


ROWS = (
    Shape(
        name="wave",
        doc="demand that swells and ebbs periodically, in flows that come and go",
        source="Lewis, Shedler, 1979 (inversion of the integrated rate)",
        packets=wave,
        expected=_expected,
    ),
)
