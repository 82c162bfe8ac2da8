"""The table of fault kinds: every row says what it is, and whoever carries it out is there."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import get_args

import pytest

from testbed.records.engines import ENGINES
from testbed.records.stages import StageKind
from testbed.scenario.fault import KEYS, FaultSpec
from testbed.scenario.fault_kinds import EVERYTHING, FAULT_KINDS, FaultKind, kind_of
from testbed.scenario.loading import schema

ACTS = {"emulation": "testbed.emulation.faults", "simulation": "testbed.simulation.fault_acts"}


def defects(row: FaultKind) -> list[str]:
    """Return what a row lacks."""
    found = [] if row.doc.strip() and "\n" not in row.doc else ["doc"]
    found += [] if row.heals or row.breaks.strip() else ["breaks"]
    found += [] if row.example else ["example"]
    for engine in ENGINES:
        try:
            found += (
                [] if row.heals or row.order or engine in row.refused_by else _without_act(f"{ACTS[engine]}.{row.act}")
            )
        except ModuleNotFoundError:
            found.append(f"act in the {engine}")
    return found


def _without_act(module: str) -> list[str]:
    return [] if hasattr(importlib.import_module(module), "Act") else [f"Act in {module}"]


@pytest.mark.parametrize("row", FAULT_KINDS.values(), ids=FAULT_KINDS)
def test_every_kind_says_what_it_is_and_is_carried_out(row):
    assert defects(row) == []


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ({"doc": " "}, ["doc"]),
        ({"breaks": ""}, ["breaks"]),
        ({"name": "meteor"}, ["act in the emulation", "act in the simulation"]),
        ({"name": "meteor", "refused_by": {"simulation": "there is no sky"}}, ["act in the emulation"]),
    ],
)
def test_a_row_that_lacks_something_is_found(change, lacking):
    assert defects(replace(FAULT_KINDS["crash"], **change)) == lacking


def test_what_a_kind_heals_or_repeats_is_a_kind():
    assert {row.state for row in FAULT_KINDS.values()} <= set(FAULT_KINDS)


def test_stages_that_stand_still_by_order_are_stages():
    assert set(get_args(StageKind)) == EVERYTHING
    assert all(row.stops <= EVERYTHING for row in FAULT_KINDS.values())


def test_every_kind_is_a_key_of_a_fault_with_its_line():
    keys = schema()["$defs"]["FaultSpec"]["properties"]
    assert {key: keys[key]["description"] for key in KEYS} == {key: FAULT_KINDS[key].doc for key in KEYS}
    assert {row.key for row in FAULT_KINDS.values()} == set(KEYS)


def test_a_fault_knows_its_target():
    spec = FaultSpec.model_validate({"at": "1s", "partition": [["n1"], ["n2", "n3"]]})
    assert (spec.kind, spec.groups, spec.node, spec.link) == ("partition", (("n1",), ("n2", "n3")), "", None)
    spec = FaultSpec.model_validate({"at": "1s", "link_down": "s1-n2"})
    assert (spec.kind, spec.groups, spec.node, spec.link) == ("link_down", (), "n2", "s1-n2")


def test_a_kind_of_another_version_explains_nothing():
    row = kind_of("meteor")
    assert (row.fails_over, row.ends_processes, row.stops, row.harmless_ns) == (False, False, frozenset(), 0)
