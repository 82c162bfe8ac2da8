"""The tables in which a scenario's names are looked up, and what validation and reports must know of each row.

The rows themselves stand in the files that implement them and know how to make what they name; here are their *traits*.
A file of our own is registered by its line below, a user's by `Registry.add`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from testbed.registry import Registry
from testbed.scenario.link_spec import with_links

if TYPE_CHECKING:
    from testbed.scenario.network import Network
    from testbed.scenario.topology import TopologySpec


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What every policy and family says of itself.

    Attributes:
        name: as a scenario writes it.
        doc: what it is, in a line.
        source: author, year, title where the idea comes from; empty where it is ours.
        options: the model of the keys of its own, written under ``options:``; None for none.
        refused_by: engines that cannot carry it out, each with the reason.
    """

    name: str
    doc: str
    source: str = ""
    options: type[BaseModel] | None = None
    refused_by: Mapping[str, str] = field(default_factory=dict)

    def defect(self) -> str:
        """Return why a plug-in cannot declare this row, empty where it can."""
        return ""


@dataclass(frozen=True, kw_only=True)
class BufferTraits(Traits):
    """Of a buffer policy.

    Attributes:
        predicts: whether it looks ahead.
        reads_plan: whether its forecaster needs the traffic plan.
        reads_model: whether its forecaster needs a model file: `buffer.model`, or the one shipped.
        needs_model: whether none is shipped for it.
        heeds_precursors: whether its sizes depend on how strongly a burst is announced.
        shares_pool: whether a node holds at most `alpha` × the free pool.
        among_active: whether the nodes that hold more than their initial limit share that `alpha`.
        sheds: whether it drops to shorten a queue: its sizes are in force at once, below the backlog, too.
    """

    predicts: bool = False
    reads_plan: bool = False
    reads_model: bool = False
    needs_model: bool = False
    heeds_precursors: bool = False
    shares_pool: bool = False
    among_active: bool = False
    sheds: bool = False


@dataclass(frozen=True, kw_only=True)
class BalancerTraits(Traits):
    """Of a balancer policy.

    Attributes:
        places_flows: whether the controller places every flow when its first packet comes; else the switch does, by the
            slots that the policy deals.
        in_turn: whether each new flow takes the next slot of the table, in place of the slot that its hash names.
    """

    places_flows: bool = False
    in_turn: bool = False


@dataclass(frozen=True, kw_only=True)
class AutoscalerTraits(Traits):
    """Of an autoscaler policy.

    Attributes:
        reads_plan: whether it is given the traffic plan.
    """

    reads_plan: bool = False


@dataclass(frozen=True, kw_only=True)
class PlacementTraits(Traits):
    """Of a placement policy.

    Attributes:
        reads_plan: whether it is given the planned demand, and reports without delay.
    """

    reads_plan: bool = False


def _fits(_: TopologySpec) -> str:
    return ""


