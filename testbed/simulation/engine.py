"""Virtual time: the same scenario, plan and policies as on the wire, driven by an agenda instead of a clock.

    tick ─ read the plane ─ brain ─┬ RequestLimit ─ pool ─ LimitGranted ─ brain
                                   ├ SetBufferLimit ─ decision_ns later ─▶ queues
                                   └ NotifyBalancer ─ decision_ns + notification_ns later ─▶ balancer
    balancer ─ SetSlots, RemoveNode, RestoreNode ─ flow_mod_ns later ─▶ switch

The agenda is a heap of (time, number, what): equal times keep the order in which they were entered, so a run depends on
nothing but its inputs.  The data plane has no entries there.  It is advanced in one go from one instant that matters to
the next, however many packets lie between (`packet_plane`).

All actions of one event are carried out before the answers to them are fed back: a grant that comes at once does not
overtake what was decided together with the request.

After the plan's end the queues drain, and `SETTLE_NS` later the run ends, as the emulation waits for stragglers.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from functools import partial

import numpy as np

from testbed.errors import InputError
from testbed.events import (
    Action,
    DeadlineReached,
    Event,
    Floats,
    Ints,
    LimitGranted,
    NodesNotified,
    NotifyBalancer,
    RemoveNode,
    RequestLimit,
    RestoreNode,
    SetBufferLimit,
    SetSlots,
)
from testbed.policies.balancer import make_balancer
from testbed.policies.base import Policy
from testbed.policies.pool import make_pool
from testbed.policies.rows import NodeRows
from testbed.results.evidence import Evidence
from testbed.simulation.cohorts import Cohort, MakeForecaster, make_cohorts
from testbed.simulation.history import Direction, Recorder, written
from testbed.simulation.network_model import NetworkModel
from testbed.simulation.packet_plane import PacketPlane
from testbed.simulation.queues import LARGEST_LIMIT_BYTES
from testbed.simulation.sample_rows import SampleRows
from testbed.spec.scenario import Scenario
from testbed.spec.topology import Network
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS, size_text

SETTLE_NS = 200 * NS_PER_MS
BALANCER = "balancer"  # the policy's name in the history, and of its stream of random numbers
POOL = "pool"
_BASIS_BITS = 0xFFFF


def simulate(
    scenario: Scenario,
    network: Network,
    plan: PacketPlan,
    make_forecaster: MakeForecaster,
    seed_of: Callable[[str], int],
    recorder: Recorder,
    *,
    model: NetworkModel | None = None,
    cohorts: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evidence:
    """Run one trial in virtual time and return what it left behind.

    Args:
        scenario: the experiment.
        network: what its topology describes.
        plan: the packets.
        make_forecaster: gives a fresh forecaster for nodes and their rates, None when the policy has none.
        seed_of: derives the seed of a named stream.
        recorder: takes samples and events as they come.
        model: the delays; default those of `NetworkModel`.
        cohorts: in how many groups the nodes tick within the interval; see `cohorts`.
        should_stop: asked every tick; once it says so the traffic ends and the queues drain.

    Raises:
        InputError: what the engine cannot simulate faithfully.
    """
    _check(scenario, network, cohorts)
    model = NetworkModel() if model is None else model
    return _Trial(scenario, network, plan, make_forecaster, seed_of, recorder, model, cohorts).run(should_stop)


def _check(scenario: Scenario, network: Network, cohorts: int) -> None:
    if cohorts < 1:
        raise InputError("simulating the network", f"{cohorts} cohorts", "give 1 or more")
    if scenario.buffer.max_bytes > LARGEST_LIMIT_BYTES:
        happened = f"{size_text(scenario.buffer.max_bytes)} is more than the {size_text(LARGEST_LIMIT_BYTES)} of a node"
        raise InputError("buffer.max", happened, "lower it")
    wire_only = {
        "buffer.deflect": scenario.buffer.deflect,
        "buffer.ecn_threshold": scenario.buffer.ecn_threshold_bytes is not None,
        "traffic of shape tcp": bool(scenario.tcp),
    }
    for name, wanted in wire_only.items():
        if wanted:
            raise InputError(name, "the simulation does not model it", "use --engine emulation or leave it out")
    if not network.nodes or not network.clients:
        raise InputError("simulating the network", "it has no nodes or no clients", "describe at least one of each")


class _Trial:
    def __init__(
        self,
        scenario: Scenario,
        network: Network,
        plan: PacketPlan,
        make_forecaster: MakeForecaster,
        seed_of: Callable[[str], int],
        recorder: Recorder,
        model: NetworkModel,
        cohorts: int,
    ) -> None:
        names = tuple(node.name for node in network.nodes)
        buffer, seed = scenario.buffer, seed_of(BALANCER)
        self._rows, self._row_of = NodeRows(names), {name: row for row, name in enumerate(names)}
        self._cohorts = make_cohorts(buffer, network, make_forecaster, cohorts)
        limits = np.concatenate([cohort.brain.initial_limit_bytes() for cohort in self._cohorts])
        self._pool = make_pool(buffer, names, limits.copy())
        self._balancer = make_balancer(scenario.balancer, names, random.Random(seed))
        slots = self._table(self._balancer.slots)
        self._slots_held = np.bincount(slots, minlength=len(names))
        self._plane = PacketPlane(
            network, plan, limits, slots,
            affinity_idle_ns=scenario.balancer.affinity_idle_ns, hash_basis=seed & _BASIS_BITS, model=model,
        )  # fmt: skip
        self._model, self._recorder = model, recorder
        self._samples = SampleRows(recorder)
        self._interval_ns, self._duration_ns = buffer.sample_interval_ns, scenario.duration_ns
        self._agenda: list[tuple[int, int, Callable[[], None]]] = []
        self._entries = 0
        self._now_ns, self._end_ns = 0, 2**62
        self._woken_ns: dict[str, int] = {}

    def run(self, should_stop: Callable[[], bool]) -> Evidence:
        """Drive the agenda to the end."""
        self._should_stop = should_stop
        for cohort in self._cohorts:
            self._at(cohort.phase_ns + self._interval_ns, partial(self._tick, cohort))
        self._ran_ns = self._duration_ns
        self._at(self._plane.arrived_by_ns(self._duration_ns), self._all_sent)
        while self._agenda[0][0] <= self._end_ns:
            self._now_ns, _, do = heapq.heappop(self._agenda)
            do()
        self._samples.flush()
        return Evidence(
            engine="simulation",
            ran_ns=self._ran_ns,
            clients=self._plane.client_evidence(),
            nodes=self._plane.node_evidence(),
            broken_flows=0,  # a pin of a serving node is never changed
            packet_ins=0,  # flows are placed in the switch
        )

    # -------------------------------------------------------------------------------------------------- the agenda

    def _at(self, t_ns: int, do: Callable[[], None]) -> None:
        self._entries += 1
        heapq.heappush(self._agenda, (t_ns, self._entries, do))

    def _all_sent(self) -> None:
        """The last packet has reached its buffer."""
        if self._end_ns < 2**62:
            return
        self._plane.advance(self._now_ns)
        self._plane.stop_sending()
        self._end_ns = self._plane.empty_ns() + SETTLE_NS

    def _wake(self, name: str, policy: Policy, feed: Callable[[], None]) -> None:
        """Enter the policy's deadline, if it has a new one."""
        due_ns = policy.next_deadline_ns()
        if due_ns is None or self._woken_ns.get(name) == due_ns:
            return
        self._woken_ns[name] = due_ns

        def wake() -> None:
            now_due_ns = policy.next_deadline_ns()
            if self._woken_ns.get(name) == due_ns:
                del self._woken_ns[name]
            if now_due_ns is not None and now_due_ns <= self._now_ns:
                feed()

        self._at(max(due_ns, self._now_ns + 1), wake)  # virtual time must pass, whatever a policy asks for

    # ---------------------------------------------------------------------------------------------------- the nodes

    def _tick(self, cohort: Cohort) -> None:
        now_ns = self._now_ns
        if self._end_ns == 2**62 and self._should_stop():
            self._ran_ns = now_ns
            self._all_sent()
        self._plane.advance(now_ns)
        sample = self._plane.read(cohort.rows, now_ns - cohort.ticked_ns)
        cohort.ticked_ns = now_ns
        self._feed_brain(cohort, sample)
        decided: dict[str, Ints | Floats] = {
            "predicted_bytes": cohort.brain.predicted_bytes,
            "severity_ratio": cohort.brain.severity_ratio,
            "weight": self._slots_held[cohort.rows],
            "delivered_bytes": self._plane.delivered_bytes(cohort.rows),
            "delivered_t_ns": np.full(len(sample.nodes), now_ns, dtype=np.int64),
        }
        self._samples.add(now_ns, sample, decided)
        self._at(now_ns + self._interval_ns, partial(self._tick, cohort))

    def _feed_brain(self, cohort: Cohort, first: Event) -> None:
        events: deque[Event] = deque((first,))
        while events:
            for action in self._feed(cohort.policy, cohort.brain, events.popleft()):
                if isinstance(action, SetBufferLimit):
                    self._set_limit(action)
                elif isinstance(action, RequestLimit):
                    events += self._ask_pool(action)
                elif isinstance(action, NotifyBalancer):
                    self._notify(action)
        self._wake(cohort.policy, cohort.brain, lambda: self._feed_brain(cohort, DeadlineReached()))

    def _set_limit(self, action: SetBufferLimit) -> None:
        rows = self._rows.of(action.nodes)

        def set_limit() -> None:
            self._plane.advance(self._now_ns)
            self._plane.queues.set_limit(rows, action.limit_bytes)

        self._at(self._now_ns + self._model.decision_ns, set_limit)

    def _ask_pool(self, request: RequestLimit) -> list[LimitGranted]:
        self._record(POOL, "in", request)
        answers = self._pool.handle(request, self._now_ns)
        for answer in answers:
            self._record(POOL, "out", answer)
        return answers

    def _notify(self, action: NotifyBalancer) -> None:
        fields = {name: getattr(action, name) for name in NodesNotified.__slots__}
        event = NodesNotified(**fields)
        delay_ns = self._model.decision_ns + self._model.notification_ns
        self._at(self._now_ns + delay_ns, lambda: self._feed_balancer(event))

    # ------------------------------------------------------------------------------------------------- the balancer

    def _feed_balancer(self, event: Event) -> None:
        for action in self._feed(BALANCER, self._balancer, event):
            if isinstance(action, SetSlots):
                table = self._table(action.slots)
                self._slots_held = np.bincount(table, minlength=len(self._rows.nodes))
                self._steer(partial(self._plane.switch.set_slots, table))
            elif isinstance(action, RemoveNode):
                self._steer(partial(self._plane.switch.remove, self._row_of[action.node]))
            elif isinstance(action, RestoreNode):
                self._steer(partial(self._plane.switch.restore, self._row_of[action.node]))
        self._wake(BALANCER, self._balancer, lambda: self._feed_balancer(DeadlineReached()))

    def _steer(self, change: Callable[[], None]) -> None:
        """Change the switch when the change has got there."""

        def steer() -> None:
            self._plane.advance(self._now_ns)
            change()

        self._at(self._now_ns + self._model.flow_mod_ns + self._plane.behind_switch_ns, steer)

    def _table(self, slots: tuple[str, ...]) -> Ints:
        return np.array([self._row_of[node] for node in slots], dtype=np.int64)

    # -------------------------------------------------------------------------------------------------- the history

    def _feed(self, name: str, policy: Policy, event: Event) -> list[Action]:
        self._record(name, "in", event)
        actions = policy.handle(event, self._now_ns)
        for action in actions:
            self._record(name, "out", action)
        return actions

    def _record(self, policy: str, direction: Direction, record: Event | Action) -> None:
        line = {"policy": policy, "direction": direction, **written(record)}
        self._recorder.append_event(self._now_ns, line)
