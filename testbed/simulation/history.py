"""Records the inputs and outputs of the policies in a simulated run as they occur."""

from __future__ import annotations

from testbed.engine import Writer
from testbed.policies.base import Policy
from testbed.records.events import Action, Event, LogEntry
from testbed.records.written import OF_SITE, Direction, written
from testbed.simulation.agenda import Agenda


class History:
    """Feeds policies and writes down what they were given, what they answered, and what else happened."""

    def __init__(self, recorder: Writer, agenda: Agenda, site: str = "") -> None:
        """Write into `recorder`; the names of the policies of a `site` begin with it."""
        self._recorder, self._agenda = recorder, agenda
        self._prefix = f"{site}{OF_SITE}" if site else ""

    def feed(self, name: str, policy: Policy, event: Event) -> list[Action]:
        """Return what a policy answers now."""
        self.record(name, "in", event)
        actions = policy.handle(event, self._agenda.now_ns)
        for action in actions:
            self.record(name, "out", action)
        return actions

    def record(self, policy: str, direction: Direction | None, record: Event | Action | LogEntry) -> None:
        """Write an input or output of a policy, or what came of it."""
        self._recorder.append_event(self._agenda.now_ns, written(record, self._prefix + policy, direction))

    def note(self, record: LogEntry, process: str = "") -> None:
        """Write what happened beside the policies, and which process says so."""
        self._recorder.append_event(self._agenda.now_ns, written(record, self._prefix + process if process else ""))