def _free(_: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return {}


def _one_place(_: TopologySpec) -> dict[str, tuple[int, int]]:
    return {}


@dataclass(frozen=True, kw_only=True)
class FamilyTraits(Traits):
    """Of a topology family.

    Attributes:
        describe: returns the network of a `topology` of this family.
        defaults: values of keys of `topology` where the scenario has none and the family needs others.
        keys: keys of `topology` that have a meaning in this family, of those that do not have one in every family.
        refusal: returns why a `topology` of this family cannot be, empty where it can.
        sizes: returns the values of keys of `topology` that follow from its `options`, where they do.
        sites: returns how many nodes each site has at the start, and how many may be added; empty without sites.
    """

    describe: Callable[[TopologySpec], Network]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    refusal: Callable[[TopologySpec], str] = _fits
    sizes: Callable[[Mapping[str, Any] | None], Mapping[str, Any]] = _free
    sites: Callable[[TopologySpec], dict[str, tuple[int, int]]] = _one_place


@dataclass(frozen=True, kw_only=True)
class ShapeTraits(Traits):
    """Of a shape of traffic."""


@dataclass(frozen=True, kw_only=True)
class MetricTraits(Traits):
    """Of a figure of a summary; `name` is its dotted path, as an expectation names it.

    Attributes:
        unit: what it is counted in; decides how it is written (`report.written`).  ``name`` for a text.
        section: the group it belongs to on the page.
        label: what it is called there.
        lower_is_better: None where neither is.
        silent: whether it is left out of the page where it is 0.
        line: its part of the line of its group on the terminal, with ``{}`` for the value, ``{bare}`` for the value
            without its unit; empty for none.
        noun: what is counted, where the value is to be written with it, such as ``resize``.
        key: its name in JSON tables of comparisons and sweeps; empty where it has no column.
        column: its header there.
        varied: beginning of the parameters, such as ``buffer.``, with which a sweep has the column; empty for all.
    """

    unit: str
    section: str
    label: str
    lower_is_better: bool | None = None
    silent: bool = False
    line: str = ""
    noun: str = ""
    key: str = ""
    column: str = ""
    varied: str = ""

    @property
    def is_figure(self) -> bool:
        """Return whether it is a number, which can be expected to be something."""
        return self.unit != "name"


BUFFER_POLICIES: Registry[BufferTraits] = Registry(
    "buffer policy",
    (
        "testbed.policies.buffer_static",
        "testbed.policies.buffer_bdp",
        "testbed.policies.buffer_dynamic_threshold",
        "testbed.policies.buffer_codel",
        "testbed.policies.buffer_pie",
        "testbed.policies.buffer_reactive",
        "testbed.policies.buffer_ewma",
        "testbed.policies.buffer_holt",
        "testbed.policies.buffer_credence",
        "testbed.forecaster.buffer_lstm",
        "testbed.forecaster.buffer_onnx",
        "testbed.policies.buffer_oracle",
    ),
)
BALANCER_POLICIES: Registry[BalancerTraits] = Registry(
    "balancer policy",
    (
        "testbed.policies.balancer_ready_first",
        "testbed.policies.balancer_headroom",
        "testbed.policies.balancer_two_choices",
        "testbed.policies.balancer_least_loaded",
        "testbed.policies.balancer_round_robin",
        "testbed.policies.balancer_by_rate",
        "testbed.policies.balancer_turns",
        "testbed.policies.balancer_cooperative",
        "testbed.policies.balancer_hash",
        "testbed.policies.balancer_per_flow",
    ),
)
AUTOSCALER_POLICIES: Registry[AutoscalerTraits] = Registry(
    "autoscaler policy",
    (
        "testbed.policies.autoscaler_fixed",
        "testbed.policies.autoscaler_predictive",
        "testbed.policies.autoscaler_hpa",
        "testbed.policies.autoscaler_target",
        "testbed.policies.autoscaler_oracle",
    ),
)
TOPOLOGIES: Registry[FamilyTraits] = Registry(
    "topology family",
    (
        "testbed.topologies.single",
        "testbed.topologies.cluster",
        "testbed.topologies.cascade",
        "testbed.topologies.two_switch",
        "testbed.topologies.tree",
        "testbed.topologies.leaf_spine",
        "testbed.topologies.multi_site",
    ),
)
PLACEMENT_POLICIES: Registry[PlacementTraits] = Registry(
    "placement policy",
    (
        "testbed.policies.placement_ready",
        "testbed.policies.placement_nearest",
        "testbed.policies.placement_least_loaded",
        "testbed.policies.placement_static",
        "testbed.policies.placement_oracle",
    ),
)

TRAFFIC_SHAPES: Registry[ShapeTraits] = Registry("traffic shape", ("testbed.traffic.shapes", "testbed.traffic.wave"))
METRICS: Registry[MetricTraits] = Registry(
    "metric",
    (
        "testbed.results.metrics.packets",
        "testbed.results.metrics.buffers",
        "testbed.results.metrics.objective",
        "testbed.results.metrics.forecasts",
        "testbed.results.metrics.connections",
        "testbed.results.metrics.failover",
        "testbed.results.metrics.control",
        "testbed.results.metrics.elasticity",
        "testbed.results.metrics.sites",
    ),
)


class NameIn:
    """Marks a text of a model that must be a name of a table; the table is read when a scenario is."""

    def __init__(self, table: Registry[Any]) -> None:
        self.table = table

    @property
    def allowed(self) -> tuple[str, ...]:
        """Return the names it may be."""
        return self.table.names

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, core_schema.any_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.allowed)}

    def _known(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.table:
            raise PydanticKnownError("literal_error", {"expected": ", ".join(map(repr, self.table.names))})
        return value


class NameBeside(NameIn):
    """Marks a text that must be a name which a plug-in declares."""

    @property
    def allowed(self) -> tuple[str, ...]:
        """Return the names of plug-ins."""
        return tuple(name for name in self.table.names if not self.table.is_ours(name))


BufferPolicyName = Annotated[str, NameIn(BUFFER_POLICIES)]
BalancerPolicyName = Annotated[str, NameIn(BALANCER_POLICIES)]
AutoscalerPolicyName = Annotated[str, NameIn(AUTOSCALER_POLICIES)]
TopologyFamily = Annotated[str, NameIn(TOPOLOGIES)]
PlacementPolicyName = Annotated[str, NameIn(PLACEMENT_POLICIES)]
OwnShape = Annotated[str, NameBeside(TRAFFIC_SHAPES)]


def described(topology: TopologySpec) -> Network:
    """Return the network that a scenario's `topology` names."""
    return with_links(TOPOLOGIES[topology.family].describe(topology), topology.links)


def options_of(row: Traits, given: Mapping[str, Any] | None) -> BaseModel | None:
    """Return the options of a row as its own model has them, defaults filled in; None for a row without any.

    Raises:
        ValueError: when the row has no such option, or the value is none of its.
    """
    if row.options is None:
        if given:
            raise ValueError(f"{row.name} has no options; remove them")
        return None
    try:
        return row.options.model_validate(given or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(["options", *map(str, first["loc"])])
        known = ", ".join(row.options.model_fields)
        raise ValueError(f"{at} of {row.name}: {first['msg']}; its options: {known}") from None
