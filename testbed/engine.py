"""The seam between a run and the engines that carry trials out.

    TrialPlan ─▶ Engine.run(plan, recorder) ─▶ Outcome

A run knows neither how packets are moved nor what time is: it makes the plan, hands in who writes down, and gets what
there is to count.  An engine knows nothing of run directories, verdicts and reports.

After the traffic the queues drain, which takes a full buffer of 10 MB two seconds at 40 Mbit/s and more than two hours
at 10 kbit/s.  So that wait has an end, the same in all engines; what is in a queue then is in flight, and counted so.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from testbed.policies.forecast import MakeForecaster
from testbed.records.engines import ENGINES
from testbed.records.evidence import Evidence
from testbed.records.phases import Phases
from testbed.scenario.complaints import Complaint
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.traffic.packet_times import PacketTimes
from testbed.traffic.plan import PacketPlan
from testbed.units import NS_PER_MS, NS_PER_S

LONGEST_DRAIN_NS = 600 * NS_PER_S
STOPPED_DRAIN_NS = 300 * NS_PER_MS  # of a run that was stopped: what is on its way to a queue is in it by then


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """The order for a trial.

    Attributes:
        scenario, network: what to build.
        packets: what to send.
        make_forecaster: gives a fresh forecaster for nodes and their rates, None when the policy has none.
        seed_of: derives the seed of a named stream.
        logs: where processes of the trial write.
        phases: of the set-up, begun.
        run_id: the mark in every data packet.
        restarts: whether a process that ends unexpectedly is restarted, if the engine can do that, or ends the trial.
    """

    scenario: Scenario
    network: Network
    packets: PacketPlan
    make_forecaster: MakeForecaster
    seed_of: Callable[[str], int]
    logs: Path
    phases: Phases = field(default_factory=Phases)
    restarts: bool = False

    @property
    def run_id(self) -> int:
        """Return the 32-bit mark of this run's packets."""
        return zlib.crc32(self.packets.digest().encode()) or 1

    @property
    def longest_drain_ns(self) -> int:
        """Return how long the queues may drain after the traffic: as long as a full one takes, within bounds."""
        slowest_bps = min(self.network.node_rate_bps(node.name) for node in self.network.nodes)
        full_ns = self.scenario.buffer.max_bytes * 8 * NS_PER_S // slowest_bps
        trunks = (link.queue_bytes * 8 * NS_PER_S // link.rate_bps for link in self.network.trunks if link.rate_bps)
        return min(full_ns + max(trunks, default=0) + NS_PER_S, LONGEST_DRAIN_NS)


class Writer(Protocol):
    """Writes the records of a trial while it runs; `results.run_directory.RunDirectory` is one."""

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """Process rows of samples (`records.samples.COLUMNS`) as columns of equal length."""

    def append_event(self, t_ns: int, record: Mapping[str, Any]) -> None:
        """Process one record of an event."""

    def checkpoint(self) -> object:
        """Write what is due; called several times a second."""


class Recorder(Writer, Protocol):
    """A writer that also gets what a trial waits for."""

    def waiting(self, what: str, for_ns: int) -> None:
        """Process what is being done, and for how long no traffic has flowed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a trial.

    Attributes:
        evidence: counts and times.
        interrupted: whether it was stopped early, in order.
        manifest: what the manifest should say beside.
        packets: when each packet was seen, where the scenario asks for it.
    """

    evidence: Evidence
    interrupted: bool = False
    manifest: Mapping[str, Any] = field(default_factory=dict)
    packets: PacketTimes | None = None


class Engine(Protocol):
    """Carries trials out; `records.engines` has a row for each."""

    def complaints(self, scenario: Scenario, network: Network) -> Iterator[Complaint]:
        """Yield why this engine has no way to run a scenario."""

    def programs(self) -> Mapping[str, Path]:
        """Return the compiled programs it loads, by name: their hashes belong to the provenance of a run."""

    def datapath(self, scenario: Scenario) -> str | None:
        """Return the kind of Open vSwitch datapath it uses for a scenario, None: it uses none."""

    def run(self, plan: TrialPlan, recorder: Recorder) -> Outcome:
        """Run one trial; a request to stop ends it in order.

        Raises:
            InputError: what it has no way to do.
            Interrupted: stopped before there was anything to count.
            TestbedError: what failed.
        """


def engine(name: str) -> Engine:
    """Return the engine of a name (`records.engines.ENGINES`)."""
    module, _, made = ENGINES[name].where.partition(":")
    return cast("Engine", getattr(importlib.import_module(module), made)())
