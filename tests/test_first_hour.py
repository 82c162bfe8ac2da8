"""What somebody meets in the first hour: schema, plan, all complaints, overwriting, pictures, logs, completion."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner, Result

import testbed
from testbed import commands
from testbed.errors import InputError
from testbed.results import running
from testbed.results.run_directory import RunDirectory
from testbed.scenario import loading, plugins
from testbed.scenario.keys import keys
from testbed.system import places

SCENARIO: dict[str, Any] = {
    **{"version": 1, "name": "small", "seed": 3, "duration": "300ms"},
    "topology": {"family": "cluster", "nodes": 2, "clients": 1, "node_rate": "10Mbit"},
    "buffer": {"policy": "reactive", "min": "0.05MB", "max": "1MB"},
    "traffic": [{"name": "base", "from": "c1", "shape": "poisson", "rate": "12Mbit", "flows": 20}],
}
SHIPPED = sorted(path for path in places.scenarios().rglob("*.yaml") if not {"sweeps", "claims"} & {*path.parts})


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: object) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump({**SCENARIO, **changes}))
        return path

    return write


def call(*words: object) -> Result:
    return CliRunner().invoke(commands.app, [str(word) for word in words])


def refused(*words: object) -> str:
    with pytest.raises(InputError) as raised:
        CliRunner().invoke(commands.app, [str(word) for word in words], standalone_mode=False, catch_exceptions=False)
    return str(raised.value)


# ------------------------------------------------------------------------------------------------------- schema


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return dict(json.loads(call("validate", "--schema").stdout))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_shipped_scenario_validates_against_the_schema(schema: dict[str, Any], path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    if path.parent.name == "plugins":
        plugins.load(path.parent / "ewma_peak.py")
        schema = loading.schema()
        plugins.forget([path.parent / "ewma_peak.py"])
    jsonschema.validate(loading.read(path).parsed.data, schema)


@pytest.mark.parametrize(
    "change",
    [
        {"duration": 300},
        {"duration": "300"},
        {"duration": "300 furlongs"},
        {"traffic": [{**SCENARIO["traffic"][0], "rate": 12_000_000}]},
        {"traffic": [{**SCENARIO["traffic"][0], "shape": "square"}]},
        {"buffer": {"min": 50_000}},
        {"buffer": {"policy": "nothing"}},
        {"bufer": {}},
    ],
)
def test_the_schema_refuses_what_a_scenario_may_not_have(schema: dict[str, Any], change: dict[str, Any]) -> None:
    jsonschema.validate(SCENARIO, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**SCENARIO, **change}, schema)


def test_every_key_says_what_it_is() -> None:
    rows = tuple(keys())
    assert len(rows) > 80
    assert [row.path for row in rows if not row.doc] == []


def test_validate_without_a_file_says_what_to_name() -> None:
    assert "no file was given" in refused("validate")


# --------------------------------------------------------------------------------------------------------- plan


def test_validate_shows_what_would_be_sent(written: Callable[..., Path]) -> None:
    constant = {"name": "base", "from": "c1", "shape": "constant", "rate": "8Mbit", "flows": 20, "packet": "1000B"}
    said = call("validate", "--plan", written(traffic=[constant])).stdout
    assert "base: 300 packets of" in said
    assert "mean 8 Mbit/s, busiest 10 ms 8 Mbit/s" in said
    assert "the nodes serve 20 Mbit/s: load 40%" in said
    assert "emulated: 0.3 s of traffic, set-up, and up to 0.8 s" in said  # 2 MB through 20 Mbit/s


# ---------------------------------------------------------------------------------------------- all complaints


def test_all_stages_say_what_is_wrong(written: Callable[..., Path]) -> None:
    good = SCENARIO["traffic"][0]
    path = written(
        buffer={"policy": "reactive", "min": "50 apples"},  # first stage
        traffic=[{**good, "rate": "fast"}, {**good, "name": "other", "from": "c7"}, {**good, "name": "other"}],
        faults=[{"at": "100ms", "crash": "n9"}],  # the stage after
        expect=["buffer.lost_ratio < 1", "buffer.loss_ratio < 1"],  # and the one after that
    )
    done = call("validate", "--all", path)
    assert done.exit_code == 2
    for part in ("buffer.min", "traffic.0.rate", "traffic.1.from", "traffic.2.name", "faults.0", "expect.0"):
        assert part in done.stderr, part
    assert done.stderr.count("\n") == 6
    assert "traffic.1.from" not in call("validate", path).stderr


def test_what_is_right_is_not_blamed_for_what_is_wrong(written: Callable[..., Path]) -> None:
    done = call("validate", "--all", written(buffer={"max": "1 apple", "min": "20MB"}))  # the default of max is 10 MB
    assert done.stderr.count("\n") == 1
    done = call(
        "validate",
        "--all",
        written(topology={"family": "cluster", "nodes": "two"}, faults=[{"at": "1ms", "crash": "n9"}]),
    )
    assert done.stderr.count("\n") == 1
    assert "topology.nodes" in done.stderr
    assert call("validate", "--all", written()).exit_code == 0


# --------------------------------------------------------------------------------------------------- overwriting


def test_a_run_is_overwritten_when_asked_and_nothing_else_is(written: Callable[..., Path], tmp_path: Path) -> None:
    path, out = written(), tmp_path / "run"
    assert call("simulate", path, "--out", out, "--quiet").exit_code == 0
    assert "exists already" in refused("simulate", path, "--out", out, "--quiet")
    (out / "old").touch()
    assert call("simulate", path, "--out", out, "--overwrite", "--quiet").exit_code == 0
    assert not (out / "old").exists()
    assert "it contains the scenario" in refused(
        "simulate", out / "scenario.yaml", "--out", out, "--overwrite", "--quiet"
    )
    (tmp_path / "precious").mkdir()
    assert "not a run directory" in refused("simulate", path, "--out", tmp_path / "precious", "--overwrite", "--quiet")
    link = tmp_path / "link"
    link.symlink_to(out)
    assert "symbolic link" in refused("simulate", path, "--out", link, "--overwrite", "--quiet")
    assert (out / "summary.json").exists()


def test_a_run_under_way_is_not_overwritten(written: Callable[..., Path], tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "run", {})
    assert "still in progress" in refused("simulate", written(), "--out", tmp_path / "run", "--overwrite", "--quiet")


# ----------------------------------------------------------------------------------------------- threads, the one run


def test_a_trial_and_a_sweep_run_from_a_thread(written: Callable[..., Path], tmp_path: Path) -> None:
    path, made = written(duration="100ms"), list[str | None]()
    sweep = tmp_path / "two.yaml"
    sweep.write_text(
        "# Which?\nversion: 1\nname: two\nscenario: small.yaml\nset: {buffer.policy: [reactive]}\nseeds: [1]\n"
    )

    def work() -> None:
        made.append(testbed.simulate(path, out=tmp_path / "run").verdict)
        made.append(str(len(testbed.sweep(sweep, engine="simulation", out=tmp_path / "swept").rows)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert made == ["VALID", "1"]


def test_the_only_run_under_way_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    found = [running.RunningRun(1, run.path)]
    monkeypatch.setattr(running, "running", lambda: found)
    (run.path / "logs" / "switch.log").write_text("".join(f"line {number}\n" for number in range(50)))
    done = call("logs", "--lines", "2")
    assert done.stdout == "==> logs/switch.log <==\nline 48\nline 49\n"
    assert call("logs", run.path, "--lines", "0").stdout.count("\n") == 51
    assert "there is no host n1" in refused("exec", "n1", "--", "true")
    assert "there is no host n1" in refused("shell", "n1")
    found.append(running.RunningRun(2, tmp_path / "other"))
    assert "2 trials are running" in refused("exec", "n1", "--", "true")
    found.clear()
    assert "no trial is running" in refused("shell", "n1")
    assert "a host and a command are needed" in refused("exec", "n1")


# ------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("name", ["burst.yaml", "cascade.yaml", "single.yaml"])
def test_a_network_is_drawn_whole(name: str, tmp_path: Path) -> None:
    done = call("graph", places.scenarios() / name, "--out", tmp_path / "x.svg")
    assert done.exit_code == 0
    tree = ElementTree.fromstring((tmp_path / "x.svg").read_text())
    loaded = loading.load(places.scenarios() / name)
    from testbed.topologies import describe

    network = describe(loaded.scenario.topology)
    texts = {element.text for element in tree.iter() if element.tag.endswith("text")}
    assert {host.name for host in network.hosts} | {switch.name for switch in network.switches} <= texts
    assert len([1 for element in tree.iter() if element.tag.endswith("line")]) == len(network.links)


# ----------------------------------------------------------------------------------------------------- completion


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("testbed val", ["validate"]),
        ("python -m testbed run --over", ["--overwrite"]),
        ("python -m testbed simulate x.yaml --set buffer.po", ["buffer.policy=", "buffer.pool="]),
        ("testbed run x.yaml --set buffer.policy=ho", ["holt"]),
        ("testbed run x.yaml --set balancer.policy=head", ["headroom"]),
        ("testbed run x.yaml --set controller.standby=", []),
        ("testbed run --engine sim", ["simulation"]),
        ("/x/testbed/.venv/bin/python -m testbed run --engine sim", ["simulation"]),
        ("/x/testbed/.venv/bin/testbed run --engine sim", ["simulation"]),
        ("testbed list bal", ["balancers"]),
        ("testbed new fore", ["forecaster"]),
        ("testbed run scen", []),  # files are the shell's
        ("testbed nothing x", []),
    ],
)
def test_the_shell_is_offered_what_there_is(line: str, offered: list[str]) -> None:
    assert call("completion", "bash", "--line", line).stdout.split() == offered


@pytest.mark.parametrize("begin", ["testbed", f"{sys.executable} -m testbed"])
def test_bash_completes_by_the_script(begin: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(call("completion", "bash").stdout)
    (tmp_path / "testbed").write_text(f'#!/bin/sh\nexec {sys.executable} -m testbed "$@"\n')
    (tmp_path / "testbed").chmod(0o755)
    line = f"{begin} run x.yaml --set buffer.policy=ho"
    function = "_testbed" if begin == "testbed" else "_testbed_of_python"
    words = " ".join(f'"{word}"' for word in (*line.split()[:-1], "buffer.policy", "=", "ho"))
    program = f"""PATH="{tmp_path}:$PATH"; source {tmp_path}/script
        COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        {function}; echo "${{COMPREPLY[@]}}\""""
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "holt\n", done.stderr
