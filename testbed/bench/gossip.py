"""The mesh that gossips, from 100 members to 10,000: messages, detection of crashes, losses, partitions, restarts.

No emulation: the members are `policies.gossip` in virtual time (`simulation.mesh`), every message by itself, with the
delays of `NetworkModel`; the balancer's detector is that of a run.  Every number of members runs the same: after
`_GRACE_MS` nodes crash one after the other, each at a random phase of its heartbeats, and never come back.

``flat``       messages a node and second without a crash, and that at the most members over that at the fewest
``crash``      from a crash until the balancer, and until a living member, takes the node for dead: 99th percentiles,
               and crashes that were not noticed within the run.  Two that crash within the time of silence are a
               dispute if they have a monitor in common, and take 120 ms more: 100 members have them further apart, and
               `crash_close` is of 100 members and 10 ms
``loss``       the same while 1 % and 5 % of all messages get lost, and how many living nodes were declared dead
``partition``  one half is cut off from the other for half a second: when the balancer has removed one half, how many
               nodes of the other it removed, too, and when all are back after it has healed
``restart``    a third of the members ends at once and begins again: who was not noticed, who was removed beside them,
               and when all are back
``calm``       living nodes declared dead in `count` minutes without a fault, and what that bounds at 95 % (3 / time)
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from testbed.bench.rows import Row, percentile, row
from testbed.policies.gossip import make_detector
from testbed.records.events import NodeJoined, NodeLeft, SuspicionsHeard
from testbed.records.processes import MemberDied
from testbed.scenario.mesh import MeshSpec
from testbed.simulation.agenda import Agenda
from testbed.simulation.history import History
from testbed.simulation.mesh import Mesh
from testbed.simulation.network_model import NetworkModel
from testbed.units import NS_PER_MS, NS_PER_S

COUNT = 1  # minutes of calm
SIZES = (100, 1_000, 10_000)
_CRASHES = 20
_GRACE_MS, _GAP_MS, _WATCHED_MS = 300, 10, 400
_PHASE_MS = 20  # a heartbeat
_MANY_A_GAP = 1_000  # members of which one crashes in each gap, at least
_CALM_MEMBERS = 20
_MANY = 200  # members of the disturbed meshes
_APART_MS, _WHOLE_MS = 500, 1500
_FLAT_MS = 500


class World:
    """Members, their network, and the balancer's detector.

    Attributes:
        names: the members.
        removed: (time in ms, node) for each node the balancer took for dead; `returned`: likewise.
        died: the same for each member that came to know it: (time in ms, node, by whom).
    """

    def __init__(self, count: int, seed: int = 1, loss_ratio: float = 0.0, **mesh: Any) -> None:
        """Begin; `mesh` are keys of a scenario's mesh beside ``dissemination: gossip``."""
        spec = MeshSpec.model_validate({"dissemination": "gossip", **mesh}).of_nodes(count)
        self.names = tuple(f"n{i + 1}" for i in range(count))
        self.removed: list[tuple[float, str]] = []
        self.returned: list[tuple[float, str]] = []
        self.died: list[tuple[float, str, str]] = []
        self.agenda, self._detector = Agenda(), make_detector(self.names, spec)
        model = NetworkModel(message_loss_ratio=loss_ratio)
        seeds = partial(_seed, seed)
        self.mesh = Mesh(self.names, spec, seeds, self.agenda, History(self, self.agenda), model, self._hear)

    def run(self, until_ms: float) -> None:
        """Let time pass."""
        while self.agenda.next_ns() <= until_ms * NS_PER_MS:
            self.agenda.step()

    def at(self, at_ms: float, do: Callable[[], None]) -> None:
        """Do something at a time to come."""
        self.agenda.at(round(at_ms * NS_PER_MS), do)

    def append_event(self, t_ns: int, record: Mapping[str, Any]) -> None:
        """Process what a member concluded; see `engine.Writer`."""
        if record["kind"] == MemberDied.__name__:
            self.died.append((t_ns / NS_PER_MS, record["node"], record["policy"].partition(":")[2]))

    @property
    def taken_for_dead(self) -> set[str]:
        """Return the nodes that the balancer or any member ever took for dead."""
        return {node for _, node in self.removed} | {node for _, node, _ in self.died}

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """See `engine.Writer`; there are none."""

    def checkpoint(self) -> None:
        """See `engine.Writer`; nothing is due."""

    def _hear(self, report: SuspicionsHeard) -> None:
        self._conclude(self._detector.hear(report, self.agenda.now_ns))

    def _conclude(self, found: Sequence[NodeLeft | NodeJoined]) -> None:
        now_ms = self.agenda.now_ns / NS_PER_MS
        for conclusion in found:
            (self.removed if isinstance(conclusion, NodeLeft) else self.returned).append((now_ms, conclusion.node))
        self.agenda.wake("agreement", self._detector, self._on_time)

    def _on_time(self) -> None:
        self._conclude(self._detector.conclude(self.agenda.now_ns))


def _seed(seed: int, stream: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {stream}".encode(), digest_size=4).digest(), "big")


def run(count: int = COUNT, only: str = "") -> list[Row]:
    """Run the parts whose name contains `only`; `count` minutes of calm."""
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        **{"flat": _flat, "crash": _crashes, "loss": _losses, "partition": _partition, "restart": _restart},
        "calm": partial(_calm, count),
    }
    return [found for name, part in parts.items() if only in name for found in part()]


