"""What a run costs in one figure, as a scenario weighs it: loss, delay and memory.

    cost = loss × lost bytes + delay.weight × byte-seconds queued beyond delay.target + memory × reserved byte-seconds

A lost byte is the unit, so the cost is written in MB: so many lost MB, or what is as bad.  The default weights:

**delay.weight = 1 / delay.target.**  *Power*, throughput over delay, is largest where one per cent of throughput is
worth one per cent of delay.  Of X bytes, one byte lost is 1/X of the throughput; one byte-second more adds 1/X seconds
to the mean delay, which is 1/(X · target) of a delay that is the target.  So a byte-second weighs 1/target lost bytes:
a byte that waits for one target beyond the target is as bad as a lost one.

**delay.target = 50 ms.**  CoDel lets a queue delay by 5 to 10 % of a round trip in the long run (5 ms at 100 ms), PIE
by 15 ms.  These are bounds for the *standing* queue, with bursts excused for a round trip.  A cost that counts each
byte has no such excuse, so its target has room for a burst: half of CoDel's interval of 100 ms, a choice of ours.

**memory = 0.02 / s.**  A break-even time, as in the five-minute rule for memory against disks: memory kept for 50 s to
save one byte in them costs what it saves.  The 50 s are a choice of ours, not a measurement; 0 leaves memory out.

The weights change no decision and no packet, so runs that differ in them alone had the same traffic.

Source: A. Giessler, J. Haenle, A. König, E. Pade, "Free buffer allocation: an investigation by simulation", Computer
Networks 2, 1978, and L. Kleinrock, "Power and deterministic rules of thumb for probabilistic problems in computer
communications", ICC 1979 (power); K. Nichols et al., RFC 8289, 2018, section 4 (target and interval of CoDel);
R. Pan et al., RFC 8033, 2017, section 4 (PIE); J. Gray, F. Putzolu, "The 5 minute rule for trading memory for disc
accesses", SIGMOD 1987.
"""

from __future__ import annotations

from pydantic import Field

from testbed import units
from testbed.scenario.base import Duration, Number, Spec

MAX_WEIGHT = 10**6


class DelayCostSpec(Spec):
    """What queued bytes cost."""

    target_ns: Duration = Field(
        "50ms",
        alias="target",
        gt=0,
        le=60 * units.NS_PER_S,
        description="queueing delay up to which no delay cost is counted",
    )
    weight_per_s: Number | None = Field(
        None,
        alias="weight",
        ge=0.0,
        le=MAX_WEIGHT,
        description="weight of one late byte-second, in equivalent lost bytes; default 1 / `delay.target`",
    )

    @property
    def per_s(self) -> float:
        """Return the weight, the default where none is written."""
        return units.NS_PER_S / self.target_ns if self.weight_per_s is None else self.weight_per_s


class ObjectiveSpec(Spec):
    """The weights of the cost of a run."""

    loss_ratio: Number = Field(1.0, alias="loss", ge=0.0, le=MAX_WEIGHT, description="weight of a lost byte")
    delay: DelayCostSpec = Field(default_factory=lambda: DelayCostSpec.model_validate({}))
    memory_per_s: Number = Field(
        0.02,
        alias="memory",
        ge=0.0,
        le=MAX_WEIGHT,
        description="weight of one byte reserved for one second, in equivalent lost bytes",
    )
