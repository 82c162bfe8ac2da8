"""What can be done to a running trial from outside, and undone: the hands of `disturbances`.

A `Touch` is called with a trial that runs; it does something and returns what undoes it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.nftables.main import NFTables

from testbed.bench.running_trial import SWITCH, RunningTrial
from testbed.emulation.dataplane import libbpf
from testbed.emulation.dataplane.link_meter import LinkMeter
from testbed.emulation.dataplane.xdp_abi import NODE_CONTROL
from testbed.emulation.dataplane.xdp_meter import offset
from testbed.errors import ToolError
from testbed.scenario.network import DATA_PREFIX
from testbed.system import commands, kernel

Undo = Callable[[], object]
Touch = Callable[[RunningTrial], Undo]
Netlink = Callable[[IPRoute, int], object]
Attributes = dict[str, Any]

_NUD_PERMANENT = 0x80
_ETH_P_ALL = 3
_HEARD_S, _LEAST_TRAFFIC_BYTES = 1.0, 500


def nothing() -> None:
    """Undo what cannot be undone."""


# -------------------------------------------------------------------------------------------------------- networks


def netlink(host: str, interface: str, do: Netlink, undo: Netlink | None = None) -> Touch:
    """Do something by netlink to an interface of a host's network (``switch``: that of the switch)."""

    def touch(trial: RunningTrial) -> Undo:
        with trial.network_of(host):
            inside = IPRoute()
            index = socket.if_nametoindex(interface)
        do(inside, index)

        def back() -> None:
            if undo is not None:
                undo(inside, index)
            inside.close()

        return back

    return touch


def link(host: str, interface: str, do: Attributes, undo: Attributes) -> Touch:
    """Set attributes of a link."""
    return netlink(host, interface, _set_link(do), _set_link(undo))


def _set_link(attributes: dict[str, Any]) -> Netlink:
    return lambda inside, index: inside.link("set", index=index, **attributes)


def down(host: str, interface: str) -> Touch:
    """Take a link down."""
    return link(host, interface, {"state": "down"}, {"state": "up"})


def qdisc(host: str, interface: str, do: Attributes, undo: Attributes) -> Touch:
    """Put another root qdisc in the place of the one there is (``kind`` and its parameters)."""

    def put(parameters: Attributes) -> Netlink:
        def replace(inside: IPRoute, index: int) -> None:
            inside.tc("del", index=index, root=True)
            inside.tc("add", index=index, handle="1:", **parameters)

        return replace

    return netlink(host, interface, put(do), put(undo))


def qdisc_parameters(host: str, interface: str, do: Attributes, undo: Attributes) -> Touch:
    """Change the parameters of a root qdisc (``kind`` and all of them)."""

    def put(parameters: Attributes) -> Netlink:
        return lambda inside, index: inside.tc("change", index=index, handle="1:", **parameters)

    return netlink(host, interface, put(do), put(undo))


def detach(inside: IPRoute, index: int) -> None:
    """Take the XDP program from an interface."""
    inside.link("set", index=index, xdp_fd=-1)


def route(host: str, interface: str, destination: str) -> Touch:
    """Delete a route through an interface."""
    return netlink(
        host, interface,
        lambda inside, index: inside.route("del", dst=destination, oif=index),
        lambda inside, index: inside.route("add", dst=destination, oif=index),
    )  # fmt: skip


def address(host: str, interface: str, ip: str) -> Touch:
    """Delete an address of an interface."""
    return netlink(
        host, interface,
        lambda inside, index: inside.addr("del", index=index, address=ip, prefixlen=DATA_PREFIX),
        lambda inside, index: inside.addr("add", index=index, address=ip, prefixlen=DATA_PREFIX),
    )  # fmt: skip


def neighbour(host: str, interface: str, address: str, mac: str) -> Touch:
    """Point a permanent neighbour nowhere; `mac` is where it belongs."""
    entry = {"dst": address, "state": _NUD_PERMANENT}

    def point(to: str) -> Netlink:
        return lambda inside, index: inside.neigh("replace", ifindex=index, lladdr=to, **entry)

    return netlink(host, interface, point("02:ff:ff:ff:ff:ff"), point(mac))


def ethtool(host: str, interface: str, feature: str) -> Touch:
    """Switch an offload on."""

    def switch(trial: RunningTrial, state: str) -> None:
        with trial.network_of(host):
            commands.run("switching an offload", ["ethtool", "-K", interface, feature, state])

    def touch(trial: RunningTrial) -> Undo:
        switch(trial, "on")
        return lambda: switch(trial, "off")

    return touch


