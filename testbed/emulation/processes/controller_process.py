"""What a controller is given as a process of a trial: a pulse, and a way for what it tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from testbed.controllers.config import BalancerConfig
from testbed.emulation.processes.channel import EventRecord, RecordWriter
from testbed.emulation.processes.members import Line
from testbed.emulation.processes.pulse import Pulse
from testbed.records.events import Record


def beating(config: BalancerConfig, pulse: Pulse, line: Line) -> BalancerConfig:
    """Return the configuration with the pulse and the line of the process that calls this; the pulse has begun."""
    pulse.begin(time.monotonic_ns())
    return replace(config, beat=lambda: pulse.beat(time.monotonic_ns()), listening=line.say_listening)


def emitter(line: Line, records: RecordWriter, ready: type[Record]) -> Callable[[int, dict[str, Any]], None]:
    """Return what passes a controller's records on, and says that it is ready with the one of kind `ready`."""

    def emit(t_ns: int, line_: dict[str, Any]) -> None:
        records.send(EventRecord(t_ns, line_))
        if line_["kind"] == ready.__name__:
            line.say_ready()

    return emit
