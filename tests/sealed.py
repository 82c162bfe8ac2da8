"""Control messages as nodes send them, for tests of who hears them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from testbed.policies.membership import BALANCER
from testbed.records.events import NotifyBalancer
from testbed.wire import notification
from testbed.wire.sealing import Channel, Keyring, RunSecret, Sealer

SECRET = bytes(range(32))
RUN_ID = 7


def ring(owner: str, nodes: Sequence[str], run_id: int = RUN_ID, secret: bytes = SECRET) -> Keyring:
    return RunSecret(secret).ring(owner, run_id, (*nodes, BALANCER))


def encoded(action: NotifyBalancer) -> bytes:
    """Return one datagram about all nodes of a notification; agents send one a node."""
    bodies = [body for _, body in notification.bodies(action)]
    head = bodies[0][: len(notification.MAGIC) + 1]
    return head + bytes((len(bodies),)) + b"".join(body[len(head) + 1 :] for body in bodies)


class Notifying:
    """Seals notifications of each of `nodes`; `sent_ns` says when, by default always a little later."""

    def __init__(self, nodes: Sequence[str]) -> None:
        self._times, self._at_ns = itertools.count(0), None
        self._sealers = {node: Sealer(ring(node, nodes), Channel.NOTIFICATION, self._now_ns) for node in nodes}

    def _now_ns(self) -> int:
        return next(self._times) if self._at_ns is None else self._at_ns

    def __call__(self, action: NotifyBalancer, sent_ns: int | None = None, *, by: str = "") -> bytes:
        self._at_ns = sent_ns
        ((_, datagram),) = self._sealers[by or action.nodes[0]].seal(encoded(action), (BALANCER,))
        return datagram
