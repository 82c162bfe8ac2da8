"""The doctor: every finding has a status and, unless all is well, what mends it; what is missing ends a run with 3."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from testbed import doctor, errors, installing, places, probes
from testbed.spec.scenario import ControllerSpec, Scenario

HEALTHY = dict.fromkeys(("bpf", "namespaces", "veth", "native_xdp", "tbf", "netem"), "")


def scenario(**topology: object) -> Scenario:
    """Return a small scenario on the given topology."""
    source = {"name": "base", "from": "c1", "shape": "constant", "rate": "1Mbit"}
    data = {
        "version": 1,
        "name": "x",
        "duration": "1s",
        "topology": {"family": "cluster", **topology},
        "traffic": [source],
    }
    return Scenario.model_validate(data)


def found(findings: list[doctor.Finding], name: str) -> doctor.Finding:
    """Return the one finding of that name."""
    (finding,) = [finding for finding in findings if finding.name == name]
    return finding


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Return a machine in good health, whatever this one is; changing its `refusals` makes it ill."""
    refusals = dict(HEALTHY)
    monkeypatch.setattr(probes, "kernel_features", lambda: refusals)
    monkeypatch.setattr(probes, "open_vswitch", lambda: "")
    monkeypatch.setattr(probes, "command", lambda *argv: f"{argv[0]} (Open vSwitch) 3.1.0\nmore\n")
    monkeypatch.setattr(probes, "tool", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(probes, "libbpf", lambda: "libbpf.so.1")
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 0)
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(places, "bpf_object", lambda name: tmp_path / f"{name}.bpf.o")
    monkeypatch.chdir(tmp_path)
    return refusals


def test_a_healthy_machine_lacks_nothing(machine):
    findings = doctor.diagnose()
    assert {finding.status for finding in findings} == {"ok"}
    assert doctor.worst(findings) == "ok"
    doctor.refuse_if_lacking(scenario())


def test_names_are_given_once(machine):
    names = [finding.name for finding in doctor.diagnose()]
    assert len(names) == len(set(names))


def test_without_root_the_command_names_this_very_python(machine, monkeypatch):
    monkeypatch.setattr(doctor.os, "geteuid", lambda: 1000)
    findings = doctor.diagnose()
    assert found(findings, "root").status == "missing"
    assert found(findings, "root").remedy == f"sudo {sys.executable} -m testbed run SCENARIO"
    assert found(findings, "kernel").status == "limited"


@pytest.mark.parametrize("feature", ["bpf", "namespaces", "veth", "native_xdp", "tbf"])
def test_a_refused_feature_is_missing_and_says_why(machine, feature):
    machine[feature] = "Operation not permitted"
    finding = found(doctor.diagnose(), feature)
    assert finding.status == "missing"
    assert finding.detail.endswith("Operation not permitted")
    assert finding.remedy


def test_without_namespaces_the_network_is_not_tried_but_told(machine):
    for name in ("veth", "native_xdp", "tbf", "netem"):
        del machine[name]
    machine["namespaces"] = "unshare: Operation not permitted"
    assert found(doctor.diagnose(), "native_xdp").status == "missing"


@pytest.mark.parametrize(("delay", "status"), [("0ms", "limited"), ("1ms", "missing")])
def test_netem_is_missed_only_by_scenarios_with_link_delay(machine, delay, status):
    machine["netem"] = "tc: Error: Specified qdisc kind is unknown."
    asked = scenario(link_delay=delay)
    assert found(doctor.diagnose(asked), "netem").status == status
    assert found(doctor.diagnose(), "netem").status == "limited"
    if status == "missing":
        with pytest.raises(errors.MachineError, match="link_delay needs the netem qdisc") as caught:
            doctor.refuse_if_lacking(asked)
        assert caught.value.exit_code == errors.EXIT_MACHINE_LACKS
    else:
        doctor.refuse_if_lacking(asked)


