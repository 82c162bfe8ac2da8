"""The roster: which nodes there are, outside the emulation, and how many there should be.

    reports of nodes ─┬─ first one ─▶ AddOrdered, NodeReady ─┐
                      ├─ "I am to end" ─▶ DrainOrdered ──────┼─▶ lifecycle ─▶ stages, to balancer and mesh
                      ├─ counters ─▶ NodeObserved ───────────┘
                      └─ counters ─▶ LoadMeasured ─▶ autoscaler ─▶ size, which an autoscaler of the platform asks for

It drives the same two policies as the orchestrator of a trial.  There the orchestrator starts and ends nodes.  Here the
platform does, and the roster finds out: a node is there when it reports, and is to be drained when it says that it was
asked to end.  It may end when the answer to its report says that it is absent: its flows have moved by then, and its
queue is empty.

It has no I/O and no clock.  A restarted roster knows all nodes again after one report interval.

A node that serves and does not report is a matter of the failure detector: it may come back.  After `GONE_NS` it counts
as taken away for good, so that the autoscaler does not count it.  The last node that serves is not drained: there is
nobody to take its flows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from testbed.policies.autoscaler import AUTOSCALER, make_autoscaler
from testbed.policies.base import Policy
from testbed.policies.lifecycle import LIFECYCLE, Lifecycle
from testbed.records.events import (
    Action,
    AddOrdered,
    DeadlineReached,
    DrainOrdered,
    Event,
    LoadMeasured,
    NodeFailed,
    NodeObserved,
    NodeReady,
    ScaleDecided,
    StageOfLife,
    StagesAnnounced,
)
from testbed.scenario.autoscaler import AutoscalerSpec
from testbed.units import NS_PER_S
from testbed.wire.node_report import Answer, Report

LOST_NS = 2 * NS_PER_S  # a node on its way out that reports no more has ended
GONE_NS = 30 * NS_PER_S
_PASSING = (StageOfLife.JOINING, StageOfLife.DRAINING, StageOfLife.LEAVING)

Note = Callable[[str, Event | Action], None]


@dataclass(slots=True)
class _Seen:
    """What is known of a node: its last report and when it came, since when no packet has reached it, what it got."""

    report: Report
    heard_ns: int
    silent_since_ns: int
    measured_bytes: int = 0


class Roster:
    """Reports in, answers out.

    Attributes:
        decided: the last decision of the autoscaler; None before the first.
    """

    def __init__(
        self,
        nodes: tuple[str, ...],
        spec: AutoscalerSpec,
        idle_ns: int,
        rate_bps: int,
        note: Note = lambda _p, _r: None,
    ) -> None:
        """Begin with nobody.

        Args:
            nodes: all there may be.
            spec: the cluster's `autoscaler`.
            idle_ns: a flow that was silent for so long has no node any more.
            rate_bps: at which a node serves.
            note: is given every input and output, with the name of the policy.
        """
        # What `boot` and `warm_up` say of a node is over when it reports; the autoscaler looks as far ahead.
        self._lifecycle = Lifecycle(nodes, nodes, spec.model_copy(update={"boot_ns": 0, "warm_up_ns": 0}), idle_ns)
        self._autoscaler = make_autoscaler(spec, rate_bps, lambda _from, _to: 0)
        self._spec, self._note = spec, note
        self._seen: dict[str, _Seen] = {}
        self._carried_bytes = 0  # of lives that have ended since the last measurement
        self._measured_ns: int | None = None
        self.decided: ScaleDecided | None = None

    @property
    def stages(self) -> StagesAnnounced:
        """Return the stage of every node."""
        return self._lifecycle.stages

    def at(self, *stages: StageOfLife) -> list[str]:
        """Return the nodes in one of these stages."""
        return self._lifecycle.at(*stages)

    @property
    def wanted(self) -> int:
        """Return how many nodes there should be; before the first decision, those that there are."""
        return len(self.at(StageOfLife.SERVING)) if self.decided is None else self.decided.size

    def hear(self, node: str, report: Report, now_ns: int) -> Answer:
        """Take in a report; return its answer."""
        self._keep(node, report, now_ns)
        stage = self._stage_of(node)
        if report.draining:
            self._drain(node, stage, now_ns)
        elif stage is StageOfLife.LEAVING:  # it has restarted meanwhile: what it had then is gone
            self._feed(NodeFailed(node=node), now_ns)
            self._add(node, now_ns)
        elif stage in (StageOfLife.ABSENT, StageOfLife.DRAINING):
            self._add(node, now_ns)
        return Answer(self._stage_of(node), len(self.at(StageOfLife.SERVING)))

    def wake(self, now_ns: int) -> None:
        """Do what is due by time."""
        due_ns = self._lifecycle.next_deadline_ns()
        if due_ns is not None and due_ns <= now_ns:
            self._feed(DeadlineReached(), now_ns)
        for node in self.at(*_PASSING):
            if now_ns - self._seen[node].heard_ns >= LOST_NS:
                self._feed(NodeFailed(node=node), now_ns)
        for node in self.at(StageOfLife.SERVING):
            if now_ns - self._seen[node].heard_ns >= GONE_NS and len(self.at(StageOfLife.SERVING)) > 1:
                self._feed(DrainOrdered(node=node), now_ns)
                self._feed(NodeFailed(node=node), now_ns)
        self._measured_ns = now_ns if self._measured_ns is None else self._measured_ns
        if self._spec.scales and now_ns - self._measured_ns >= self._spec.period_ns:
            self._measure(now_ns)

    def _keep(self, node: str, report: Report, now_ns: int) -> None:
        seen = self._seen.get(node)
        if seen is None or report.arrived_bytes < seen.report.arrived_bytes:  # a new life: its counters begin at 0
            self._carried_bytes += 0 if seen is None else seen.report.arrived_bytes - seen.measured_bytes
            counted = report.arrived_bytes if seen is None else 0
            self._seen[node] = _Seen(report, now_ns, now_ns, counted)
            return
        if report.arrived_pkts != seen.report.arrived_pkts:
            seen.silent_since_ns = now_ns
        seen.report, seen.heard_ns = report, now_ns

    def _add(self, node: str, now_ns: int) -> None:
        self._feed(AddOrdered(node=node), now_ns)
        if self._stage_of(node) is StageOfLife.JOINING:
            self._feed(NodeReady(node=node), now_ns)

    def _drain(self, node: str, stage: StageOfLife, now_ns: int) -> None:
        if stage is StageOfLife.SERVING and len(self.at(StageOfLife.SERVING)) > 1:
            self._feed(DrainOrdered(node=node), now_ns)
        elif stage in (StageOfLife.DRAINING, StageOfLife.LEAVING):
            seen = self._seen[node]
            silent_ns, backlog = now_ns - seen.silent_since_ns, seen.report.backlog_bytes
            self._feed(NodeObserved(node=node, silent_ns=silent_ns, backlog_bytes=backlog), now_ns)

    def _measure(self, now_ns: int) -> None:
        came, lasted_ns = self._carried_bytes, now_ns - (self._measured_ns or 0)
        for seen in self._seen.values():
            came, seen.measured_bytes = (
                came + seen.report.arrived_bytes - seen.measured_bytes,
                seen.report.arrived_bytes,
            )
        self._carried_bytes, self._measured_ns = 0, now_ns
        serving = self.at(StageOfLife.SERVING)
        alive = [node for node in serving if now_ns - self._seen[node].heard_ns < LOST_NS]
        load = LoadMeasured(load_bps=came * 8 * NS_PER_S // lasted_ns, serving=len(alive), joining=0)
        for decided in self._noted(AUTOSCALER, self._autoscaler, load, now_ns):
            if isinstance(decided, ScaleDecided):
                self.decided = decided

    def _stage_of(self, node: str) -> StageOfLife:
        stages = self._lifecycle.stages
        return StageOfLife(int(stages.stage[stages.nodes.index(node)]))

    def _feed(self, event: Event, now_ns: int) -> None:
        self._noted(LIFECYCLE, self._lifecycle, event, now_ns)

    def _noted(self, name: str, policy: Policy, event: Event, now_ns: int) -> list[Action]:
        self._note(name, event)
        actions = policy.handle(event, now_ns)
        for action in actions:
            self._note(name, action)
        return actions
