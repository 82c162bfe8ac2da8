"""The tables of what a scenario may name: every row says what it is, and a row can come in at run time."""

from __future__ import annotations

import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import Field, ValidationError

from testbed.errors import InputError
from testbed.policies.balancer_view import BalancerRow, balancer_row
from testbed.policies.buffer import BufferPolicy, buffer_policy
from testbed.policies.buffer_rules import make_rule
from testbed.policies.buffer_static import StaticRule
from testbed.records.facts import RunFacts
from testbed.registry import Registry
from testbed.scenario.base import Spec
from testbed.scenario.buffer import BufferSpec
from testbed.scenario.loading import load, schema
from testbed.scenario.tables import (
    BALANCER_POLICIES,
    BUFFER_POLICIES,
    PLACEMENT_POLICIES,
    TOPOLOGIES,
    Traits,
    options_of,
)
from testbed.scenario.topology import TopologySpec
from testbed.topologies import describe

TABLES: tuple[Registry, ...] = (BUFFER_POLICIES, BALANCER_POLICIES, PLACEMENT_POLICIES, TOPOLOGIES)


class Sized(Spec):
    """Options of the policy that is added here."""

    size_bytes: int = Field(alias="size", gt=0)


def sized(spec: BufferSpec, count: int, members: int, ops: object) -> StaticRule:
    options = options_of(BUFFER_POLICIES[spec.policy], spec.options)
    return StaticRule(options.size_bytes, count, ops)


@pytest.fixture
def own_policy():
    row = BufferPolicy(name="sized", doc="a size of one's own", options=Sized, predicts=False, rule=sized)
    yield BUFFER_POLICIES.add(row)
    BUFFER_POLICIES.remove("sized")


def undocumented(table: Registry) -> list[str]:
    """Return the rows whose line is missing, or no line."""
    return [row.name for row in table if not row.doc.strip() or "\n" in row.doc or len(row.doc) > 110]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.what)
def test_every_row_says_in_a_line_what_it_is(table):
    assert table.names
    assert undocumented(table) == []


@pytest.mark.parametrize("doc", ["", "two\nlines"])
def test_a_row_without_a_line_is_found(doc):
    table: Registry = Registry("thing", ())
    table._rows["x"] = Traits(name="x", doc=doc)
    assert undocumented(table) == ["x"]


def test_rows_that_make_policies_say_how():
    assert all(isinstance(row, BufferPolicy) for row in BUFFER_POLICIES)
    assert all(isinstance(row, BalancerRow) for row in BALANCER_POLICIES)
    assert [row.name for row in BUFFER_POLICIES if row.predicts] == [
        row.name for row in BUFFER_POLICIES if buffer_policy(row.name).forecaster
    ]


def test_a_policy_that_places_flows_has_a_rule_that_can():
    for name in BALANCER_POLICIES.names:
        row = balancer_row(name)
        assert hasattr(row.rule(64, 3, random.Random(1)), "place") == row.places_flows


def test_a_policy_added_at_run_time_is_known_everywhere(own_policy, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "# Is it enough?\nversion: 1\nname: own\nduration: 1s\ntopology: {family: single}\n"
        "buffer: {policy: sized, options: {size: 700000}}\n"
        "traffic: [{name: base, from: c1, shape: constant, rate: 10Mbit}]\n"
    )
    scenario = load(path).scenario
    assert make_rule(scenario.buffer, np.array([10**8] * 2), 2).initial_bytes().tolist() == [700_000] * 2
    assert scenario.resolved()["buffer"]["options"] == {"size": 700_000}
    assert "sized" in schema()["$defs"]["BufferSpec"]["properties"]["policy"]["enum"]
    assert not RunFacts.of(scenario, describe(scenario.topology), "simulation").predicts


@pytest.mark.parametrize(
    ("options", "expected"), [({"size": 0}, "options.size of sized"), ({"sise": 3}, "options.si"), (None, "size")]
)
def test_options_are_held_against_the_model_of_the_policy(own_policy, options, expected):
    with pytest.raises(ValidationError, match=expected):
        BufferSpec.model_validate({"policy": "sized", "options": options})


def test_a_policy_without_options_takes_none():
    with pytest.raises(ValidationError, match="reactive has no options"):
        BufferSpec.model_validate({"policy": "reactive", "options": {"size": 3}})


def test_an_unknown_name_is_refused_with_those_that_there_are(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("version: 1\nname: x\nduration: 1s\ntopology: {family: clustre}\ntraffic: []\n")
    there = "one of single, cluster, cascade, two-switch, tree, leaf-spine, multi-site"
    with pytest.raises(InputError, match=f"{there}, got 'clustre'; did you mean 'cluster'"):
        load(path)


def test_a_name_is_given_once(own_policy):
    with pytest.raises(InputError, match="this name is already in use"):
        BUFFER_POLICIES.add(own_policy)
    with pytest.raises(InputError, match="its doc is empty"):
        BUFFER_POLICIES.add(replace(own_policy, name="other", doc=" "))


def test_a_run_of_a_policy_that_is_not_known_here_is_read_by_its_samples():
    facts = SimpleNamespace(buffer_policy="of-somebody-else")
    assert RunFacts.predicts.fget(facts)


def test_a_family_added_at_run_time_describes_its_network():
    cluster = TOPOLOGIES["cluster"]
    TOPOLOGIES.add(replace(cluster, name="pair", doc="two nodes", defaults={"nodes": 2}))
    try:
        spec = TopologySpec.model_validate({"family": "pair"})
        assert [node.name for node in describe(spec).nodes] == ["n1", "n2"]
    finally:
        TOPOLOGIES.remove("pair")
    shipped = ["single", "cluster", "cascade", "two-switch", "tree", "leaf-spine", "multi-site"]
    assert np.array_equal(TOPOLOGIES.names, shipped)