def test_many_lacks_are_told_in_five_lines(machine, monkeypatch):
    machine.update(dict.fromkeys(HEALTHY, "Operation not permitted"))
    monkeypatch.setattr(probes, "tool", lambda name: None)
    with pytest.raises(errors.MachineError) as caught:
        doctor.refuse_if_lacking(scenario())
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("running x: this machine lacks bpf (")
    assert lines[4] == "and 3 more: see `python -m testbed doctor`"


def test_missing_tools_are_told_with_their_package(machine, monkeypatch):
    monkeypatch.setattr(probes, "tool", lambda name: None)
    findings = doctor.diagnose()
    assert found(findings, "mnexec").detail == "no package mininet"
    assert found(findings, "mnexec").status == "missing"
    assert found(findings, "bpftool").status == "limited"


def test_uncompiled_programs_are_missing(machine, monkeypatch):
    def absent(name):
        raise errors.MachineError(f"looking for the BPF program {name}", "it is not there")

    monkeypatch.setattr(places, "bpf_object", absent)
    finding = found(doctor.diagnose(), "bpf_programs")
    assert (finding.status, finding.remedy) == ("missing", f"make -C {places.root()}/bpf")


@pytest.mark.parametrize(("cpus", "nodes", "status"), [(1, 1, "limited"), (2, 3, "ok"), (2, 100, "limited")])
def test_cpus_are_judged_by_the_scenario(machine, monkeypatch, cpus, nodes, status):
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: set(range(cpus)))
    assert found(doctor.diagnose(scenario(nodes=nodes)), "cpus").status == status


def test_the_record_is_json_and_complete(machine):
    record = json.loads(json.dumps(doctor.to_record(doctor.diagnose())))
    assert record["status"] == "ok"
    assert set(record["findings"][0]) == {"name", "status", "detail", "remedy"}


def test_on_this_machine_whatever_is_not_well_has_a_remedy():
    for finding in doctor.diagnose():
        assert finding.status == "ok" or finding.remedy, finding


# ----------------------------------------------------------------------------------------------------------- probes


@pytest.mark.requires("root", "bpf", "ovs")
def test_here_every_feature_is_found_by_trying():
    refusals = probes.kernel_features()
    assert {name: why for name, why in refusals.items() if name != "netem"} == {
        name: "" for name in HEALTHY if name != "netem"
    }
    assert set(refusals) == set(HEALTHY)


@pytest.mark.requires("root")
def test_trying_leaves_this_network_as_it_was():
    before = probes.command("ip", "-j", "link")
    probes.kernel_features()
    assert probes.command("ip", "-j", "link") == before


@pytest.mark.requires("root")
def test_a_confined_process_is_told_so():
    drop_all = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    done = subprocess.run(
        [*drop_all, sys.executable, "-m", "testbed.probes"], capture_output=True, text=True, check=True
    )
    refusals = json.loads(done.stdout)
    assert "Operation not permitted" in refusals["namespaces"]
    assert "Operation not permitted" in refusals["bpf"]


def test_a_missing_switch_is_told_by_the_program(monkeypatch):
    monkeypatch.setattr(probes, "tool", lambda name: None)
    assert probes.open_vswitch() == "ovs-vswitchd is not installed"


def test_a_failing_command_says_its_last_line():
    with pytest.raises(OSError, match="ls: cannot access"):
        probes.command("ls", "/nowhere/at/all")


@pytest.mark.parametrize(("name", "status"), [("ryu", "missing"), ("os-ken", "limited")])
def test_a_framework_is_missing_only_where_it_is_asked_for(machine, monkeypatch, name, status):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda module: None if module == "ryu" else object())
    asked = scenario().model_copy(update={"controller": ControllerSpec(framework=name)})
    finding = found(doctor.diagnose(asked), "ryu")
    assert (finding.status, finding.remedy) == (status, installing.optional("ryu"))
    if status == "missing":
        with pytest.raises(errors.MachineError, match=r"lacks ryu \(.*not installed\); sudo make .*ryu"):
            doctor.refuse_if_lacking(asked)
