"""The controllers as processes: what they are given, and a way for what they tell.

notifications ─▶ one socket that both hold ─▶ balancer ── inputs ──▶ standby      (`controllers.replication`)
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from testbed.controllers import process, replication, standby
from testbed.controllers.config import BalancerConfig
from testbed.emulation.processes.channel import EventRecord, RecordWriter
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.trial_process import Body, TrialConnection, TrialProcess
from testbed.records.events import Record
from testbed.records.processes import BalancerReady, StandbyReady
from testbed.system import kernel

CONTROLLER_PORT, STANDBY_PORT = 6653, 6654
CONTROLLERS = ("balancer", "standby")  # processes, in the order in which they are active
_PRIORITY = 8  # a machine of its own, as the switch is: what it decides is not to wait for other processes

Fork = Callable[[str, Body], TrialProcess]
PulseOf = Callable[[str], Pulse]


def fork(
    config: BalancerConfig, at: tuple[str, int], forked: Fork, pulse_of: PulseOf, *, standby: bool
) -> list[TrialProcess]:
    """Fork the balancer, and with a standby also that, with the other end of a line to it.

    Args:
        config: of the balancer; the standby differs in the port that the switch connects to.
        at: where notifications arrive.
        forked: forks a process by name and body.
        pulse_of: returns the pulse of a process, made before it is forked.
        standby: whether there is one.
    """
    notifications = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    notifications.bind(at)
    ends = list(replication.line()) if standby else []
    pulses = [pulse_of(name) for name in CONTROLLERS[: max(1, len(ends))]]
    bodies = [_balancing(config, notifications, ends, pulses[0])]
    bodies += [_following(config, notifications, ends, pulses[1])] if ends else []
    members = [forked(name, body) for name, body in zip(CONTROLLERS, bodies, strict=False)]
    for end in (notifications, *ends):
        end.close()
    return members


def _balancing(config: BalancerConfig, notifications: socket.socket, ends: list[socket.socket], pulse: Pulse) -> Body:
    def balance(trial: TrialConnection, records: RecordWriter) -> None:
        for end in ends[1:]:
            end.close()
        kernel.run_in_real_time(_PRIORITY, with_threads=True)
        first = beating(config, pulse, trial)
        process.serve(first, notifications, emitter(trial, records, BalancerReady), *ends[:1])

    return balance


def _following(config: BalancerConfig, notifications: socket.socket, ends: list[socket.socket], pulse: Pulse) -> Body:
    def follow(trial: TrialConnection, records: RecordWriter) -> None:
        ends[0].close()
        kernel.run_in_real_time(_PRIORITY, with_threads=True)
        second = beating(replace(config, listen_port=STANDBY_PORT), pulse, trial)
        standby.stand_by(second, notifications, emitter(trial, records, StandbyReady), ends[1])

    return follow


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
