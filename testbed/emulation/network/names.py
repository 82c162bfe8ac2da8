"""Names of the hosts inside the sandbox, for commands that a user runs there (`ping n2`); the trial does not use them.

A node reaches another node over the mesh, and all other hosts over the data network, so there are two files of names.
They are in the sandbox's private ``/run``.  A process that enters a host mounts the file of the host over
``/etc/hosts`` (`entering`).
"""

from __future__ import annotations

from pathlib import Path

from testbed.scenario.network import VIP_IP, VIP_IP6, Host, Network

FOLDER = Path("/run/hosts")
VIP_NAME = "vip"  # what clients send to


def write_names(network: Network, folder: Path = FOLDER) -> None:
    """Write the file of names of each host."""
    folder.mkdir(parents=True, exist_ok=True)
    for role in ("node", "other"):
        (folder / f".{role}").write_text("".join(_lines(network, role == "node")), encoding="utf-8")
    for host in network.hosts:
        (folder / host.name).symlink_to(".node" if host.role == "node" else ".other")


def _lines(network: Network, over_mesh: bool) -> list[str]:
    known = ["127.0.0.1 localhost\n", "::1 localhost\n", f"{VIP_IP} {VIP_NAME}\n", f"{VIP_IP6} {VIP_NAME}\n"]
    return known + [_line(host, over_mesh) for host in network.hosts]


def _line(host: Host, over_mesh: bool) -> str:
    from testbed.emulation.network.mininet import mesh_ip  # not with `exec`, which asks for the folder alone

    if over_mesh and host.role == "node":
        return f"{mesh_ip(host)} {host.name}\n"
    return f"{host.ip} {host.name}\n{host.ip6} {host.name}\n"
