"""What a trial knows of its stages becomes evidence: senders, processes, and the faults that were ordered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from testbed.emulation.dataplane.counting import client_evidence
from testbed.emulation.processes.pulse import Pulse
from testbed.emulation.processes.sender import SendReport
from testbed.emulation.processes.stage_watch import ordered_faults, process_stages, sender_stages
from testbed.records.histogram import Histogram
from testbed.records.stages import OrderedFault, Stall
from testbed.scenario.fault import FaultSpec
from testbed.scenario.fault_timeline import FaultStep
from testbed.traffic.carried_out import CarriedOut, Fault
from testbed.units import NS_PER_MS

MS = NS_PER_MS
T0_NS = 10**12
WHOLE = SendReport(
    planned_pkts=100, sent_pkts=100, sent_bytes=100_000, unsent_pkts=0, skipped_pkts=0, stopped=False, real_time=True,
    refusals={}, failure="", lateness=Histogram.of([1000] * 100), worst_ns_per_ms=np.zeros(10, dtype=np.int64),
    sent=bytes([255] * 13), stamps_ns=np.zeros(0, dtype=np.int64),
)  # fmt: skip


def told(report: SendReport) -> dict[str, object]:
    return {"client": "c1", "report": report}


@pytest.mark.parametrize(
    ("changes", "planned_pkts", "failed_pkts", "unexplained_pkts"),
    [
        ({}, 100, 0, 0),
        ({"sent_pkts": 60, "skipped_pkts": 40, "stopped": True}, 60, 0, 0),
        ({"sent_pkts": 60, "skipped_pkts": 40, "failure": "sending packet 60: Message too long"}, 100, 40, 0),
        ({"sent_pkts": 60, "unsent_pkts": 40}, 100, 0, 0),
        ({"sent_pkts": 60}, 100, 0, 40),
        ({"planned_pkts": 60, "sent_pkts": 60}, 100, 0, 40),  # a sender that was given too little
    ],
)
def test_every_packet_of_the_plan_was_sent_or_is_explained(
    changes: dict[str, object], planned_pkts: int, failed_pkts: int, unexplained_pkts: int
) -> None:
    client = client_evidence(told(replace(WHOLE, **changes)), planned_pkts=100)  # type: ignore[arg-type]
    assert (client.planned_pkts, client.failed_pkts, client.unexplained_pkts) == (
        planned_pkts,
        failed_pkts,
        unexplained_pkts,
    )


def test_a_sender_stood_still_from_the_worst_packets_planned_time_on() -> None:
    late_ns = np.array([0, 2 * MS, 300 * MS, 299 * MS, 10_000], dtype=np.int64)
    (stage,) = sender_stages([told(replace(WHOLE, worst_ns_per_ms=late_ns))])
    assert (stage.kind, stage.place, stage.stalls) == ("send", "c1", (Stall(2 * MS, 300 * MS),))
    assert stage.delays is WHOLE.lateness


def test_every_process_with_a_pulse_is_a_stage() -> None:
    names = ("agent n1", "mesh n1", "balancer", "standby", "TCP sink", "TCP source bulk")
    pulses = {name: Pulse(10 * MS) for name in names}
    for pulse in pulses.values():
        pulse.begin(T0_NS)
    pulses["mesh n1"].beat(T0_NS + 60 * MS)
    stages = process_stages(pulses, T0_NS, T0_NS + 100 * MS, ended={"TCP source bulk", "agent n1"}, ran_ns=90 * MS)
    found = {(stage.kind, stage.place): stage.stalls for stage in stages}
    assert found == {
        ("agent", "n1"): (),  # it has ended
        ("mesh", "n1"): (Stall(10 * MS, 50 * MS), Stall(70 * MS, 20 * MS)),
        ("controller", "balancer"): (Stall(10 * MS, 80 * MS),),  # standing still at the end
        ("controller", "standby"): (Stall(10 * MS, 80 * MS),),
        ("tcp", "TCP sink"): (Stall(10 * MS, 80 * MS),),
        ("tcp", "TCP source bulk"): (),
    }


def test_faults_are_told_with_their_times() -> None:
    done = CarriedOut(("n1",))
    pause, kill = (
        FaultSpec.model_validate(spec)
        for spec in ({"at": "1ms", "pause": "n1", "for": "3ms"}, {"at": "2ms", "kill": "controller"})
    )
    done.add(Fault(FaultStep(MS, True, 0), pause, MS + 7, 1)).over_ns = 4 * MS
    done.add(Fault(FaultStep(2 * MS, True, 1), kill, 2 * MS, 2))
    assert ordered_faults(done) == (
        OrderedFault("pause", ("n1",), MS, MS + 7, 4 * MS),
        OrderedFault("kill", (), 2 * MS, 2 * MS, None),
    )
