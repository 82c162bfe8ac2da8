"""Reports the state of a node to the roster and receives the node's lifecycle state."""

from __future__ import annotations

from collections.abc import Callable

from testbed.deployment.pod import bound
from testbed.units import NS_PER_S
from testbed.wire.mesh_messages import ORCHESTRATOR
from testbed.wire.node_report import INTERVAL_NS, Answer, Report, decode_answer, encode_report
from testbed.wire.sealing import MAX_DATAGRAM_BYTES, Channel, Keyring, Opener, Sealer

REPORT_PORT = 7002
UNANSWERED_NS = 2 * NS_PER_S  # without an answer for this time the roster counts as gone


class Reporter:
    """Sends a report every `INTERVAL_NS` and keeps the last answer.

    Attributes:
        answer: the last one; None before the first.
        draining: whether the reports ask to be drained.
    """

    def __init__(
        self,
        ring: Keyring,
        to: Callable[[], tuple[str, int]],
        look: Callable[[], Report],
        now_ns: Callable[[], int],
    ) -> None:
        """Report what `look` returns to where `to` says; that raises `OSError` while it is not known."""
        self._seal, self._open = Sealer(ring, Channel.REPORT, now_ns).seal, Opener(ring, Channel.ANSWER, now_ns()).open
        self._to, self._look, self._now_ns = to, look, now_ns
        self._line = bound(0)
        self.answer: Answer | None = None
        self.draining = False
        self.heard_ns = self._next_ns = now_ns()

    def fileno(self) -> int:
        """Return what can be read when there is an answer."""
        return self._line.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._line.close()

    def due_ns(self) -> int:
        """Return when `turn` is due."""
        return self._next_ns

    def turn(self) -> None:
        """Take in answers, and report if it is time."""
        while True:
            try:
                opened = self._open(self._line.recv(MAX_DATAGRAM_BYTES))
                self.answer = decode_answer(opened.body) if opened is not None else self.answer
            except ValueError:
                continue
            except OSError:
                break
            self.heard_ns = self._now_ns() if opened is not None else self.heard_ns
        if self._now_ns() >= self._next_ns:
            self._next_ns = self._now_ns() + INTERVAL_NS
            self._report()

    def _report(self) -> None:
        body = encode_report(self._look()._replace(draining=self.draining))
        try:
            for _, datagram in self._seal(body, (ORCHESTRATOR,)):
                self._line.sendto(datagram, self._to())
        except OSError:
            return  # the roster is unreachable, or its address is not known yet: the next report follows soon

    @property
    def unanswered_ns(self) -> int:
        """Return for how long there has been no answer."""
        return self._now_ns() - self.heard_ns
