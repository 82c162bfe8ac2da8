"""Which nodes have processes of their own: those whose processes a fault acts on, or all where the scenario says so."""

from __future__ import annotations

import pytest
import yaml

from testbed.errors import InputError
from testbed.scenario.apart import nodes_apart
from testbed.scenario.fault_kinds import FAULT_KINDS
from testbed.scenario.loading import load
from testbed.scenario.model import Scenario

NODES = ("n1", "n2", "n3")


def scenario(*faults: dict[str, object], agents: str | None = None) -> Scenario:
    return Scenario.model_validate(
        {
            "version": 1,
            "name": "apart",
            "duration": "20s",
            "topology": {"family": "cluster", "nodes": 3, "clients": 1},
            "traffic": [{"name": "base", "from": "c1", "shape": "constant", "rate": "1Mbit", "packet": "1000B"}],
            "faults": list(faults),
            **({} if agents is None else {"agents": agents}),
        }
    )


def test_without_faults_no_node_is_apart():
    assert nodes_apart(scenario(), NODES) == frozenset()


def test_all_are_apart_where_the_scenario_says_so():
    assert nodes_apart(scenario(agents="separate"), NODES) == set(NODES)


@pytest.mark.parametrize("kind", [row.name for row in FAULT_KINDS.values() if not row.heals and not row.between_of])
def test_a_node_is_apart_when_a_fault_stops_or_ends_its_processes(kind: str):
    row = FAULT_KINDS[kind]
    target = {"node": "n2", "link": "s1-n2", "groups": [["n1"], ["n2", "n3"]], "machine": 1}
    needs = {key: yaml.safe_load(example) for key, example in row.needs.items()}
    fault = {"at": "5s", kind: target.get(row.target, "controller"), **needs}
    stopped = row.ends_processes or row.holds_processes or row.order
    assert nodes_apart(scenario(fault), NODES) == ({"n2"} if stopped else set())


def test_what_agents_may_be_is_said(tmp_path):
    path = tmp_path / "x.yaml"
    data = scenario(agents="shared").resolved()
    data["agents"] = "split"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError, match="agents"):
        load(path)
