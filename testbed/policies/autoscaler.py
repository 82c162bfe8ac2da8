"""The autoscaler: how many nodes there are to be, decided once a period by the load of the whole cluster.

    LoadMeasured ─▶ rule ─ wish ─▶ bounds ─▶ ScaleDecided         a rule is a file, ``autoscaler_*.py``

A *rule* says how many nodes it wants and why.  What is made of that is the same for all:

* between `min` and `max`, and by at most `step` nodes at once;
* nodes are added at once, since a node that is missing loses packets;
* they are removed only to the highest number that was wanted within the last `stabilisation`, since a node that is
  there too long costs little and one that is ordered again takes its boot time; the number at the first decision counts
  as wanted;
* after a change nothing changes for `cooldown`.

Every period has its decision, whether it changes something or not: the record of a run shows why it did not.

Source: for the stabilisation window, Kubernetes, "Horizontal Pod Autoscaling", section on the stabilization window.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from testbed.records.events import Action, Event, LoadMeasured, ScaleDecided
from testbed.scenario.autoscaler import AutoscalerSpec
from testbed.scenario.tables import AUTOSCALER_POLICIES, AutoscalerTraits

AUTOSCALER = "autoscaler"  # the policy's name in the history
_NEVER = -(2**62)

Ahead = Callable[[int, int], int]
"""Returns the highest load, in bit/s over a period, that is planned between two times."""


class Wish(NamedTuple):
    """What a rule wants: how many nodes, the load it decided by, and why."""

    size: int
    expected_bps: int
    reason: str


class ScalingRule(Protocol):
    """Says how many nodes are needed; one rule, one way of scaling.

    Attributes:
        slack: how many nodes too many it tolerates.
        stabilises: whether nodes are removed only when fewer were enough for `stabilisation`.
    """

    slack: int
    stabilises: bool

    def wish(self, seen: LoadMeasured, now_ns: int) -> Wish:
        """Return how many nodes there are to be; asked once a period."""
        ...


class Capacity(NamedTuple):
    """What a node serves: at its limit, and as far as it is to be used."""

    full_bps: int
    used_bps: float

    def nodes_for(self, load_bps: float) -> int:
        """Return how many nodes a load needs, one at least."""
        return max(1, -int(-load_bps // self.used_bps))


@dataclass(frozen=True, kw_only=True)
class AutoscalerRow(AutoscalerTraits):
    """An autoscaler policy and how it is made.

    Attributes:
        rule: makes the rule from the scenario's `autoscaler`, the capacity of a node, and the planned load.
    """

    rule: Callable[[AutoscalerSpec, Capacity, Ahead], ScalingRule]


def make_autoscaler(spec: AutoscalerSpec, node_rate_bps: int, ahead: Ahead) -> Autoscaler:
    """Return the policy of `spec`; `ahead` is asked by rules that know the plan alone."""
    row = AUTOSCALER_POLICIES[spec.policy]
    assert isinstance(row, AutoscalerRow), f"{spec.policy} does not say how it is made"
    full_bps = spec.capacity_bps or node_rate_bps
    return Autoscaler(spec, row.rule(spec, Capacity(full_bps, full_bps * spec.utilisation_ratio), ahead))


class Autoscaler:
    """`LoadMeasured` in, `ScaleDecided` out."""

    def __init__(self, spec: AutoscalerSpec, rule: ScalingRule) -> None:
        self._spec, self._rule = spec, rule
        self._wanted: deque[tuple[int, int]] = deque()  # when, and how many, within the stabilisation window
        self._changed_ns = _NEVER

    def handle(self, event: Event, now_ns: int) -> list[Action]:
        """See `Policy.handle`."""
        if not isinstance(event, LoadMeasured):
            return []
        current = event.serving + event.joining
        wish = self._rule.wish(event, now_ns)
        size, bound = self._bounded(wish.size, current, now_ns)
        if size != current:
            self._changed_ns = now_ns
        decided = ScaleDecided(
            size=size,
            current=current,
            required=wish.size,
            load_bps=event.load_bps,
            expected_bps=wish.expected_bps,
            reason=", ".join(filter(None, (wish.reason, bound))),
        )
        return [decided]

    def next_deadline_ns(self) -> int | None:
        """See `Policy.next_deadline_ns`: it decides when the load has been measured, and at no other time."""
        return None

    def _bounded(self, required: int, current: int, now_ns: int) -> tuple[int, str]:
        """Return how many nodes there are to be, and which bound decided that; empty for none."""
        spec = self._spec
        wanted = min(max(required, spec.min_nodes), spec.max_nodes)
        bound = "" if wanted == required else "at max" if wanted < required else "at min"
        if not self._wanted:
            self._wanted.append((now_ns, current))  # what was wanted before, for all that is known
        stable = self._highest(wanted, now_ns) if self._rule.stabilises else wanted
        if wanted == current:
            return current, bound
        if wanted < current and stable >= current - self._rule.slack:
            return current, "stabilising" if stable > wanted else "within the slack"
        if now_ns - self._changed_ns < spec.cooldown_ns:
            return current, "cooldown"
        target = wanted if wanted > current else stable
        size = min(max(target, current - spec.step_nodes), current + spec.step_nodes)
        return size, bound if size == target else "step"

    def _highest(self, wanted: int, now_ns: int) -> int:
        """Return the most that was wanted within the stabilisation window."""
        self._wanted.append((now_ns, wanted))
        while self._wanted[0][0] <= now_ns - self._spec.stabilisation_ns and len(self._wanted) > 1:
            self._wanted.popleft()
        return max(size for _, size in self._wanted)
