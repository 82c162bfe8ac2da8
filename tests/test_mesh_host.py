"""The process that hosts many mesh members, over real sockets on the loopback and in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.emulation.processes import mesh
from testbed.emulation.processes.channel import EventRecord
from testbed.emulation.processes.mesh import GROUPS, MeshHost, MeshParts
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.shared_state import NodeState, SharedPeers, SharedState
from testbed.policies.membership import BALANCER
from testbed.scenario.mesh import MeshSpec
from testbed.units import NS_PER_MS, NS_PER_S
from tests import sealed

LASTS_NS = NS_PER_S // 2
SPEC = MeshSpec.model_validate({})


class Clock:
    """Goes on only while a process waits, and by a little whenever it is looked at."""

    def __init__(self) -> None:
        self.now_ns, self.waits = NS_PER_S, 0

    def monotonic_ns(self) -> int:
        self.now_ns += 100
        return self.now_ns

    def readable(self, _descriptors: list[int], within_ns: int) -> list[int]:
        self.waits += 1
        self.now_ns += within_ns
        return []


class Hosted:
    """A host of some members of a mesh, of whom others may never be there."""

    def __init__(self, clock: Clock, count: int, absent: frozenset[str] = frozenset()) -> None:
        self.clock, self.records = clock, list[dict[str, Any]]()
        self.names = tuple(f"n{i + 1}" for i in range(count))
        port = mesh.MESH_PORT + count  # tests of several sizes do not share addresses
        self._to = {name: (f"127.0.{1 + i // 200}.{1 + i % 200}", port) for i, name in enumerate(self.names)}
        self._to[BALANCER] = ("127.0.0.1", port + 1)
        self.states = {name: SharedState() for name in self.names}
        self.peers = {name: SharedPeers() for name in self.names}
        here = [name for name in self.names if name not in absent]
        self.host = MeshHost([self._parts(name) for name in here], Pulse(10 * NS_PER_MS))

    def _parts(self, name: str) -> MeshParts:
        return MeshParts(
            node=name,
            namespace_pid=0,
            address_of=self._to,
            members=self.names,
            spec=SPEC,
            ring=sealed.ring(name, self.names),
            seed=self.names.index(name),
            state=self.states[name],
            peers=self.peers[name],
        )

    def ready(self) -> int:
        """Stand for the line to the trial: the start is now."""
        return self.clock.now_ns

    def add(self, record: EventRecord) -> None:
        """Stand for the records channel."""
        self.records.append({**record.line, "t_ns": record.t_ns})

    def flush(self) -> None:
        """Pass on nothing."""

    def run(self, until_ns: int = LASTS_NS) -> None:
        end_ns = self.clock.now_ns + until_ns
        self.host(self, self, lambda: self.clock.now_ns > end_ns)  # type: ignore[arg-type]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in self.records if record["kind"] == kind]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(mesh.time, "monotonic_ns", clock.monotonic_ns)
    monkeypatch.setattr(mesh.waiting, "readable", clock.readable)
    for name in ("enter_namespace", "run_in_real_time", "sharpen_timers"):
        monkeypatch.setattr(mesh.kernel, name, lambda *_: None)
    monkeypatch.setattr(mesh.gc, "disable", lambda: None)
    return clock


@pytest.mark.parametrize("count", [4, 40])
def test_wake_ups_do_not_grow_with_nodes_and_everybody_is_heard(clock: Clock, count: int) -> None:
    hosted = Hosted(clock, count)
    hosted.run()
    assert clock.waits <= GROUPS * (LASTS_NS // SPEC.heartbeat_ns + 2)
    stopped = hosted.of("MeshStopped")
    assert {record["policy"] for record in stopped} == {f"mesh:{name}" for name in hosted.names}
    assert [record for record in stopped if not record["heard"] or any(record["ignored"].values())] == []
    assert hosted.of("MemberSilent") == []


def test_each_member_concludes_by_itself_that_one_who_never_spoke_is_dead(clock: Clock) -> None:
    hosted = Hosted(clock, 5, absent=frozenset({"n4"}))
    hosted.run()
    assert {record["node"] for record in hosted.of("MemberDied")} == {"n4"}
    here = {f"mesh:{name}" for name in hosted.names if name != "n4"}
    assert {record["policy"] for record in hosted.of("MemberDied")} == here


def test_a_severe_burst_reaches_all_agents_before_the_interval_is_over(clock: Clock) -> None:
    """Forty members: more than send to all others; the announcement is passed on from member to member."""
    hosted = Hosted(clock, 40)
    tell = clock.readable

    def readable(descriptors: list[int], within_ns: int) -> list[int]:
        if clock.now_ns > NS_PER_S + LASTS_NS - 30 * NS_PER_MS:
            hosted.states["n7"].publish(NodeState(LASTS_NS - 30 * NS_PER_MS, 1, 2, 3, 0.9))
        return tell(descriptors, within_ns)

    mesh.waiting.readable = readable  # put back by the fixture
    hosted.run()
    known = {name: cell.read() for name, cell in hosted.peers.items() if name != "n7"}
    reached = [name for name, state in known.items() if state is not None and state.severity_ratio == 0.9]
    assert len(reached) >= 0.9 * len(known)
