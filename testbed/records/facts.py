"""What a reader must know of the scenario to judge a run: few plain values, kept in the manifest.

Reports read a run directory and nothing else, so the facts they need travel in ``manifest.json`` and no reader has to
parse scenario files of earlier versions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from testbed.files import records
from testbed.files.records import Count, Figure, Name, Positive, Text
from testbed.scenario.autoscaler import AutoscalerSpec
from testbed.scenario.model import Scenario
from testbed.scenario.network import Network
from testbed.scenario.objective import ObjectiveSpec
from testbed.scenario.sources import ETHERNET_BYTES
from testbed.scenario.tables import BUFFER_POLICIES

_USUAL = ObjectiveSpec.model_validate({})


@dataclass(frozen=True, slots=True)
class RunFacts:
    """The facts of one run.

    Attributes:
        scenario: the scenario's name.
        engine: which engine ran it.
        seed: the seed used.
        duration_ns: how long traffic is planned to last.
        buffer_policy, balancer_policy: names as in the scenario.
        floor_bytes, cap_bytes: least and largest buffer limit of one node.
        sample_interval_ns: planned distance of two samples of a node.
        largest_packet_bytes: largest frame in the traffic, the grain of every comparison of queues.
        node_rate_bps: service rate of each node, in the order of the network.
        expect: the scenario's expectations.
        question: the comment that opens the scenario file.
        second_tier: nodes the balancer gives no flows to.
        loss_weight, delay_weight_per_s, memory_weight_per_s, delay_target_ns: the scenario's `objective`; runs of
            earlier versions are weighed by its defaults.
        node_price_usd: what a node costs an hour.
    """

    scenario: Name
    engine: str
    seed: Count
    duration_ns: Positive
    buffer_policy: Name
    balancer_policy: Name
    floor_bytes: Count
    cap_bytes: Count
    sample_interval_ns: Positive
    largest_packet_bytes: Positive
    node_rate_bps: Mapping[Name, Positive] = field(default_factory=dict)
    expect: tuple[Text, ...] = ()
    question: Text = ""
    second_tier: tuple[Name, ...] = ()
    loss_weight: Figure = _USUAL.loss_ratio
    delay_weight_per_s: Figure = _USUAL.delay.per_s
    memory_weight_per_s: Figure = _USUAL.memory_per_s
    delay_target_ns: Positive = _USUAL.delay.target_ns
    node_price_usd: Figure = AutoscalerSpec.model_validate({}).price_usd

    @classmethod
    def of(cls, scenario: Scenario, network: Network, engine: str, question: str = "") -> RunFacts:
        """Return the facts of a scenario and the network it describes."""
        return cls(
            scenario=scenario.name,
            engine=engine,
            seed=scenario.seed,
            duration_ns=scenario.duration_ns,
            buffer_policy=scenario.buffer.policy,
            balancer_policy=scenario.balancer.policy,
            floor_bytes=scenario.buffer.min_bytes,
            cap_bytes=scenario.buffer.max_bytes,
            sample_interval_ns=scenario.buffer.sample_interval_ns,
            largest_packet_bytes=max(
                [ETHERNET_BYTES] * bool(scenario.tcp) + [source.packet_bytes for source in scenario.planned]
            ),
            node_rate_bps={node.name: network.node_rate_bps(node.name) for node in network.nodes},
            expect=scenario.expect,
            question=question,
            second_tier=tuple(node.name for node in network.nodes if node.tier > 1),
            loss_weight=scenario.objective.loss_ratio,
            delay_weight_per_s=scenario.objective.delay.per_s,
            memory_weight_per_s=scenario.objective.memory_per_s,
            delay_target_ns=scenario.objective.delay.target_ns,
            node_price_usd=scenario.autoscaler.price_usd,
        )

    @property
    def predicts(self) -> bool:
        """Return whether the buffer policy looks ahead; of one that is not known here, the samples show it."""
        return self.buffer_policy not in BUFFER_POLICIES or BUFFER_POLICIES[self.buffer_policy].predicts

    def to_record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> RunFacts:
        """Return the facts that `to_record` wrote; keys of later versions are left out.

        Raises:
            pydantic.ValidationError: when a fact is missing, or none of its type.
        """
        return records.made(record, cls)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
