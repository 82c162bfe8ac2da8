"""Hosts of the emulated network: namespaces at once, shells when they are asked for, neighbours many at a time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from testbed.emulation.network import neighbours
from testbed.emulation.network.hosts import NamespaceHost
from testbed.emulation.network.switch_ports import Switch
from testbed.errors import ToolError
from testbed.system import commands
from tests.own_network import in_own_network, veth

pytestmark = pytest.mark.requires("root")


def test_a_host_has_a_network_of_its_own_at_once_and_a_shell_when_it_is_asked() -> None:
    host = NamespaceHost("h1")
    host.settle()
    try:
        inside = os.readlink(f"/proc/{host.pid}/ns/net")
        assert inside != os.readlink("/proc/self/ns/net")
        assert "mininet:h1" in Path(f"/proc/{host.pid}/cmdline").read_text(encoding="ascii").split("\0")
        assert host.shell is None
        holder = host.pid
        assert host.cmd("readlink /proc/self/ns/net").strip() == inside
        assert host.cmd("echo", "again").strip() == "again"
        assert host.popen("readlink /proc/self/ns/net").communicate()[0].decode().strip() == inside
        assert host.pid == holder
    finally:
        host.terminate()


def test_neighbours_are_made_many_at_once() -> None:
    entries = [(f"10.1.{k // 250}.{k % 250 + 1}", f"02:00:00:00:{k // 250:02x}:{k % 250:02x}") for k in range(350)]
    entries.append(("fd00::9", "02:00:00:00:00:99"))

    def body() -> Any:
        near, _ = veth("near", "far")
        neighbours.make_permanent(near, entries[:1])
        neighbours.make_permanent(near, entries)  # again, and the rest
        with IPRoute() as netlink:
            found = [*netlink.get_neighbours(ifindex=near), *netlink.get_neighbours(ifindex=near, family=10)]
        known = {n.get_attr("NDA_DST"): n.get_attr("NDA_LLADDR") for n in found if n["state"] == 0x80}
        return [known.get(address) == mac for address, mac in entries]

    assert in_own_network(body) == [True] * 351


def test_a_neighbour_that_the_kernel_refuses_is_an_error() -> None:
    with pytest.raises(ToolError, match="the kernel refused one"):
        neighbours.make_permanent(10**6, [("10.1.0.1", "02:00:00:00:00:01")])


def test_ports_are_not_typed_into_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(commands, "run", lambda _, argv: asked.append(list(argv)))
    many = " ".join(f"-- add-port s1 s1-eth{k} -- set Interface s1-eth{k} ofport_request={k}" for k in range(1, 201))
    Switch.vsctl(object(), f" -- add-br s1 {many}")  # type: ignore[arg-type]
    assert asked[0][:4] == ["ovs-vsctl", "--no-wait", "--", "add-br"]
    assert asked[0][-1] == "ofport_request=200"
