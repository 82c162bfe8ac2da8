"""What a controller needs as a process of a trial: a pulse, and a function that forwards its records."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from testbed.controllers.config import BalancerConfig
from testbed.emulation.processes.channel import EventRecord, RecordWriter
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.trial_process import TrialConnection
from testbed.records.events import Record


def beating(config: BalancerConfig, pulse: Pulse, trial: TrialConnection) -> BalancerConfig:
    """Begin the pulse; return the configuration with it and with the connection of this process to the trial."""
    pulse.begin(time.monotonic_ns())
    return replace(config, beat=lambda: pulse.beat(time.monotonic_ns()), listening=trial.say_listening)


def emitter(
    trial: TrialConnection, records: RecordWriter, ready: type[Record]
) -> Callable[[int, dict[str, Any]], None]:
    """Return a function that forwards a controller's records; the record of kind `ready` makes it report readiness."""

    def emit(t_ns: int, line_: dict[str, Any]) -> None:
        records.send(EventRecord(t_ns, line_))
        if line_["kind"] == ready.__name__:
            trial.say_ready()

    return emit
