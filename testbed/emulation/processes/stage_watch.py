"""The stalls of each stage of a trial, collected once at its end."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from testbed.emulation.dataplane.node_buffers import NodeBuffers
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.sender import SendReport
from testbed.records.stages import NOTED_NS, OrderedFault, Stage, StageKind, Stall, longest_stalls
from testbed.traffic.carried_out import CarriedOut
from testbed.units import NS_PER_MS

_KIND_OF: Mapping[str, StageKind] = {
    "agent": "agent",
    "mesh": "mesh",
    "TCP": "tcp",
    "balancer": "controller",
    "standby": "controller",
}


def sender_stages(reports: Sequence[Mapping[str, Any]]) -> Iterator[Stage]:
    """Yield the stage of every sender; a report has ``client`` and ``report``, a `SendReport`."""
    for told in reports:
        report: SendReport = told["report"]
        late_ns = report.worst_ns_per_ms
        worst = [Stall(int(ms) * NS_PER_MS, int(late_ns[ms])) for ms in np.flatnonzero(late_ns > NOTED_NS)]
        yield Stage("send", told["client"], longest_stalls(worst), report.lateness)


def packet_stages(buffers: NodeBuffers) -> Iterator[Stage]:
    """Yield the stages that packets pass, as the programs measured them; call it when the queues are drained."""
    for node, program in buffers.programs.items():
        yield Stage("stamp", node, program.late_stalls())
        yield Stage("way", node, program.way_stalls(), program.way())
        yield Stage("queue", node, buffers.sinks[node].queue_stalls(), buffers.sinks[node].queue())


def process_stages(
    pulses: Mapping[str, Pulse], t0_ns: int, now_ns: int, ended: Container[str] = (), ran_ns: int = 0
) -> Iterator[Stage]:
    """Yield the stage of every process that has a pulse.

    Args:
        pulses: by the name of the process.
        t0_ns: the start of the run (CLOCK_MONOTONIC).
        now_ns: the time; a process may stand still at this moment.
        ended: processes that have ended, by command or because their work is done.
        ran_ns: how long the run lasted; what comes later disturbs nothing.
    """
    for process, pulse in pulses.items():
        kind, _, place = process.partition(" ")
        stalls = pulse.stalls(t0_ns, None if process in ended else now_ns)
        yield Stage(_KIND_OF[kind], place if kind in ("agent", "mesh") else process, _until(stalls, ran_ns))


def _until(stalls: Sequence[Stall], end_ns: int) -> tuple[Stall, ...]:
    """Return the stalls that began before a time, cut there."""
    return tuple(Stall(s.began_ns, min(s.ended_ns, end_ns) - s.began_ns) for s in stalls if s.began_ns < end_ns)


def ordered_faults(done: CarriedOut) -> tuple[OrderedFault, ...]:
    """Return the faults of the scenario as they were carried out."""
    return tuple(
        OrderedFault(f.spec.kind, (f.spec.node,) if f.spec.node else (), f.step.at_ns, f.commanded_ns, f.over_ns)
        for f in done
    )
