"""Mininet's `Topo` classes as topologies: the graph they give, what of them is refused and where, and both engines."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import testbed
from testbed import topologies
from testbed.errors import TestbedError
from testbed.scenario import loading
from testbed.scenario.network import Network
from testbed.system import places
from testbed.trials.checks import check
from testbed.trials.replay import replay
from tests.command import call
from tests.plugin_files import none_left  # noqa: F401 (a fixture for every test)

OWN = places.scenarios() / "plugins" / "own-topology.yaml"
HEAD = """from mininet.topo import Topo
from mininet.link import TCLink
class MyTopo(Topo):
    def build(self, far=1):
"""
GOOD = """
s1 = self.addSwitch("s1"); s2 = self.addSwitch("s2")
c = self.addHost("c1"); n = self.addHost("n1")
self.addLink(c, s1)
self.addLink(s1, s2)
self.addLink(n, s2)
"""
SCENARIO: dict[str, Any] = {
    **{"version": 1, "name": "own", "seed": 3, "duration": "300ms"},
    "topology": {"file": "./mytopo.py", "class": "MyTopo"},
    "buffer": {"policy": "static-min"},
    "traffic": [{"name": "base", "from": "c1", "shape": "poisson", "rate": "12Mbit", "flows": 20}],
}

pytest.importorskip("mininet.topo")


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    def write(body: str, head: str = HEAD, **changes: object) -> Path:
        lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
        (tmp_path / "mytopo.py").write_text(head + lines)
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump({**SCENARIO, **changes}))
        return path

    return write


def network_of(path: Path, **settings: object) -> Network:
    return topologies.describe(testbed.load(path, set=settings).scenario.topology)


def test_hosts_and_links_are_those_of_the_class(written: Callable[..., Path]) -> None:
    path = written(
        """
        balancer = self.addSwitch("core", role="balancer", protocols="OpenFlow13")
        edge = self.addSwitch("edge")
        self.addLink(edge, balancer, bw=200, delay="2ms", max_queue_size=100, use_htb=True, cls=TCLink)
        for number in range(1, far + 1):
            node = self.addHost(f"h{number}", role="node")
            self.addLink(node, edge, delay="500us")
            self.addLink(node, self.addHost(f"b{number}"), bw=10 * number)
        self.addLink(self.addHost("c7"), balancer)
        """.replace("\n        ", "\n"),
        topology={"file": "./mytopo.py", "options": {"far": 3}, "link_delay": "1ms"},
        traffic=[{**SCENARIO["traffic"][0], "from": "c7"}],
    )
    network = network_of(path)
    assert network.switch == "core"
    assert [host.name for host in (*network.clients, *network.nodes)] == ["c7", "h1", "h2", "h3"]
    assert [network.node_rate_bps(node.name) for node in network.nodes] == [10_000_000, 20_000_000, 30_000_000]
    (trunk,) = network.trunks
    assert (trunk.rate_bps, trunk.delay_ns, trunk.queue_bytes) == (200_000_000, 2_000_000, 151_400)
    assert {link.name: link.delay_ns for link in network.links if link.delay_ns} == {
        **{"edge-core": 2_000_000, "c7-core": 1_000_000},
        **{f"edge-h{number}": 500_000 for number in (1, 2, 3)},
    }
    with pytest.raises(TestbedError, match=r"MyTopo: .*its options: far"):
        network_of(path, **{"topology.options.near": 2})


def test_the_way_between_switches_may_have_loops(written: Callable[..., Path]) -> None:
    path = written(GOOD + 's3 = self.addSwitch("s3")\nself.addLink(s1, s3)\nself.addLink(s3, s2)\n')
    assert len(network_of(path).trunks) == 3
    run = testbed.simulate(path, out=path.parent / "run")
    assert run.verdict == "VALID"


def test_a_class_of_mininet_s_own_kind_can_be_an_entry_of_topos(written: Callable[..., Path]) -> None:
    path = written(GOOD + '"""end"""\n', topology={"file": "./mytopo.py", "class": "mine"})
    file = path.parent / "mytopo.py"
    file.write_text(file.read_text() + "topos = {'mine': (lambda far=2: MyTopo(far))}\n")
    assert [node.name for node in network_of(path).nodes] == ["n1"]


REFUSED = [
    ('self.addLink(c, s1, loss=2)', 1, r"addLink\('c1', 's1'\): loss=2: .*not be accounted for"),
    ('self.addLink(c, s1, jitter="1ms")', 1, "jitter='1ms': only netem"),
    ('self.addLink(c, s1, bw=10)', 1, "bw= and max_queue_size= limit links between switches"),
    ('self.addLink(c, s1, port1=3)', 1, "port1=3: ports are numbered"),
    ('self.addLink(c, s1, use_hfsc=True)', 1, "use_hfsc=True: the testbed sets this"),
    ('self.addLink(c, s1, delay="5")', 1, "delay='5': expected a duration with its unit"),
    ('self.addLink(c, c)', 1, "to itself"),
    ('self.addLink(c, n)', 1, "a link between a client and a node, but hosts do not forward"),
    ('self.addLink(c, "s9")', 1, "KeyError: 's9'"),
    ('self.addLink(s1, s2); self.addLink(s2, s1)', 1, "a second link between the same two"),
    ('self.addLink(s1, s2, max_queue_size=9)', 1, "max_queue_size= without bw="),
    ('self.addLink(s1, s2, bw=9, max_queue_size=2)', 1, "max_queue_size=2; write a number of packets, at least 3"),
    ('self.addLink(s1, s2, bw="9")', 1, "bw='9'; write Mbit/s"),
    ('self.addHost("h1")', 1, r"addHost\('h1'\): its role is unknown"),
    ('self.addHost("h1", role="router")', 1, "unknown role 'router'"),
    ('self.addHost("n1")', 1, "it was added twice"),
    ('self.addHost("n01")', 1, "it has the same number and role as n1"),
    ('self.addHost("web", role="node")', 1, "no number from 1 to 3999"),
    ('self.addHost("n2", ip="10.0.0.9")', 1, "ip='10.0.0.9': addresses are derived"),
    ('self.addHost("n2", cpu=0.5)', 1, "cpu=0.5: the testbed sets this"),
    ('self.addHost("x-1", role="node")', 1, "not a valid name"),
    ('self.addSwitch("s3", role="leaf")', 1, "unknown role 'leaf'"),
    ('self.addSwitch("s3", protocols="OpenFlow10")', 1, "the balancer uses OpenFlow13"),
    ('self.addHost("n2")', 0, "node n2: it has no link to a switch"),
    ('self.addHost("b1"); self.addHost("n2")', 0, "has 0 backends"),
    ('self.addSwitch("s3")', 0, "no path leads from s3 to s1"),
    ('[self.addSwitch(f"s{i}", role="balancer") for i in (3, 4)]', 0, "s3 and s4 are role='balancer'"),
    ('raise ValueError("mine")', 1, "ValueError: mine"),
    ('self.no_such_call()', 1, "AttributeError"),
]  # fmt: skip


@pytest.mark.parametrize(("added", "lines", "said"), REFUSED)
def test_what_has_no_place_here_is_refused_by_the_line_that_adds_it(
    written: Callable[..., Path], added: str, lines: int, said: str
) -> None:
    start = GOOD.replace("self.addLink(c, s1)\n", "pass\n").replace("self.addLink(s1, s2)\n", "pass\n")
    path = written((start if "addLink(" in added else GOOD) + added)
    with pytest.raises(TestbedError) as refused:
        loading.load(path)
    assert re.search(said, str(refused.value)), refused.value
    assert "mytopo.py" in str(refused.value)
    assert (": line 10: " in str(refused.value)) == bool(lines)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('self.addSwitch("s1")', "it adds no client"),
        ('self.addLink(self.addHost("c1"), self.addSwitch("s1"))', "it adds no node"),
        ('self.addHost("c1")', "it adds no switch"),
    ],
)
def test_a_graph_without_a_part_is_refused(written: Callable[..., Path], body: str, said: str) -> None:
    with pytest.raises(TestbedError, match=said):
        loading.load(written(body))


@pytest.mark.parametrize(
    ("topology", "line", "said"),
    [
        ({"file": "./mytopo.py", "class": "MyTpo"}, "topology.class", "did you mean 'MyTopo'?"),
        ({"file": "./none.py"}, "topology.file", "there is no such file"),
        ({"file": "./mytopo.py", "family": "single"}, "topology.family", "family and file both define"),
        ({"family": "single", "class": "MyTopo"}, "topology", "class is for a file of Mininet Topo classes"),
        ({"file": "./mytopo.py", "nodes": 2}, "topology", "the graph of MyTopo has 1; remove nodes"),
        ({"file": "./mytopo.py", "clients": 2}, "topology", "the graph of MyTopo has 1; remove clients"),
    ],
)
def test_a_topology_that_contradicts_its_file_is_refused(
    written: Callable[..., Path], topology: dict[str, object], line: str, said: str
) -> None:
    path = written(GOOD, topology=topology)
    with pytest.raises(TestbedError) as refused:
        loading.load(path)
    assert f": {line}: " in str(refused.value)
    assert said in str(refused.value)


def test_a_rate_between_switches_is_for_the_simulation(written: Callable[..., Path]) -> None:
    loaded = loading.load(written(GOOD.replace("(s1, s2)", "(s1, s2, bw=50)")))
    check(loaded, "simulation")
    with pytest.raises(TestbedError, match="topology.family: the rate of a link between switches is not emulated"):
        check(loaded, "emulation")


def test_it_is_code_as_any_plug_in(written: Callable[..., Path], tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    path = written(GOOD, head=f"open({str(executed)!r}, 'w').close()\n{HEAD}")
    done = call("validate", path)
    assert (done.returncode, executed.exists()) == (2, False)
    assert "topology.file: load the plug-in ./mytopo.py: not executed" in done.stderr
    run = testbed.simulate(path, out=tmp_path / "run")
    assert run.manifest["hashes"]["plugin/mytopo.py"].startswith("sha256:")
    assert run.scenario["topology"]["family"] == "MyTopo"
    (tmp_path / "mytopo.py").unlink()
    assert replay(run.path) is None
    again = testbed.simulate(run.path / "scenario.yaml", out=tmp_path / "again")
    assert again.summary["traffic"] == run.summary["traffic"]


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_two_switches_of_a_class_are_emulated(tmp_path: Path) -> None:
    for file in OWN.parent.glob("*"):
        shutil.copy(file, tmp_path)
    out = tmp_path / "run"
    done = call("run", tmp_path / OWN.name, "--set", "duration=1s", "--out", out, "--no-live", "--quiet")
    assert done.returncode in (0, 5), done.stderr  # 5: a busy machine
    summary = json.loads((out / "summary.json").read_text())
    assert summary["traffic"]["unaccounted_packets"] == 0
    assert summary["traffic"]["delivered_packets"] > 1000
    assert summary["traffic"]["dropped_packets"]["switch"] == 0
    assert replay(out) is None
