"""The agents in virtual time: in every sample interval they read the data plane and apply the actions of the brains.

    tick ─ read the plane ─ brain ─┬ RequestLimit ─ pool ─ LimitGranted ─ brain
                                   ├ SetBufferLimit ─ decision_ns later ─▶ queues
                                   └ NotifyBalancer ─ decision_ns + notification_ns later ─▶ balancer

All actions of one event are applied before the brain receives the answers to them: an immediate grant cannot overtake
an action that was decided together with the request.

A stopped agent does nothing; when it is resumed, it performs what is due, once.  A killed agent restarts with a new
brain; the entries that the old one made in the event queue become invalid.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from testbed.policies.cohorts import RESTARTED
from testbed.policies.pool import Pool
from testbed.policies.rows import NodeRows
from testbed.records.events import (
    DeadlineReached,
    Event,
    Floats,
    Ints,
    LimitGranted,
    NameSiblings,
    NodeJoined,
    NodeLeft,
    NodesNotified,
    NotifyBalancer,
    PeersAssessed,
    RequestLimit,
    SetBufferLimit,
    recast,
)
from testbed.records.processes import SiblingSet
from testbed.simulation.agenda import Agenda, Do
from testbed.simulation.cluster_plane import ClusterPlane
from testbed.simulation.cohorts import Cohort
from testbed.simulation.deflection import NOBODY
from testbed.simulation.history import History
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.peers import Peers
from testbed.simulation.sample_rows import SampleRows

POOL = "pool"  # the policy's name in the history


class Agents:
    """Drives the brains of all cohorts.

    Args:
        cohorts: whose brains decide.
        pool: the memory they share.
        plane: what they read and control.
        interval_ns: of their ticks.
        samples: takes their rows.
        notify: hands a notification to the balancer, when it has got there.
        slots_held: returns how many slots each node holds, shape [n].
        peers: what the nodes hear of each other; None for a node alone.
    """

    def __init__(
        self,
        cohorts: Sequence[Cohort],
        pool: Pool,
        plane: ClusterPlane,
        interval_ns: int,
        agenda: Agenda,
        history: History,
        samples: SampleRows,
        model: NetworkModel,
        *,
        notify: Callable[[NodesNotified], None],
        slots_held: Callable[[], Ints],
        peers: Peers | None = None,
    ) -> None:
        self._pool, self._plane, self._interval_ns = pool, plane, interval_ns
        self._agenda, self._history, self._samples, self._model = agenda, history, samples, model
        self._notify, self._slots_held, self._peers = notify, slots_held, peers
        self._cohort_of = {node: cohort for cohort in cohorts for node in cohort.brain.nodes}
        self._rows = NodeRows(tuple(self._cohort_of))
        self._row_of = {node: row for row, node in enumerate(self._cohort_of)}
        self._named: dict[str, str] = {}  # names of siblings that wait for the next tick
        for cohort in cohorts:
            agenda.at(cohort.phase_ns + interval_ns, self._in_life(cohort, self._tick))

    # ------------------------------------------------------------------------------------------------- from outside

    def name(self, action: NameSiblings) -> None:
        """Process the names of siblings; they are in force with the next tick."""
        self._named.update(zip(action.nodes, action.siblings, strict=True))

    def stop(self, node: str) -> None:
        """Stop the agent of a node, which is a cohort of its own."""
        self._cohort_of[node].stopped = True

    def begin_absent(self, node: str) -> None:
        """Let the agent of a node, which is a cohort of its own, not live until it is restarted."""
        cohort = self._cohort_of[node]
        cohort.life, cohort.alive = cohort.life + 1, False

    def kill(self, node: str, reason: str = "crash") -> None:
        """End the agent of a node, which is a cohort of its own; the pool takes back what the node held."""
        self.begin_absent(node)
        left = NodeLeft(node=node, reason=reason)
        self._history.record(POOL, "in", left)
        self._pool.handle(left, self._agenda.now_ns)

    def restart(self, node: str) -> None:
        """Begin a new life of a killed agent."""
        cohort, now_ns = self._cohort_of[node], self._agenda.now_ns
        cohort.alive, cohort.stopped, cohort.missed = True, False, []
        cohort.brain, cohort.ticked_ns = cohort.make_brain(), now_ns
        cohort.heard, cohort.edition = np.zeros(len(cohort.brain.nodes)), -1
        self._history.record(cohort.policy, "in", NodeJoined(node=node, reason=RESTARTED))
        self._tick_next(cohort)

    def go_on(self, node: str) -> None:
        """Resume a stopped agent."""
        cohort = self._cohort_of[node]
        cohort.stopped = False
        missed, cohort.missed = cohort.missed, []  # nothing, if it was killed meanwhile: that is another life's
        for do in missed:
            do()

    def _in_life(self, cohort: Cohort, do: Callable[[Cohort], None]) -> Do:
        """Return what does something unless the cohort is in another life by then, or none; later, if it is stopped."""
        life = cohort.life

        def begin() -> None:
            if not cohort.alive or cohort.life != life:
                return
            if cohort.stopped:
                cohort.missed.append(begin)
            else:
                do(cohort)

        return begin

    # --------------------------------------------------------------------------------------------------------- ticks

    def _tick(self, cohort: Cohort) -> None:
        now_ns, plane = self._agenda.now_ns, self._plane
        plane.advance(now_ns)
        self._put_names_into_force(cohort)
        sample, delivered_bytes = plane.read(cohort.rows, now_ns - cohort.ticked_ns)
        cohort.ticked_ns = now_ns
        self._hear_peers(cohort)
        self._feed(cohort, sample)
        severity_ratio = cohort.brain.severity_ratio
        if self._peers is not None:
            self._peers.assess(cohort.rows, severity_ratio)
        decided: dict[str, Ints | Floats] = {
            "predicted_bytes": cohort.brain.predicted_bytes,
            "severity_ratio": severity_ratio,
            "weight": self._slots_held()[cohort.rows],
            "delivered_bytes": delivered_bytes,
        }
        self._samples.add(now_ns, sample, {**decided, **self._deflected(cohort)})
        self._tick_next(cohort)

    def _hear_peers(self, cohort: Cohort) -> None:
        if self._peers is None or not cohort.brain.heeds_peers:
            return
        self._peers.refresh()
        if self._peers.edition == cohort.edition:
            return
        cohort.edition = self._peers.edition
        heard = self._peers.heard(cohort.rows)
        changed = np.flatnonzero(heard != cohort.heard)
        if len(changed):
            cohort.heard = heard
            self._feed(
                cohort,
                PeersAssessed(nodes=tuple(cohort.brain.nodes[row] for row in changed), severity_ratio=heard[changed]),
            )

    def _tick_next(self, cohort: Cohort) -> None:
        """Enter the next tick of the grid; ticks that were slept through are left out."""
        since_ns = (self._agenda.now_ns - cohort.phase_ns) % self._interval_ns
        self._agenda.after(self._interval_ns - since_ns, self._in_life(cohort, self._tick))

    def _deflected(self, cohort: Cohort) -> dict[str, Ints]:
        if self._plane.deflection is None:
            return {}
        before, cohort.deflected = cohort.deflected, self._plane.deflected(cohort.rows)
        amounts = [after - start for after, start in zip(cohort.deflected, before, strict=True)] if before else []
        return dict(zip(("deflected_bytes", "deflected_pkts"), amounts or cohort.deflected, strict=True))

    def _put_names_into_force(self, cohort: Cohort) -> None:
        if self._plane.deflection is None or not self._named:
            return
        sibling = self._plane.deflection.sibling
        for node in [node for node in cohort.brain.nodes if node in self._named]:
            name, row = self._named.pop(node), self._row_of[node]
            named = self._row_of[name] if name else NOBODY
            if named != sibling[row]:
                sibling[row] = named
                self._history.note(SiblingSet(node=node, sibling=name))

    # ------------------------------------------------------------------------------------------------------- decisions

    def _feed(self, cohort: Cohort, first: Event) -> None:
        events: deque[Event] = deque((first,))
        while events:
            for action in self._history.feed(cohort.policy, cohort.brain, events.popleft()):
                if isinstance(action, SetBufferLimit):
                    self._set_limit(action)
                elif isinstance(action, RequestLimit):
                    events += self._ask_pool(action)
                elif isinstance(action, NotifyBalancer):
                    self._send(action)
        name = f"{cohort.policy}, life {cohort.life}"
        self._agenda.wake(name, cohort.brain, self._in_life(cohort, self._deadline))

    def _deadline(self, cohort: Cohort) -> None:
        self._feed(cohort, DeadlineReached())

    def _set_limit(self, action: SetBufferLimit) -> None:
        rows = self._rows.of(action.nodes)

        def set_limit() -> None:
            self._plane.advance(self._agenda.now_ns)
            self._plane.set_limit(rows, action.limit_bytes)

        self._agenda.after(self._model.decision_ns, set_limit)

    def _ask_pool(self, request: RequestLimit) -> list[LimitGranted]:
        self._history.record(POOL, "in", request)
        answers = self._pool.handle(request, self._agenda.now_ns)
        for answer in answers:
            self._history.record(POOL, "out", answer)
        return answers

    def _send(self, action: NotifyBalancer) -> None:
        event = recast(action, NodesNotified)
        self._agenda.after(self._model.decision_ns + self._model.notification_ns, partial(self._notify, event))
