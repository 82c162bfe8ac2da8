"""The connection from nodes to the balancer: each node sends from its own network, with its own key.

A process that runs the agents of many nodes opens one socket in the network namespace of each node and holds the key
ring of each.  It sends one datagram per node that must notify.  One message for several nodes would have to be
authenticated with the key of one of them, and this node could then send messages in the name of the others
(`wire.sealing`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from testbed.policies.membership import BALANCER
from testbed.records.events import NotifyBalancer
from testbed.system import kernel, waiting
from testbed.wire import notification
from testbed.wire.sealing import MAX_DATAGRAM_BYTES, Channel, Keyring, Opener, Sealer

Address = tuple[str, int]


class Notifier:
    """Sends the notifications of nodes, and hears which siblings the balancer names them."""

    def __init__(
        self, namespaces: Sequence[tuple[int, Keyring]], balancer: Callable[[], Address], now_ns: Callable[[], int]
    ) -> None:
        """Open a socket in the namespace of each node, given by a process in it and the node's keys.

        `balancer` returns where it is, which may change, and raises `OSError` while that is not known; `now_ns` is the
        run's clock, which may not have begun.
        """
        self._now_ns, self._balancer, self._to = now_ns, balancer, cast("Address | None", None)
        self._sockets = {ring.owner: _opened(pid) for pid, ring in namespaces}
        self._rings = {ring.owner: ring for _, ring in namespaces}

    def begin(self) -> None:
        """Begin to speak and to listen, as the run begins."""
        self._sealers = {node: Sealer(ring, Channel.NOTIFICATION, self._now_ns) for node, ring in self._rings.items()}
        self._openers = {node: Opener(ring, Channel.SIBLINGS, self._now_ns()) for node, ring in self._rings.items()}

    def send(self, action: NotifyBalancer) -> list[str]:
        """Send what the nodes of a notification say; return those whose datagram is lost."""
        lost = []
        for node, body in notification.bodies(action):
            try:
                self._aim()
                for _, datagram in self._sealers[node].seal(body, (BALANCER,)):
                    self._sockets[node].send(datagram)
            except OSError:
                # The balancer is away, or the mesh is full: the next notification is 100 ms off at most and tells all.
                lost.append(node)
        return lost

    def _aim(self) -> None:
        """Connect the sockets to where the balancer is."""
        to = self._balancer()
        if to != self._to:
            for line in self._sockets.values():
                line.connect(to)
            self._to = to

    def close(self) -> None:
        """Close the sockets."""
        for line in self._sockets.values():
            line.close()

    def named(self) -> Iterator[tuple[str, str]]:
        """Yield the nodes that were named a sibling since the last call, with the sibling: in order, empty for none."""
        heard = waiting.readable([line.fileno() for line in self._sockets.values()], 0)
        for node, line in self._sockets.items() if heard else ():
            while True:
                try:
                    opened = self._openers[node].open(line.recv(MAX_DATAGRAM_BYTES))
                    answer = notification.decode_siblings(opened.body) if opened is not None else None
                except ValueError:
                    continue
                except OSError:
                    break  # nothing (more) there, or the balancer is away: the last name stays
                if answer is not None:
                    yield from (
                        (node, name) for own, name in zip(answer.nodes, answer.siblings, strict=True) if own == node
                    )


def _opened(pid: int) -> socket.socket:
    with kernel.network_of(pid):
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
