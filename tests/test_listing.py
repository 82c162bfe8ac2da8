"""`list`: everything a scenario may name is named, with what it is."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from testbed import commands
from testbed.scenario import plugins
from testbed.scenario.fault import KEYS
from testbed.scenario.tables import BALANCER_POLICIES, BUFFER_POLICIES, TOPOLOGIES
from testbed.system import places

PLUGIN = places.scenarios() / "plugins" / "ewma_peak.py"


def listed(*words: str) -> list[dict[str, str]]:
    done = CliRunner().invoke(commands.app, ["list", *words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_all_there_is_is_listed_with_what_it_is() -> None:
    lines = listed()
    assert all(line["doc"] for line in lines), [line["name"] for line in lines if not line["doc"]]
    names = {line["name"] for line in lines}
    tables = {*BUFFER_POLICIES.names, *BALANCER_POLICIES.names, *TOPOLOGIES.names, *KEYS}
    shapes = {"poisson", "constant", "on-off", "trace", "tcp"}
    assert names >= tables | shapes | {"emulation", "simulation", "burst.yaml", "sweeps/policies.yaml"}


def test_a_kind_is_listed_alone_and_a_plug_in_says_where_it_is() -> None:
    try:
        lines = listed("policies", "--plugin", str(PLUGIN))
    finally:
        plugins.forget([PLUGIN])
    assert {line["kind"] for line in lines} == {"buffer policy"}
    (own,) = [line for line in lines if line["name"] == "ewma-peak"]
    assert Path(own["source"]) == PLUGIN.resolve()
