"""Waves that travel: the demand of a region, forecast by that of another one which has the same wave earlier.

Follow-the-sun traffic and regional flash crowds reach one region after the other.  A site remembers the demand that all
regions reported in the past.  For each other region j and each lag of k intervals it holds the demand of its own region
against that of j, k intervals before, by discounted sums of what deviates from the mean:

    covariance(j, k) = Σ d^n own(t-n) × j(t-n-k)        gain = covariance / variance of j at that lag
    error(j, k)      = 1 - covariance² / (variance of own × variance of j)        share that j does not explain

The pair with the least error is the *leader*.  If its error is at most `placement.error` and its lag at least the
horizon (boot and warm-up of a node, and one interval), the forecast is what the leader says of the time at the horizon:

    expected(t + horizon) = mean + gain × (j(t + horizon - lag) - mean of j)

What of the expected demand is still to come is its *severity*, as that of a precursor of a burst: the nodes of the site
join it with that of their peers (`policies/peers.py`), so that predictive buffers grow before the wave.

A leader whose lag is shorter cannot say anything of that time.  Nothing is known before the first wave has been seen
in both regions; a lag counts when twice as much time has passed.  A forecast that is too high costs nodes, one that is
too low costs nothing: it is a floor, never a bound.
"""

from __future__ import annotations

import numpy as np

from testbed.records.events import Action, DemandExpected, Event, Floats, SitesHeard
from testbed.scenario.placement import PlacementSpec

TRAVEL = "travel"  # the policy's name in the history
DISCOUNT = 0.998
_LEAST_DEVIATION_RATIO = 0.1  # of the mean: a region whose demand is steadier than that has no wave
_MOST_LAGS = 600
_LEAST_SEEN = 20  # intervals; few values agree by chance


class TravelForecast:
    """`SitesHeard` in, `DemandExpected` out where it changes.

    Args:
        spec: interval, longest lag, and the error up to which a leader is followed.
        sites: all of them.
        home: row of the own one.
        horizon_ns: how far ahead a forecast has to be of use.
    """

    def __init__(self, spec: PlacementSpec, sites: tuple[str, ...], home: int, horizon_ns: int) -> None:
        self._sites, self._home = sites, home
        self._sync_ns, self._most_error = spec.sync_interval_ns, spec.error_ratio
        self._ahead = -(-horizon_ns // spec.sync_interval_ns) + 1
        self._lags = max(1, min(_MOST_LAGS, spec.lag_ns // spec.sync_interval_ns))
        count = len(sites)
        self._past = np.zeros((self._lags + 1, count))  # demand, the latest first
        self._weight, self._means = 0.0, np.zeros(count)
        self._own_variance, self._seen = 0.0, 0
        self._variance, self._covariance = np.zeros((2, self._lags + 1, count))
        self._said_bps = 0

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """See `Policy.handle`."""
        if not isinstance(event, SitesHeard):
            return []
        self._learn(event.demand_bps.astype(np.float64))
        found = self._expected()
        if found.expected_bps == self._said_bps:
            return []
        self._said_bps = found.expected_bps
        return [found]

    def next_deadline_ns(self) -> int | None:
        """See `Policy.next_deadline_ns`: it has none."""
        return None

    def _learn(self, demand: Floats) -> None:
        self._past = np.concatenate((demand[None], self._past[:-1]))
        self._seen += 1
        self._weight = DISCOUNT * self._weight + 1.0
        self._means += (demand - self._means) / self._weight
        own = demand[self._home] - self._means[self._home]
        others = self._past - self._means
        others[self._seen :] = 0.0  # nothing was seen so long ago
        self._own_variance = DISCOUNT * self._own_variance + own * own
        self._variance = DISCOUNT * self._variance + others * others
        self._covariance = DISCOUNT * self._covariance + own * others

    def _expected(self) -> DemandExpected:
        error = self._errors()
        lag, row = np.unravel_index(int(np.argmin(error)), error.shape)
        if self._seen < _LEAST_SEEN or error[lag, row] > self._most_error or self._is_steady():
            return DemandExpected(expected_bps=0)
        gain = self._covariance[lag, row] / self._variance[lag, row]
        ahead = self._past[lag - self._ahead : lag + 1, row].max() - self._means[row]  # from now to the horizon
        expected = max(0.0, self._means[self._home] + gain * ahead)
        growth = expected - self._past[0, self._home]
        return DemandExpected(
            expected_bps=round(expected),
            severity_ratio=float(max(0.0, growth) / expected) if expected else 0.0,
            site=self._sites[row],
            lag_ns=int(lag) * self._sync_ns,
            error_ratio=float(error[lag, row]),
        )

    def _errors(self) -> Floats:
        """Return the error of each lag and region; 1 for the own region and for lags too short, or too long so far."""
        scale = self._variance * self._own_variance
        explained = np.where(self._covariance > 0, self._covariance**2 / np.maximum(scale, 1e-9), 0.0)
        explained[: self._ahead] = explained[self._seen // 2 :] = 0.0
        explained[:, self._home] = 0.0
        errors: Floats = 1.0 - np.minimum(explained, 1.0)
        return errors

    def _is_steady(self) -> bool:
        deviation = (self._own_variance / self._weight) ** 0.5
        return bool(deviation < _LEAST_DEVIATION_RATIO * self._means[self._home])
