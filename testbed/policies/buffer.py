"""Sizing a buffer: the interface of the sizing rules, and what all of them share.

A rule uses one sample (and, if it predicts, a forecast) and says which size each node should have: its *wish*.  All
further steps are the same for all rules, so that a comparison of two policies compares only their rules:

    wish ── floor and cap ── shrink hold ── never below the backlog ── pool ── actuation delay ──▶ limit

* Floor and cap are `min` and `max` of the scenario; `delay_target` lowers the cap of slow nodes (`sojourn`).
* The shrink hold (`ShrinkHold`) lets a size grow at once, and shrink only after a smaller size was sufficient for
  `shrink_hold`.
* The pool (`pool.Pool`) may grant less than the wish; the node requests the rest with the next sample.
* The actuation delay (`actuation.Actuation`) is the time that a real expansion takes.  A shrink takes effect at once.
  It never goes below the present backlog, except where the rule of the pool demands memory back.

A rule that *sheds* drops packets to shorten the queue.  So its wish becomes the limit at once, without shrink hold, and
may be below the backlog.  Packets that were already admitted stay in the queue; no further packet is admitted until the
queue has drained to the limit.

The rules, one file each: `buffer_static` (static-min, static-mean, static-max), `buffer_bdp`,
`buffer_dynamic_threshold` (with abm), `buffer_codel`, `buffer_pie`, `buffer_reactive`, `buffer_predictive`,
`buffer_credence`.  A policy is a rule and, if it predicts, a forecaster.  `BufferPolicy` is its row in the table
`scenario.tables.BUFFER_POLICIES`; the file that implements it declares the row in `ROWS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from testbed.policies.arithmetic import Arithmetic, Arrays, Sample, Values, arithmetic_of
from testbed.policies.forecast import MakeForecaster
from testbed.policies.forecast_oracle import ArrivalCells
from testbed.records.events import Ints
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.tables import BUFFER_POLICIES, BufferTraits

GRAINS = 64  # sizes that follow a quantity change in steps of 1 / GRAINS of the range, so that noise causes no resize
_ROUNDING_GRAINS = 1e-9  # tolerance for floats slightly above a whole number


class SizingRule(Protocol):
    """Computes the sizes that the buffers of n nodes should have.

    Attributes:
        asks_always: whether other nodes can make a grant too large, so that the pool must be asked with every sample
            and not only when the wish changes.
    """

    asks_always: bool

    def initial_bytes(self) -> Ints:
        """Return the sizes before the first sample, shape [n]."""
        ...

    def wish_bytes(self, sample: Sample, predicted_bytes: Values, severity_ratio: Values) -> Values:
        """Return the sizes the rule wants now, within floor and cap.

        Args:
            sample: the measurements of the nodes.
            predicted_bytes: forecast peak backlog; without a forecast, the present backlog.
            severity_ratio: severity of the precursors, 0 to 1.
        """
        ...


MakeRule = Callable[[BufferSpec, int, int, Arithmetic], SizingRule]
MakeRatedRule = Callable[[BufferSpec, Values, int, Arithmetic], SizingRule]


@dataclass(frozen=True, slots=True)
class Foresight:
    """What is available to create a forecaster.

    Attributes:
        spec: the scenario's `buffer`.
        members: nodes in the cluster.
        arrivals: returns the planned arrivals in bins of the given length in ns; None if the plan is not known.
        model: path of the model file; None for the shipped one.
    """

    spec: BufferSpec
    members: int = 1
    arrivals: Callable[[int], ArrivalCells] | None = None
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class BufferPolicy(BufferTraits):
    """A buffer policy and how it is created.

    Attributes:
        rule: makes the sizing rule from `buffer`, the number of nodes, that of all nodes that share the pool, and the
            arithmetic it computes with.
        rated_rule: makes it in place of `rule` where it depends on the rates of the nodes, which it is given in place
        of
            their number.
        forecaster: makes what makes a fresh forecaster for nodes and their rates [n]; None for a policy that does not
            predict.  The model and the plan are read once, when it is called.
    """

    rule: MakeRule | None = None
    rated_rule: MakeRatedRule | None = None
    forecaster: Callable[[Foresight], MakeForecaster] | None = None

    def defect(self) -> str:
        """Return why a plug-in cannot declare this row; empty if it can."""
        return "" if self.rule or self.rated_rule else "a buffer policy has a sizing rule: rule=…"


def buffer_policy(name: str) -> BufferPolicy:
    """Return the row of a buffer policy (KeyError if there is none with this name)."""
    row = BUFFER_POLICIES[name]
    assert isinstance(row, BufferPolicy), f"{name} does not say how it is made"
    return row


class Range:
    """Floor and cap of a size, and the steps between."""

    def __init__(self, spec: BufferSpec, ops: Arithmetic = Arrays) -> None:
        self._ops = ops
        self.floor_bytes, self.cap_bytes = spec.min_bytes, spec.max_bytes
        self._grain = max(1, (spec.max_bytes - spec.min_bytes) // GRAINS)
        self._most_grains = -(-(spec.max_bytes - spec.min_bytes) // self._grain)

    def clip(self, size_bytes: Values) -> Values:
        """Return the sizes limited to floor and cap."""
        return self._ops.minimum(self._ops.maximum(size_bytes, self.floor_bytes), self.cap_bytes)

    def stepped(self, above_bytes: Values) -> Values:
        """Return the floor plus the whole steps that hold `above_bytes` more, limited to floor and cap."""
        ops = self._ops
        grains = ops.ceil(above_bytes / self._grain - _ROUNDING_GRAINS)
        grains = ops.minimum(ops.maximum(grains, 0), self._most_grains)
        return ops.minimum(ops.whole(grains) * self._grain + self.floor_bytes, self.cap_bytes)


class ShrinkHold:
    """Lets sizes grow at once, and shrink only to the highest wish of the last `hold_ns`.

    A sliding maximum would have to store the whole window.  Here a window opens when the wish falls below the size and
    remembers the highest wish; after `hold_ns` the size falls to it.  So a size is kept for one to two holds after it
    was last needed, at a cost of O(1).
    """

    def __init__(self, start_bytes: Values, hold_ns: int) -> None:
        self._ops = arithmetic_of(start_bytes)
        self._size = start_bytes
        self._hold_ns = hold_ns
        self._since_ns = self._highest = start_bytes * 0

    def held(self, wish_bytes: Values, now_ns: int) -> Values:
        """Return the sizes at `now_ns` for these wishes."""
        ops = self._ops
        highest = ops.maximum(self._highest, wish_bytes)
        renew = (highest >= self._size) | (now_ns - self._since_ns >= self._hold_ns)
        self._size = ops.where(renew, highest, self._size)
        self._since_ns = ops.where(renew, now_ns, self._since_ns)
        self._highest = ops.where(renew, 0, highest)
        return self._size
