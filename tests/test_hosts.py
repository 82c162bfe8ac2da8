"""Hosts of the emulated network: namespaces at once, shells when they are asked for, neighbours many at a time."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from testbed.emulation.network import route_requests as rt
from testbed.emulation.network import shaping
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
        with rt.RouteRequests() as requests:
            requests.carry_out("trying", [rt.neighbour(near, *entry) for entry in entries[:1]])
            requests.carry_out("trying", [rt.neighbour(near, *entry) for entry in entries])  # again, and the rest
        with IPRoute() as netlink:
            found = [*netlink.get_neighbours(ifindex=near), *netlink.get_neighbours(ifindex=near, family=10)]
        known = {n.get_attr("NDA_DST"): n.get_attr("NDA_LLADDR") for n in found if n["state"] == 0x80}
        return [known.get(address) == mac for address, mac in entries]

    assert in_own_network(body) == [True] * 351


def test_a_neighbour_that_the_kernel_refuses_is_an_error() -> None:
    refused = rt.neighbour(10**6, "10.1.0.1", "02:00:00:00:00:01")
    with (
        rt.RouteRequests() as requests,
        pytest.raises(ToolError, match="trying it: .* refused: No such device"),
    ):
        requests.carry_out("trying it", [refused, refused])


def test_requests_make_what_a_library_reads_back() -> None:
    def body() -> Any:
        pid, macs = threading.get_native_id(), ("02:00:00:00:00:01", "02:00:00:00:00:02")
        with rt.RouteRequests() as requests, IPRoute() as netlink:
            requests.carry_out("trying", [rt.veth(pid, "near", macs[0], pid, "far", macs[1], 9000), rt.bridge("br")])
            near, far, br = (socket.if_nametoindex(name) for name in ("near", "far", "br"))
            requests.carry_out("trying", [rt.up(near), rt.up(far, br), rt.up(br), rt.down(br)])
            settings = [rt.address(near, "10.0.0.1", 8), rt.address(near, "fd00::1", 64), rt.route(near, "10.9.0.0/16")]
            ways = [rt.route(near, "10.8.0.1/32", scope=rt.SCOPE_LINK), rt.route(near, "default", "10.8.0.1")]
            requests.carry_out("trying", [*settings, *ways, rt.route(near, "fd01::/64")])
            links = {link.get_attr("IFLA_IFNAME"): link for link in netlink.get_links()}
            addresses = [(a.get_attr("IFA_ADDRESS"), a["prefixlen"]) for a in netlink.get_addr(index=near)]
            routes = [*netlink.get_routes(family=2, table=254), *netlink.get_routes(family=10, table=254)]
        return (
            [links[name].get_attr("IFLA_ADDRESS") for name in ("near", "far")],
            [links[name].get_attr("IFLA_MTU") for name in ("near", "far")],
            [bool(links[name]["flags"] & 1) for name in ("near", "far", "br")],
            links["far"].get_attr("IFLA_MASTER") == br,
            [known for known in addresses if not known[0].startswith("fe80")],
            {r.get_attr("RTA_DST"): (r["dst_len"], r.get_attr("RTA_GATEWAY"), r["scope"]) for r in routes},
        )

    macs, mtus, are_up, is_port, addresses, routes = in_own_network(body)
    assert macs == ["02:00:00:00:00:01", "02:00:00:00:00:02"]
    assert (mtus, are_up, is_port) == ([9000, 9000], [True, True, False], True)
    assert addresses == [("10.0.0.1", 8), ("fd00::1", 64)]
    assert routes[None] == (0, "10.8.0.1", 0)
    assert (routes["10.9.0.0"], routes["10.8.0.1"]) == ((16, None, 0), (32, None, rt.SCOPE_LINK))
    assert routes["fd01::"][:2] == (64, None)


def test_the_rate_of_a_link_is_what_a_library_reads_back() -> None:
    def body() -> Any:
        veth("near", "far")
        shaping.shape("near", 40_000_000, 20_000_000)
        with IPRoute() as netlink:
            (found,) = (q for q in netlink.get_qdiscs() if q.get_attr("TCA_KIND") == "tbf")
        settings = found.get_attr("TCA_OPTIONS").get_attr("TCA_TBF_PARMS")
        return found["handle"], settings["rate"], settings["limit"], settings["buffer"] * 64

    handle, rate_bytes, room_bytes, depth_ns = in_own_network(body)
    assert (handle, rate_bytes, room_bytes) == (0x10000, 5_000_000, 20_000_000)
    assert depth_ns == pytest.approx(4_080_000, abs=64)


def test_ports_are_not_typed_into_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(commands, "run", lambda _, argv: asked.append(list(argv)))
    many = " ".join(f"-- add-port s1 s1-eth{k} -- set Interface s1-eth{k} ofport_request={k}" for k in range(1, 201))
    Switch.vsctl(object(), f" -- add-br s1 {many}")  # type: ignore[arg-type]
    assert asked[0][:4] == ["ovs-vsctl", "--no-wait", "--", "add-br"]
    assert asked[0][-1] == "ofport_request=200"
