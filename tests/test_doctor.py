"""The doctor: every finding has a status and, unless all is well, how to fix it; what is missing ends a run with 3."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from testbed import doctor, errors, installing
from testbed.doctor import resources
from testbed.scenario.balancer import ControllerSpec
from testbed.scenario.model import Scenario
from testbed.system import places, probes
from tests.command import call, write_tiny

# What the kernel is asked for, and what of it takes namespaces.
NETWORK = ("mounts", "raw_sockets", "veth", "native_xdp", "tbf", "tap", "netem", "openvswitch")
NEEDED = ("bpf", "namespaces", "borrowed_sockets", "terminals", "processes", *NETWORK[:6])
HEALTHY = dict.fromkeys((*NEEDED, "real_time", "netem", "openvswitch", "probing"), "")


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
    monkeypatch.setattr(probes, "kernel_features", lambda processes: refusals)
    monkeypatch.setattr(probes, "open_vswitch", lambda: "")
    monkeypatch.setattr(probes, "command", lambda *argv: f"{argv[0]} (Open vSwitch) 3.1.0\nmore\n")
    monkeypatch.setattr(probes, "tool", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(probes, "libbpf", lambda: "libbpf.so.1")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
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
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    findings = doctor.diagnose()
    assert found(findings, "root").status == "missing"
    assert found(findings, "root").remedy == f"sudo {sys.executable} -m testbed run SCENARIO"
    assert found(findings, "kernel").status == "limited"


@pytest.mark.parametrize("feature", [*NEEDED, "openvswitch"])
def test_a_refused_feature_is_missing_and_says_why(machine, feature):
    machine[feature] = "Operation not permitted"
    finding = found(doctor.diagnose(), feature)
    assert finding.status == "missing"
    assert finding.detail.endswith("Operation not permitted")
    assert finding.remedy


def test_without_namespaces_the_network_is_not_tried_but_told(machine):
    for name in NETWORK:
        del machine[name]
    machine["namespaces"] = "unshare: Operation not permitted"
    assert found(doctor.diagnose(), "native_xdp").status == "missing"


@pytest.mark.parametrize(
    ("topology", "status", "said"),
    [
        ({"link_delay": "0ms"}, "limited", ""),
        ({"link_delay": "1ms"}, "missing", r"the delay of c1-s1 \(1ms\) and 4 more links needs the netem qdisc"),
        ({"links": {"s1-n2": {"delay": "2ms"}}}, "missing", r"the delay of s1-n2 \(2ms\) needs the netem qdisc"),
        ({"family": "two-switch", "links": {"s1-s2": {"delay": "2ms"}}}, "missing", "the delay of s1-s2"),
        ({"links": {"s1-n2": {"delay": "0ms"}}}, "limited", ""),
    ],
)
def test_netem_is_missed_only_by_scenarios_with_a_link_delay(machine, topology, status, said):
    machine["netem"] = "tc: Error: Specified qdisc kind is unknown."
    asked = scenario(**topology)
    assert found(doctor.diagnose(asked), "netem").status == status
    assert found(doctor.diagnose(), "netem").status == "limited"
    if status == "missing":
        with pytest.raises(errors.MachineError, match=said) as caught:
            doctor.refuse_if_lacking(asked)
        assert caught.value.exit_code == errors.EXIT_MACHINE_LACKS
    else:
        doctor.refuse_if_lacking(asked)


def test_many_lacks_are_told_in_five_lines(machine, monkeypatch):
    machine.update(dict.fromkeys(NEEDED, "Operation not permitted"))
    monkeypatch.setattr(probes, "tool", lambda name: None)
    with pytest.raises(errors.MachineError) as caught:
        doctor.refuse_if_lacking(scenario())
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    assert lines[0].startswith("running x: this machine lacks bpf (")
    assert lines[4] == "and 9 more: see `python -m testbed doctor`"


def test_missing_tools_are_told_with_their_package(machine, monkeypatch):
    monkeypatch.setattr(probes, "tool", lambda name: None)
    findings = doctor.diagnose()
    assert found(findings, "mnexec").detail == "the package mininet is not installed"
    assert found(findings, "mnexec").status == "missing"
    assert found(findings, "bpftool").status == "limited"


def test_uncompiled_programs_are_missing(machine, monkeypatch):
    def absent(name):
        raise errors.MachineError(f"looking for the BPF program {name}", "it is not there")

    monkeypatch.setattr(places, "bpf_object", absent)
    finding = found(doctor.diagnose(), "bpf_programs")
    assert (finding.status, finding.remedy) == ("missing", f"make -C {places.root()}/bpf")


@pytest.mark.parametrize(("cpus", "status"), [(1, "limited"), (2, "ok")])
def test_one_cpu_is_too_few_and_what_more_of_them_carry_is_the_capacity_models_to_say(
    machine, monkeypatch, cpus, status
):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cpus)))
    assert found(doctor.diagnose(scenario(nodes=100)), "cpus").status == status


def test_the_record_is_json_and_complete(machine):
    record = json.loads(json.dumps(doctor.to_record(doctor.diagnose())))
    assert record["status"] == "ok"
    assert set(record["findings"][0]) == {"name", "status", "detail", "remedy"}


def test_on_this_machine_whatever_is_not_well_has_a_remedy():
    for finding in doctor.diagnose():
        assert finding.status == "ok" or finding.remedy, finding


def test_without_fixed_priorities_a_run_goes_on_and_is_told_so(machine):
    machine["real_time"] = "Operation not permitted"
    finding = found(doctor.diagnose(), "real_time")
    assert finding.status == "limited"
    assert "DEGRADED" in finding.detail
    assert finding.remedy
    doctor.refuse_if_lacking(scenario())


def test_fixed_priorities_that_get_no_time_would_hang_a_run(machine):
    machine["real_time"] = "it did not get 2 s of processor time"
    assert found(doctor.diagnose(), "real_time").status == "missing"


def test_what_could_not_be_tried_at_all_is_one_finding(machine):
    machine["probing"] = "python: MemoryError"
    findings = doctor.diagnose()
    assert "MemoryError" in found(findings, "kernel").detail
    assert [finding.name for finding in findings if finding.status == "missing"] == ["kernel"]


@pytest.mark.parametrize(("nodes", "limit", "status"), [(1, 64, "missing"), (40, 256, "missing"), (40, 4096, "ok")])
def test_open_files_are_judged_by_the_scenario(machine, monkeypatch, nodes, limit, status):
    monkeypatch.setattr("resource.getrlimit", lambda which: (limit, limit))
    finding = found(doctor.diagnose(scenario(nodes=nodes)), "open_files")
    assert finding.status == status
    if status == "missing":
        assert f"the hard limit is {limit}" in finding.detail
        assert finding.remedy.startswith(f"raise it: `ulimit -Hn {resources.files(scenario(nodes=nodes))}`")


@pytest.mark.parametrize(("nodes", "kept", "status"), [(3, 1024, "ok"), (600, 1024, "missing"), (600, 4096, "ok")])
def test_neighbours_are_judged_by_the_scenario(machine, monkeypatch, tmp_path, nodes, kept, status):
    path = tmp_path / "gc_thresh3"
    path.write_text(f"{kept}\n")
    monkeypatch.setattr(resources, "_GC_THRESH", path)
    finding = found(doctor.diagnose(scenario(nodes=nodes)), "neighbours")
    assert finding.status == status
    assert status == "ok" or "sudo sysctl net.ipv4.neigh.default.gc_thresh3=2400" in finding.remedy


def test_the_kernel_is_asked_for_as_many_processes_as_the_scenario_has(machine, monkeypatch):
    asked = []
    monkeypatch.setattr(probes, "kernel_features", lambda processes: asked.append(processes) or machine)
    for nodes in (1, 40):
        doctor.diagnose(scenario(nodes=nodes))
    assert asked == [resources.processes(scenario(nodes=1)), resources.processes(scenario(nodes=40))]
    assert asked[1] > 4 * 40 + 20


@pytest.mark.parametrize(("free", "status"), [(10**6, "missing"), (10**8, "limited"), (10**10, "ok")])
def test_the_disk_is_that_of_the_run_directory(machine, monkeypatch, tmp_path, free, status):
    asked = []
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda path: asked.append(path) or usage)
    assert found(doctor.diagnose(out=tmp_path / "not/yet/there"), "disk").status == status
    assert asked == [tmp_path]


# ----------------------------------------------------------------------------------------------------------- probes


@pytest.mark.requires("root", "bpf", "ovs")
def test_here_every_feature_is_found_by_trying():
    refusals = probes.kernel_features(100)
    assert {name: why for name, why in refusals.items() if name != "netem"} == {
        name: "" for name in HEALTHY if name != "netem"
    }
    assert set(refusals) == set(HEALTHY)


@pytest.mark.requires("root")
def test_trying_leaves_this_network_as_it_was():
    before = probes.command("ip", "-j", "link")
    probes.kernel_features()
    assert probes.command("ip", "-j", "link") == before


def test_a_missing_switch_is_told_by_the_program(monkeypatch):
    monkeypatch.setattr(probes, "tool", lambda name: None)
    assert probes.open_vswitch() == "ovs-vswitchd is not installed"


def test_a_failing_command_says_its_last_line():
    with pytest.raises(OSError, match="ls: cannot access"):
        probes.command("ls", "/nowhere/at/all")


@pytest.mark.parametrize(("name", "status"), [("ryu", "missing"), ("os-ken", "limited")])
def test_a_framework_is_missing_only_where_it_is_asked_for(machine, monkeypatch, name, status):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None if module == "ryu" else object())
    asked = scenario().model_copy(update={"controller": ControllerSpec(framework=name)})
    finding = found(doctor.diagnose(asked), "ryu")
    assert (finding.status, finding.remedy) == (status, installing.optional("ryu"))
    if status == "missing":
        with pytest.raises(errors.MachineError, match=r"lacks ryu \(.*not installed\); sudo make .*ryu"):
            doctor.refuse_if_lacking(asked)


# ------------------------------------------------------------------------------------- as root, with something missing


def missing_under(*under: str, status: str = "missing") -> dict[str, dict[str, str]]:
    """Return the findings of that status that doctor has behind the command `under`."""
    done = call("doctor", "--json", under=under)
    assert done.returncode == (errors.EXIT_MACHINE_LACKS if status == "missing" else 0), done.stderr
    findings = json.loads(done.stdout)["findings"]
    return {finding["name"]: finding for finding in findings if finding["status"] == status}


def without(capability: str) -> tuple[str, ...]:
    return ("setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}")


def in_mounts(line: str) -> tuple[str, ...]:
    """Return what runs a command where `line` has changed what is mounted, for it alone."""
    return ("unshare", "--mount", "sh", "-c", f'{line} && exec "$@"', "sh")


def read_only(*places: str) -> str:
    """Return what makes places read-only and leaves in sight what lies there."""
    return " && ".join(f"mount --bind {place} {place} && mount -o remount,bind,ro {place}" for place in places)


@contextlib.contextmanager
def control_group(controller, **settings):
    """Make a control group (version 1) and give what runs a command in it."""
    group = Path(f"/sys/fs/cgroup/{controller}/testbed-{os.getpid()}")
    try:
        group.mkdir()
        for name, value in settings.items():
            (group / f"{controller}.{name}").write_text(value)
    except OSError as error:
        pytest.skip(f"missing: control groups of version 1 with {controller}: {error}")
    try:
        yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    finally:
        group.rmdir()


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
@pytest.mark.parametrize(
    ("under", "name", "words"),
    [
        (without("net_raw"), "raw_sockets", "CAP_NET_RAW"),
        (without("net_admin"), "veth", "Operation not permitted"),
        (without("sys_admin"), "namespaces", "mount namespace"),
        (in_mounts("mount -t tmpfs none /dev/net"), "tap", "/dev/net/tun"),
        (in_mounts("mount -t tmpfs none /dev/pts"), "terminals", "No such"),
        (in_mounts(read_only("/tmp")), "openvswitch", "sudo mount -t tmpfs tmpfs /tmp"),
        (("unshare", "--user", "--map-root-user"), "bpf", "not permitted"),
        (
            ("unshare", "--user", "--map-root-user", *in_mounts("echo 0 > /proc/sys/user/max_net_namespaces")),
            *("namespaces", "network namespace: the limit is reached"),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_run_needs_and_may_not_do_is_named(under, name, words):
    finding = missing_under(*under)[name]
    assert words in finding["detail"] + finding["remedy"]
    assert finding["remedy"]


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_places_that_a_run_does_not_write_to_are_not_missed():
    done = call("doctor", under=in_mounts(read_only("/var/tmp", "/dev/shm")), cwd=Path("/"))
    assert done.returncode == 0, done.stdout


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_too_few_processes_are_named():
    with control_group("pids", max="30") as under:
        finding = missing_under(*under)["processes"]
    assert "could be started" in finding["detail"]
    assert "pids.max" in finding["remedy"]


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_a_control_group_without_real_time_is_named_with_its_remedy():
    with control_group("cpu", rt_runtime_us="0") as under:
        finding = missing_under(*under, status="limited")["real_time"]
    assert f"/sys/fs/cgroup/cpu/testbed-{os.getpid()}/cpu.rt_runtime_us" in finding["remedy"]


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
@pytest.mark.parametrize(
    ("under", "settings", "said"),
    [
        (without("net_raw"), [], "raw_sockets"),
        (("prlimit", "--nofile=64:64"), [], "the hard limit is 64"),
        (("prlimit", "--nofile=256:256"), ["topology.family=cluster", "topology.nodes=40"], "the hard limit is 256"),
        (in_mounts("mount -t tmpfs none /dev/net"), [], "/dev/net/tun"),
    ],
    ids=["net_raw", "files", "files of 40 nodes", "tun"],
)
def test_a_run_that_lacks_something_is_refused_with_its_cause(tmp_path, under, settings, said):
    options = [word for setting in settings for word in ("--set", setting)]
    done = call("run", write_tiny(tmp_path), "--out", tmp_path / "run", *options, under=under)
    assert done.returncode == errors.EXIT_MACHINE_LACKS
    assert said in done.stderr
    assert len(done.stderr.splitlines()) <= 5
    assert not (tmp_path / "run").exists()


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_a_run_without_fixed_priorities_goes_on_and_says_so(tmp_path):
    call("run", write_tiny(tmp_path), "--out", tmp_path / "run", "--no-live", under=without("sys_nice"))
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["verdict"] != "VALID"
    assert any("fixed priorities refused" in reason for reason in summary["verdict_reasons"])
    assert summary["traffic"]["unaccounted_packets"] == 0


def test_the_kernel_is_tried_while_something_else_is_done(machine, monkeypatch) -> None:
    begun = probes.Started([sys.executable, "-c", 'print(\'{"veth": "no"}\')'])
    monkeypatch.setattr(probes, "probing_kernel", lambda processes: begun)
    with doctor.probing(scenario()) as probe:
        assert found(doctor.diagnose(scenario(), probe=probe), "veth").detail.endswith(": no")


def test_a_probe_that_nobody_waits_for_is_ended(machine) -> None:
    with probes.Started(["sleep", "60"]) as started:
        pass
    assert started._process.returncode == -signal.SIGKILL


def test_a_probe_that_cannot_be_started_is_said_by_the_diagnosis(machine, monkeypatch) -> None:
    monkeypatch.setattr(probes, "probing_kernel", _refusing)
    with doctor.probing(scenario()) as probe:
        assert probe is None


def _refusing(_processes: int) -> None:
    raise OSError(errno.EAGAIN, "no more processes")
