"""Two frameworks, one application: the same messages on the wire, and a clear word when one is not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from testbed.controllers import framework, pipeline
from testbed.controllers.config import BalancerConfig, Station, Vip
from testbed.controllers.connection import SwitchReports
from testbed.controllers.messages import MessageBuilder
from testbed.controllers.switch import Acknowledged, Connected, Happening, MasterGranted, Role
from testbed.errors import EXIT_MACHINE_LACKS, MachineError
from testbed.policies.membership import BALANCER
from testbed.scenario.balancer import BalancerSpec
from testbed.scenario.network import VIP_IP, VIP_IP6, VIP_MAC, Host
from tests import sealed

ROOT = Path(__file__).resolve().parent.parent


def station(name: str, port: int) -> Station:
    host = Host(name, "client" if name.startswith("c") else "node")
    return Station(name, port, host.mac, host.ip, host.ip6)


CONFIG = BalancerConfig(
    dpid=1,
    listen_port=6653,
    vip=Vip(VIP_IP, VIP_MAC, VIP_IP6, (9000, 9001)),
    clients=(station("c1", 1),),
    nodes=(station("n1", 2), station("n2", 3)),
    spec=BalancerSpec(policy="headroom"),
    ring=sealed.ring(BALANCER, ("n1", "n2")),
)


def wire_here(name: framework.FrameworkName) -> list[str]:
    """Return every message of a pipeline as the framework serialises it."""
    used = framework.load(name)
    builder, datapath = (
        MessageBuilder(used),
        used.module("ofproto.ofproto_protocol").ProtocolDesc(used.proto.OFP_VERSION),
    )
    wire = []
    for number, message in enumerate(pipeline.install(CONFIG, ("n1", "n2") * 32, ("n2",))):
        built = builder.build(datapath, message)
        built.set_xid(number)
        built.serialize()
        wire.append(bytes(built.buf).hex())
    return wire


def wire_of(name: str) -> list[str]:
    """Return what `wire_here` does, from a process of its own: eventlet does not like what forks after it."""
    code = f"import json; from tests.test_frameworks import wire_here; print(json.dumps(wire_here({name!r})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    lines: list[str] = json.loads(done.stdout)
    return lines


class RecordedDatapath:
    """A datapath of a framework after its handshake; what is sent is kept."""

    def __init__(self, used: framework.Framework, dpid: int) -> None:
        protocol = used.module("ofproto.ofproto_protocol").ProtocolDesc(used.proto.OFP_VERSION)
        self.id, self.ports, self.sent = dpid, {}, list[bytes]()
        self.ofproto, self.ofproto_parser = protocol.ofproto, protocol.ofproto_parser

    def send(self, wire: bytes) -> None:
        self.sent.append(wire)


def test_a_connection_carries_nothing_but_requests_for_a_role_before_one_is_granted() -> None:
    used = framework.load("os-ken")
    datapath, seen = RecordedDatapath(used, 1), list[Happening]()
    reports = SwitchReports(used, 1, seen.append)
    reports.state_changed(SimpleNamespace(datapath=datapath, state=used.handler.MAIN_DISPATCHER))
    (connected,) = seen
    assert isinstance(connected, Connected)
    connected.connection.prepare(pipeline.every_slot(CONFIG, 64))
    number = connected.connection.request_role(Role.MASTER, 1)
    assert not hasattr(connected.connection, "send")
    assert not hasattr(connected.connection, "post")
    assert [wire[1] for wire in datapath.sent] == [used.proto.OFPT_ROLE_REQUEST]
    reply = SimpleNamespace(datapath=datapath, xid=number, role=used.proto.OFPCR_ROLE_MASTER)
    reports.role_replied(SimpleNamespace(msg=reply))
    granted = seen[-1]
    assert isinstance(granted, MasterGranted)
    assert (granted.connection, granted.request) == (connected.connection, number)
    barrier = granted.link.send(pipeline.install(CONFIG, ("n1", "n2") * 32, ()))
    reports.barrier_replied(SimpleNamespace(msg=SimpleNamespace(datapath=datapath, xid=barrier)))
    assert seen[-1] == Acknowledged(granted.link, barrier)


@pytest.mark.requires("ryu")
def test_both_frameworks_put_the_same_messages_on_the_wire() -> None:
    ours = wire_of("os-ken")
    assert len(ours) > 64
    assert wire_of("ryu") == ours


def test_a_framework_that_is_not_installed_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(framework.PACKAGES, "ryu", "no_such_package")
    with pytest.raises(MachineError, match=r"controller\.framework: ryu: it is not installed; sudo make ryu") as caught:
        framework.load("ryu")
    assert caught.value.exit_code == EXIT_MACHINE_LACKS
