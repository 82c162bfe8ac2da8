"""The balancer process in virtual time: the policies of ``controllers/load_balancer.py``, driven by the event queue.

    notification ─▶ balancer ─ SetSlots, RemoveNode, RestoreNode ─ flow_mod_ns later ─▶ switch
                 ─▶ deflection ─ NameSiblings ─ notification_ns later ─▶ agents
    report ─▶ agreement ─┐
    port up, down ───────┴─ NodeLeft, NodeJoined ─▶ balancer, deflection

A killed balancer receives and sends nothing more.  The switch continues to forward by the last commands, including
those in transit to it.  A standby has the state of the killed balancer and becomes active `takeover_ns` later; inputs
that arrive meanwhile wait for it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from testbed.policies.balancer import PORT_DOWN, make_balancer
from testbed.policies.deflection import DEFLECTION, DeflectionPolicy
from testbed.policies.gossip import make_detector
from testbed.policies.lifecycle import meshed
from testbed.policies.membership import BALANCER
from testbed.policies.readiness import longest_pause_ns
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    Ints,
    NameSiblings,
    NodeJoined,
    NodeLeft,
    NodesNotified,
    RemoveNode,
    RestoreNode,
    SetSlots,
    StagesAnnounced,
    SuspicionsHeard,
    recast,
)
from testbed.records.processes import ActionsAcknowledged, BalancerReady, ControllerTookOver, SuspicionsChanged
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.simulation.agenda import Agenda, Do
from testbed.simulation.cluster_plane import ClusterPlane
from testbed.simulation.history import History
from testbed.simulation.network_model import NetworkModel
from testbed.units import NS_PER_US


class Control:
    """Takes in notifications, reports and port changes, and changes the switch.

    Args:
        scenario, network: what the policies are made from.
        seed: of the balancer's policy.
    """

    def __init__(
        self,
        scenario: Scenario,
        network: Network,
        seed: int,
        agenda: Agenda,
        history: History,
        model: NetworkModel,
    ) -> None:
        self._agenda, self._history, self._model = agenda, history, model
        names = tuple(node.name for node in network.nodes)
        self._row_of = {name: row for row, name in enumerate(names)}
        first_tier = tuple(node.name for node in network.first_tier)
        rates_bps = [network.node_rate_bps(node) for node in first_tier]
        pause_ns = longest_pause_ns(scenario.buffer.sample_interval_ns)
        rng, spare = random.Random(seed), network.spare_nodes
        self._policy = make_balancer(scenario.balancer, first_tier, rng, pause_ns, rates_bps, spare)
        self._deflection = DeflectionPolicy(network.nodes, pause_ns) if scenario.buffer.deflect else None
        members = names if scenario.unsteady else ()  # nobody to notice, no mesh
        self._agreement = make_detector(members, scenario.mesh)
        self._agreement.announce([name for name in members if name not in network.spare_nodes], 0)
        self._reports: dict[str, SuspicionsHeard] = {}  # monitor → its last report
        self._left = 2 if scenario.controller.standby else 1  # controllers
        self._taking_over = False
        self._waiting: list[Do] = []  # inputs that came in meanwhile
        self.slots = self._table(self._policy.slots)
        self.slots_held = self._held(self.slots)

    def connect(self, plane: ClusterPlane, name_siblings: Callable[[NameSiblings], None]) -> None:
        """Control the switch of `plane`; `name_siblings` hands the names of siblings to the agents on arrival."""
        self._plane, self._name_siblings = plane, name_siblings

    @property
    def serving_bps(self) -> int:
        """See `BalancerPolicy.serving_bps`."""
        return self._policy.serving_bps

    def kill(self, *, all_of_them: bool = False) -> None:
        """Kill the active controller, or all; without any, nothing is received nor sent from now on."""
        self._left = 0 if all_of_them else max(0, self._left - 1)
        self._waiting = []
        if self._left:
            self._history.note(ControllerTookOver(reason="it ended"), BALANCER)
            self._taking_over = True
            self._agenda.after(self._model.takeover_ns, self._took_over)

    def _took_over(self) -> None:
        """Be active from now on; what came in meanwhile has waited in the socket that the standby shares."""
        if not self._left:
            return
        took_us = self._model.takeover_ns / NS_PER_US
        self._history.note(BalancerReady(control_loop_us=took_us, slots=self._policy.slots), BALANCER)
        self._taking_over = False
        waiting, self._waiting = self._waiting, []
        for do in waiting:
            do()

    def _when_active(self, do: Do) -> None:
        """Do something as soon as a controller is active; nothing if all are dead."""
        if self._left and self._taking_over:
            self._waiting.append(do)
        elif self._left:
            do()

    # -------------------------------------------------------------------------------------------------------- inputs

    def notified(self, event: NodesNotified) -> None:
        """Process what nodes notified."""
        self._when_active(partial(self._node_changed, event))

    def port_changed(self, node: str, *, up: bool) -> None:
        """Note that the switch reports a node's port."""
        event = NodeJoined(node=node, reason=PORT_DOWN) if up else NodeLeft(node=node, reason=PORT_DOWN)
        self._when_active(partial(self._node_changed, event))

    def announced(self, stages: StagesAnnounced) -> None:
        """Process the stages of the nodes."""
        self._when_active(partial(self._take_stages, stages))

    def _take_stages(self, stages: StagesAnnounced) -> None:
        self._agreement.announce(meshed(stages), self._agenda.now_ns)
        self._node_changed(stages)

    def reported(self, event: SuspicionsHeard) -> None:
        """Process a report; it is recorded only if it differs from that monitor's last one."""
        self._when_active(partial(self._consider, event))

    def _consider(self, event: SuspicionsHeard) -> None:
        if self._reports.get(event.monitor) != event:
            self._reports[event.monitor] = event
            self._history.note(recast(event, SuspicionsChanged), "mesh")
        self._concluded(self._agreement.hear(event, self._agenda.now_ns))

    def _concluded(self, conclusions: Sequence[NodeLeft | NodeJoined]) -> None:
        for conclusion in conclusions:
            self._node_changed(conclusion)
        self._agenda.wake("agreement", self._agreement, lambda: self._when_active(self._conclude))

    def _conclude(self) -> None:
        self._concluded(self._agreement.conclude(self._agenda.now_ns))

    def _node_changed(self, event: Event) -> None:
        self._feed(event)
        self._feed_deflection(event)

    # ------------------------------------------------------------------------------------------------------ decisions

    def _feed(self, event: Event) -> None:
        actions = self._history.feed(BALANCER, self._policy, event)
        changes = [self._carry_out(action) for action in actions]
        if changes:
            self._change_switch(changes, [action.node for action in actions if isinstance(action, RemoveNode)])
        self._agenda.wake(BALANCER, self._policy, lambda: self._when_active(self._deadline))

    def _deadline(self) -> None:
        self._feed(DeadlineReached())

    def _feed_deflection(self, event: Event) -> None:
        if self._deflection is None:
            return
        for action in self._history.feed(DEFLECTION, self._deflection, event):
            assert isinstance(action, NameSiblings)
            self._agenda.after(self._model.notification_ns, partial(self._name_siblings, action))

    def _carry_out(self, action: Action) -> Do:
        """Return the change of the switch that an action is."""
        switch = self._plane.switch
        if isinstance(action, SetSlots):
            table = self._table(action.slots)
            self.slots_held = self._held(table)
            return partial(switch.set_slots, table)
        assert isinstance(action, (RemoveNode, RestoreNode))
        change = switch.remove if isinstance(action, RemoveNode) else switch.restore
        return partial(change, self._row_of[action.node])

    def _change_switch(self, changes: Sequence[Do], removed: list[str]) -> None:
        """Change the switch when the commands arrive there; the plane's time is that of the buffers behind it."""
        plane, model = self._plane, self._model

        def apply() -> None:
            plane.advance(self._agenda.now_ns)
            for change in changes:
                change()

        self._agenda.after(model.flow_mod_ns + plane.behind_switch_ns, apply)
        took_us = model.flow_mod_ns / NS_PER_US
        done = ActionsAcknowledged(control_loop_us=took_us, messages=len(changes), removed=tuple(removed))
        self._agenda.after(model.flow_mod_ns, lambda: self._history.note(done, BALANCER))

    def _table(self, slots: Sequence[str]) -> Ints:
        return np.array([self._row_of[node] for node in slots], dtype=np.int64)

    def _held(self, table: Ints) -> Ints:
        held: Ints = np.bincount(table, minlength=len(self._row_of))
        return held
