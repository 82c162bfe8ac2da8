"""How available one node is, and a cluster of them, under a stated model of failures.

**Model.**  Nodes fail independently, each after a time of mean MTTF, and are repaired independently in a mean of MTTR
(alternating renewal; only the means enter).  One node is down a share of the time

    u = MTTR / (MTTF + MTTR)

and is all of the service of a single node.  In a cluster of n nodes, k of which carry the load, a flow is not served

    while fewer than k nodes are up         Σ_{i<k} C(n, i) (1 - u)^i u^(n-i)
    while its node's failure is noticed     t / (MTTF + MTTR)        t: mean time to recover, measured
    if failover does not happen at all      (1 - c) u                c: share of the failures it works for (coverage)

A failure hits the flows of one node, 1/n of all, and the cluster has n times as many failures: n cancels.  The three
are added, which counts what they share twice, so the result errs upwards.  Fewer than k nodes serve some flows still;
they are counted as none.

**What N failures say of c.**  If it worked every time, c is at least 1 - 3/N with a confidence of 95 % (the rule of
three), and that is the c of the bound; a handful of failovers cannot show many nines, however fast they were.

**Defaults.**  MTTF 4.3 months, what Ford et al. report for storage nodes of Google; MTTR 15 minutes, which fewer than a
tenth of the outages they saw outlasted.  Both are means of other people's machines: put in your own.

Not modelled: failures that hit several nodes at once (power, a bad update), the switch, and the balancer, whose loss
stops no traffic.

Source: D. Ford et al., "Availability in globally distributed storage systems", OSDI 2010; W. G. Bouricius, W. C. Carter
and P. R. Schneider, "Reliability modeling techniques for self-repairing computer systems", 1969 (coverage); J. A.
Hanley and A. Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983 (rule of three).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from testbed.results.confidence import at_most_ratio
from testbed.units import NS_PER_S

_HOUR_NS = 3600 * NS_PER_S
_YEAR_S = 365.25 * 24 * 3600


@dataclass(frozen=True, slots=True)
class FailureModel:
    """How often a node fails and how long it is away then, as means."""

    mttf_ns: int = round(4.3 * 365.25 / 12 * 24 * _HOUR_NS)
    mttr_ns: int = _HOUR_NS // 4

    @property
    def down_ratio(self) -> float:
        """Return the share of the time a node is down."""
        return self.mttr_ns / (self.mttf_ns + self.mttr_ns)


@dataclass(frozen=True, slots=True)
class Failovers:
    """What was measured of failover.

    Attributes:
        count: failures.
        failed: those after which traffic was not moved.
        recover_ns: mean time until no more packets were lost, of the others.
    """

    count: int
    failed: int
    recover_ns: float


def cluster_down_ratio(model: FailureModel, nodes: int, needed: int, failovers: Failovers, uncovered: float) -> float:
    """Return the share of the time a flow through a cluster is not served.

    Args:
        model: of failures.
        nodes: in the cluster.
        needed: how many of them carry the load.
        failovers: as measured.
        uncovered: 1 - c, see the head of this file.

    Raises:
        ValueError: when `needed` is not between 1 and `nodes`.
    """
    if not 1 <= needed <= nodes:
        raise ValueError(f"a load needs between 1 and {nodes} nodes, not {needed}")
    noticing = failovers.recover_ns / (model.mttf_ns + model.mttr_ns)
    return _too_few_ratio(model.down_ratio, nodes, needed) + noticing + uncovered * model.down_ratio


def measured_down_ratio(model: FailureModel, nodes: int, needed: int, failovers: Failovers) -> float:
    """Return `cluster_down_ratio` with the share of failovers that failed, as it was."""
    return cluster_down_ratio(model, nodes, needed, failovers, failovers.failed / failovers.count)


def bound_down_ratio(model: FailureModel, nodes: int, needed: int, failovers: Failovers) -> float:
    """Return `cluster_down_ratio` with the largest share that so many failures leave possible at 95 %."""
    return cluster_down_ratio(model, nodes, needed, failovers, at_most_ratio(failovers.failed, failovers.count))


def nines(down_ratio: float) -> float:
    """Return the number of nines of an availability: 3 for 99.9 %."""
    return -math.log10(down_ratio)


def seconds_a_year(down_ratio: float) -> float:
    """Return the time not served in a year, s."""
    return down_ratio * _YEAR_S


def _too_few_ratio(down_ratio: float, nodes: int, needed: int) -> float:
    """Return the probability that fewer than `needed` nodes are up."""
    return sum(math.comb(nodes, up) * (1 - down_ratio) ** up * down_ratio ** (nodes - up) for up in range(needed))