def sysctl(host: str, name: str, do: str, undo: str) -> Touch:
    """Write a sysctl of a host's network."""

    def write(trial: RunningTrial, value: str) -> None:
        with trial.network_of(host):
            Path("/proc/sys/net", name).write_text(value, encoding="ascii")

    def touch(trial: RunningTrial) -> Undo:
        write(trial, do)
        return lambda: write(trial, undo)

    return touch


def packet_filter(host: str) -> Touch:
    """Add a table to a host's packet filter."""

    def touch(trial: RunningTrial) -> Undo:
        with trial.network_of(host):
            tables = NFTables(nfgen_family=1)
        tables.table("add", name="disturbance")

        def back() -> None:
            tables.table("del", name="disturbance")
            tables.close()

        return back

    return touch


def drop_all(interface: str) -> Touch:
    """Let what the switch sends to an interface go nowhere, by a classifier before it."""

    def touch(trial: RunningTrial) -> Undo:
        with trial.network_of(SWITCH):
            meter = LinkMeter(interface)
        meter.cut(True)

        def back() -> None:
            meter.cut(False)
            meter.close()

        return back

    return touch


def send_twice(node: str, heard_at: str, sent_from: str) -> Touch:
    """Send one more copy of a frame that a node has received, from the switch's end of its link.

    It is heard in the node: neither a sender nor a port with AF_XDP shows packet sockets what it sends.
    """

    def touch(trial: RunningTrial) -> Undo:
        with trial.network_of(SWITCH):
            switch = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with trial.network_of(node):
            ear = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        with switch, ear:
            switch.bind((sent_from, 0))
            ear.bind((heard_at, _ETH_P_ALL))
            switch.send(_heard(ear))
        return nothing

    return touch


def _heard(ear: socket.socket) -> bytes:
    """Return the next frame of traffic that arrives.

    Raises:
        ToolError: none did within a while.
    """
    ear.settimeout(_HEARD_S)
    try:
        frame, address = ear.recvfrom(4096)
        while address[2] == socket.PACKET_OUTGOING or len(frame) < _LEAST_TRAFFIC_BYTES:
            frame, address = ear.recvfrom(4096)
    except TimeoutError:
        raise ToolError("disturbing a trial", f"no packet of traffic was seen for {_HEARD_S:g} s") from None
    return frame


# ------------------------------------------------------------------------------------------------- switch and buffers


def flow(spec: str, actions: str) -> Touch:
    """Add a flow before all others, and take it away."""

    def touch(trial: RunningTrial) -> Undo:
        trial.openflow("add-flow", f"{spec},priority=999,actions={actions}")
        return lambda: trial.openflow("del-flows", spec)

    return touch


def openflow(do: tuple[str, ...], undo: tuple[str, ...] = ()) -> Touch:
    """Give the switch a command of ``ovs-ofctl`` and its arguments."""

    def touch(trial: RunningTrial) -> Undo:
        trial.openflow(*do)
        return (lambda: trial.openflow(*undo)) if undo else nothing

    return touch


def configuration(*arguments: str) -> Touch:
    """Change the configuration of the switch."""

    def touch(trial: RunningTrial) -> Undo:
        trial.configure(*arguments)
        return nothing

    return touch


def control(word: str, value: int) -> Touch:
    """Write a control word of the program of some node."""

    def touch(trial: RunningTrial) -> Undo:
        words = memoryview(libbpf.map_array(_control_map(trial.pid("agents")), NODE_CONTROL.itemsize)).cast("Q")
        at = offset(NODE_CONTROL, word) // 8
        before, words[at] = words[at], value

        def back() -> None:
            words[at] = before

        return back

    return touch


def _control_map(pid: int) -> int:
    """Return a descriptor of the control map of a node's program, which the process `pid` has open."""
    wanted = {"map_type:\t2", f"value_size:\t{NODE_CONTROL.itemsize}", "max_entries:\t1"}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        said = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text(encoding="ascii")
        if wanted <= set(said.splitlines()):
            return kernel.borrow_fd(pid, int(entry.name))
    raise ToolError("looking for a node's control map", f"process {pid} has none")


@contextmanager
def done_to(trial: RunningTrial, touch: Touch) -> Iterator[None]:
    """Do something to a trial for the length of the block."""
    undo = touch(trial)
    try:
        yield
    finally:
        undo()
