"""A connection to a `FakeSwitch`: it grants roles when a test says so, and refuses to be ordered about before."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.controllers.openflow import Message
from testbed.controllers.switch import MasterGranted, Role
from tests.fake_flow_table import FakeSwitch


class FakeLink:
    """Carries orders out at once.

    Attributes:
        open: whether an order may come; one that comes when it is not fails the test.
    """

    def __init__(self) -> None:
        self.switch, self.barriers, self.open = FakeSwitch(), 0, True
        self.sent: list[Message] = []

    def send(self, messages: Sequence[Message]) -> int:
        self.post(messages)
        self.barriers += 1
        return self.barriers

    def post(self, messages: Sequence[Message]) -> None:
        assert self.open, f"an order without the master role: {messages[0]}"
        self.switch.apply(messages)
        self.sent += messages


class FakeConnection:
    """Remembers the roles that were asked for; its link is open while the last request stands granted."""

    def __init__(self) -> None:
        self.link = FakeLink()
        self.link.open = False
        self.asked: list[tuple[Role, int]] = []
        self.prepared: set[Message] = set()

    def request_role(self, role: Role, generation: int) -> int:
        self.link.open = False
        self.asked.append((role, generation))
        return len(self.asked)

    def prepare(self, messages: Sequence[Message]) -> None:
        self.prepared |= set(messages)

    def grant(self, request: int | None = None) -> MasterGranted:
        """Answer a request for the master role, the last one by default."""
        request = len(self.asked) if request is None else request
        self.link.open |= request == len(self.asked)
        return MasterGranted(self, request, self.link)
