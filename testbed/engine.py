"""What a trial is told before its sandbox is forked."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from testbed.policies.forecast import Forecaster
from testbed.records.events import Ints
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.traffic.plan import PacketPlan

MakeForecaster = Callable[[tuple[str, ...], Ints], "Forecaster | None"]


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """The order for a trial.

    Attributes:
        scenario, network: what to build.
        packets: what to send.
        make_forecaster: gives a fresh forecaster for nodes and their rates, None when the policy has none.
        seed_of: derives the seed of a named stream.
        logs: where daemons and members write.
        run_id: the mark in every data packet.
    """

    scenario: Scenario
    network: Network
    packets: PacketPlan
    make_forecaster: MakeForecaster
    seed_of: Callable[[str], int]
    logs: Path

    @property
    def run_id(self) -> int:
        """Return the 32-bit mark of this run's packets."""
        return zlib.crc32(self.packets.digest().encode()) or 1
