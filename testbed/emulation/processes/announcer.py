"""Sends the stages of the nodes to the balancer and to the members of the mesh, at every change and every 50 ms."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from testbed.records.events import SendStages, StagesAnnounced
from testbed.units import NS_PER_MS
from testbed.wire.mesh_messages import Codec
from testbed.wire.sealing import Keyring

ANNOUNCED_NS = 50 * NS_PER_MS


class Announcer:
    """Speaks for the orchestrator."""

    def __init__(
        self, to: Mapping[str, tuple[str, int]], ring: Keyring, now_ns: Callable[[], int], source: str = ""
    ) -> None:
        """Send from the address `source` to the balancer and every member, by name in `to`."""
        self._codec, self._to = Codec(ring, now_ns), to
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._socket.bind((source, 0))

    def announce(self, stages: StagesAnnounced) -> None:
        """Send to all of them; one that is lost is followed by the next."""
        sent = SendStages(to=tuple(self._to), nodes=stages.nodes, stage=stages.stage)
        for name, datagram in self._codec.datagrams((sent,)):
            try:
                self._socket.sendto(datagram, self._to[name])
            except OSError:
                continue  # nobody listens there
