"""The mesh in virtual time: a `policies.membership` per node, and a network that delays and loses their messages.

    deadline ─ membership ─ SendHeartbeat, … ─ for each recipient: cut off? lost? delay ─▶ HeartbeatHeard, …

It is simulated only if the scenario has faults, or nodes that are added or drained.  Otherwise it could only report
that all nodes are alive: a heartbeat is late by less than a millisecond here, and 55 ms are allowed.  This keeps a
simulation of a thousand nodes cheap, whose mesh would send 150,000 heartbeats a second.

Every message is simulated individually.  The states of the nodes are not: ``peers.py`` models what a node receives of
the buffers of the others.  Delay and loss of a message are drawn from a random stream of its sender, so that the
messages of one node do not change those of another.  The conclusions of the members are recorded, as in the emulation.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from testbed.policies.gossip import member_class
from testbed.policies.lifecycle import meshed
from testbed.policies.membership import BALANCER, Membership
from testbed.records.events import (
    Action,
    DeadlineReached,
    Event,
    HeartbeatHeard,
    NodeLeft,
    RumoursHeard,
    SendHeartbeat,
    SendRumours,
    SendSuspicions,
    StagesAnnounced,
    SuspicionsHeard,
)
from testbed.records.processes import MemberDied, MemberHeard, MemberReturned, MemberSilent
from testbed.scenario.mesh import MeshSpec
from testbed.simulation.agenda import Agenda
from testbed.simulation.history import History
from testbed.simulation.network_model import NetworkModel


@dataclass(slots=True)
class _Member:
    """A member and what waits for it while it is stopped."""

    name: str
    policy: Membership
    draws: random.Random  # of its messages
    born_ns: int
    alive: bool = True
    stopped: bool = False
    waiting: list[Event] = field(default_factory=list)
    silent: frozenset[str] = frozenset()


class Mesh:
    """All members.

    Args:
        members: names of the nodes.
        spec: times and numbers.
        seed_of: derives the seed of a named stream.
        reported: hands a report to the balancer, when it has got there.
        absent: members that are not there yet.

    Attributes:
        sent: messages so far, one for each recipient.
    """

    def __init__(
        self,
        members: tuple[str, ...],
        spec: MeshSpec,
        seed_of: Callable[[str], int],
        agenda: Agenda,
        history: History,
        model: NetworkModel,
        reported: Callable[[SuspicionsHeard], None],
        absent: tuple[str, ...] = (),
    ) -> None:
        self._agenda, self._history, self._model, self._reported = agenda, history, model, reported
        self._spec, self._members_named = spec, members
        self._seed_of, self._absent = seed_of, absent
        self.sent = 0
        self._cut: set[tuple[str, str]] = set()  # pairs (from, to) whose messages reach nobody
        self._draws = {name: random.Random(seed_of(f"network {name}")) for name in members}
        self._members = {name: self._born(name, self._draws[name].randrange(spec.heartbeat_ns)) for name in members}

    def _born(self, name: str, born_ns: int) -> _Member:
        """Return a member that will be there from `born_ns` on."""
        rng = random.Random(self._seed_of(f"mesh {name}"))
        of_kind = member_class(self._spec)
        policy = of_kind(name, self._members_named, self._spec, rng, incarnation=born_ns, absent=self._absent)
        member = _Member(name, policy, self._draws[name], born_ns)
        self._agenda.at(born_ns, partial(self._deadline, member))
        return member

    # --------------------------------------------------------------------------------------------------- the faults

    def kill(self, node: str) -> None:
        """End the member of a node."""
        self._members[node].alive = False

    def restart(self, node: str) -> None:
        """Begin a new life of a killed member, which is above that of any before: the run's clock does not go back."""
        self._members[node] = self._born(node, self._agenda.now_ns)

    def announced(self, stages: StagesAnnounced) -> None:
        """Let every living member hear which members there are."""
        there = meshed(stages)
        self._absent = tuple(node for node in self._members_named if node not in there)
        for name in self._members_named:
            self._deliver(name, stages)

    def stop(self, node: str) -> None:
        """Stop the member of a node; messages wait for it."""
        self._members[node].stopped = True

    def go_on(self, node: str) -> None:
        """Resume a stopped member: it receives what waited, then checks its timers."""
        member = self._members[node]
        member.stopped = False
        waiting, member.waiting = member.waiting, []
        if not member.alive:
            return
        for event in waiting:
            self._feed(member, event)
        if (member.policy.next_deadline_ns() or 0) <= self._agenda.now_ns:
            self._feed(member, DeadlineReached())

    def divide(self, groups: Sequence[Iterable[str]], *, apart: bool) -> None:
        """Let no message pass between the groups, or let them pass again."""
        sides = [tuple(group) for group in groups]
        across = {(a, b) for one in sides for other in sides if one is not other for a in one for b in other}
        self._cut = self._cut | across if apart else self._cut - across

    # ----------------------------------------------------------------------------------------------------- messages

    def _feed(self, member: _Member, event: Event) -> None:
        for action in member.policy.handle(event, self._agenda.now_ns):
            self._send(member, action)
        self._report(member)
        self._agenda.wake(f"mesh {member.name} born {member.born_ns}", member.policy, partial(self._deadline, member))

    def _deadline(self, member: _Member) -> None:
        if member.alive and not member.stopped:
            self._feed(member, DeadlineReached())

    def _send(self, member: _Member, action: Action) -> None:
        assert isinstance(action, (SendHeartbeat, SendSuspicions, SendRumours))
        event = _arriving(member.name, action)
        self.sent += len(action.to)
        for name in action.to:
            delay_ns = self._model.message_delay_ns(member.draws)
            if delay_ns is not None and (member.name, name) not in self._cut:
                self._agenda.after(delay_ns, partial(self._deliver, name, event))

    def _deliver(self, name: str, event: Event) -> None:
        if name == BALANCER:
            assert isinstance(event, SuspicionsHeard)
            self._reported(event)
            return
        member = self._members[name]
        if not member.alive or self._agenda.now_ns < member.born_ns:
            return  # nobody listens there
        if member.stopped:
            member.waiting.append(event)
        else:
            self._feed(member, event)

    def _report(self, member: _Member) -> None:
        policy, told = member.policy, f"mesh:{member.name}"
        if policy.silent != member.silent:
            for node in sorted(policy.silent ^ member.silent):
                kind = MemberSilent if node in policy.silent else MemberHeard
                self._history.note(kind(node=node), told)
            member.silent = policy.silent
        for conclusion in policy.conclusions():
            fate = MemberDied if isinstance(conclusion, NodeLeft) else MemberReturned
            self._history.note(fate(node=conclusion.node), told)


def _arriving(sender: str, action: SendHeartbeat | SendSuspicions | SendRumours) -> Event:
    """Return what recipients hear of what a member sends."""
    if isinstance(action, SendHeartbeat):
        return HeartbeatHeard(node=sender, incarnation=action.incarnation)
    if isinstance(action, SendRumours):
        return RumoursHeard(nodes=action.nodes, incarnation=action.incarnation, dead=action.dead)
    return SuspicionsHeard(monitor=sender, nodes=action.nodes, incarnation=action.incarnation, silent=action.silent)