def _flat() -> Iterator[Row]:
    rate = {}
    for count in SIZES:
        world = World(count)
        world.run(_FLAT_MS)
        rate[count] = world.mesh.sent / count / (_FLAT_MS / 1000)
        yield row(f"gossip.flat.{count}", rate[count], "messages per node and second")
    least, most = SIZES[0], SIZES[-1]
    spread = max(rate[most] / rate[least], rate[least] / rate[most])
    yield row("gossip.flat", spread, "ratio", "<= 1.2", note=f"{least} to {most} members, steady state")


def _crashes() -> Iterator[Row]:
    for count in SIZES:
        yield from _crash_rows(f"gossip.crash.{count}", count, _apart_ms(count))
    yield from _crash_rows(f"gossip.crash_close.{SIZES[0]}", SIZES[0], _GAP_MS)


def _losses() -> Iterator[Row]:
    for loss_ratio in (0.01, 0.05):
        yield from _crash_rows(f"gossip.loss.{round(loss_ratio * 100)}%", _MANY, _apart_ms(_MANY), loss_ratio)


def _apart_ms(count: int) -> int:
    """Return a time between crashes such that the same share of the members crashes in a time, whatever the size."""
    return _GAP_MS * max(1, _MANY_A_GAP // count)


def _crash_rows(name: str, count: int, gap_ms: int, loss_ratio: float = 0.0) -> Iterator[Row]:
    """Yield what crashes came to that follow each other after so long and a random part."""
    world, draws = World(count, loss_ratio=loss_ratio), random.Random(count)
    crashed = {
        node: _GRACE_MS + gap_ms * k + _PHASE_MS * draws.random()
        for k, node in enumerate(draws.sample(world.names, _CRASHES))
    }
    for node, at_ms in crashed.items():
        world.at(at_ms, partial(world.mesh.kill, node))
    world.run(_GRACE_MS + gap_ms * _CRASHES + _WATCHED_MS)
    found_ms = [at_ms - crashed[node] for at_ms, node in world.removed if node in crashed]
    known_ms = [at_ms - crashed[node] for at_ms, node, by in world.died if node in crashed and by not in crashed]
    unknown = _CRASHES * (count - _CRASHES) - len(known_ms)
    false = world.taken_for_dead - set(crashed)
    note = f"{_CRASHES} crashes, {_CRASHES - len(found_ms)} not detected, max {max(found_ms):.3g} ms"
    yield row(f"{name}.balancer_p99", percentile(found_ms, 0.99), "ms", "<= 100", note=note)
    note = f"members alive at the end: {unknown} of {len(known_ms)} not reached, max {max(known_ms):.3g} ms"
    yield row(f"{name}.members_p99", percentile(known_ms, 0.99), "ms", "<= 100", note=note)
    yield row(f"{name}.false", len(false), "nodes", "<= 0")


def _partition() -> Iterator[Row]:
    world = World(_MANY)
    halves = world.names[: _MANY // 2], world.names[_MANY // 2 :]
    healed_ms = _GRACE_MS + _APART_MS
    world.at(_GRACE_MS, lambda: world.mesh.divide(halves, apart=True))
    world.at(healed_ms, lambda: world.mesh.divide(halves, apart=False))
    world.run(healed_ms + _WHOLE_MS)
    out_ms = {node: at_ms - _GRACE_MS for at_ms, node in reversed(world.removed) if at_ms <= healed_ms}
    stays, goes = sorted((set(half) for half in halves), key=lambda half: len(half & set(out_ms)))
    found = [out_ms[node] for node in goes if node in out_ms]
    note = f"of {len(goes)} nodes on the side that is removed, the last one after {max(found):.0f} ms"
    yield row("gossip.partition.removed", len(found), "nodes", note=note)
    note = f"of {len(stays)} nodes on the side that stays: all their monitors are on the other side"
    yield row("gossip.partition.removed_beside", len(stays & set(out_ms)), "nodes", note=note)
    yield _back("gossip.partition.back", world, healed_ms)


def _restart() -> Iterator[Row]:
    world, draws = World(_MANY), random.Random(_MANY)
    chosen, again_ms = draws.sample(world.names, _MANY // 3), _GRACE_MS + _APART_MS
    for node in chosen:
        world.at(_GRACE_MS, partial(world.mesh.kill, node))
        world.at(again_ms + draws.uniform(0, _GAP_MS), partial(world.mesh.restart, node))
    world.run(again_ms + _WHOLE_MS)
    out = {node: at_ms - _GRACE_MS for at_ms, node in reversed(world.removed)}
    noticed = sorted(out[node] for node in chosen if node in out)
    note = f"of {len(chosen)}; p50 {percentile(noticed, 0.5):.0f} ms, p99 {percentile(noticed, 0.99):.0f} ms"
    yield row("gossip.restart.noticed", len(noticed), "nodes", note=note)
    yield row("gossip.restart.removed_beside", len(set(out) - set(chosen)), "nodes", "<= 0")
    yield _back("gossip.restart.back", world, again_ms)


def _back(name: str, world: World, since_ms: float) -> Row:
    """Return when the last node was back in service, of those that were removed."""
    at_ms = max((at_ms for at_ms, _ in world.returned), default=since_ms) - since_ms
    out = {node for _, node in world.removed} - {node for _, node in world.returned}
    return row(name, at_ms, "ms", note=f"{len(out)} of {len({n for _, n in world.removed})} did not return")


def _calm(minutes: int) -> Iterator[Row]:
    world = World(_CALM_MEMBERS)
    world.run(minutes * 60 * NS_PER_S / NS_PER_MS)
    false = world.taken_for_dead
    watched_min = minutes * _CALM_MEMBERS
    note = f"{_CALM_MEMBERS} members, {minutes} min; at most {3 / watched_min:.2g} per node-minute at 95 %"
    yield row("gossip.calm", len(false), "nodes", "<= 0", note=note)
