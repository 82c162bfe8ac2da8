"""Settings of a network namespace for which the kernel sends no notification: read at the start and at the end.

These are offloads and channels of each interface (ethtool), sysctls, and the packet filter: nftables counts its
changes, and a legacy table appears once it has been used.  Sysctls of a single interface come with its link
(`messages`).  A change between two readings that was reverted is not detected, except in nftables.  A change of
offloads is announced, but without saying what changed.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

Setting = tuple[str, str]  # kind and name
Settings = dict[Setting, str]

_SIOCETHTOOL = 0x8946
_GET_FEATURES, _GET_CHANNELS, _GET_STRINGS = 0x3A, 0x3C, 0x1B
_FEATURE_NAMES = 4  # the set of strings
_BLOCKS = 4  # of 32 features
_NAME_BYTES = 32
_SYSCTL_FOLDERS = (
    "core",
    "ipv4",
    "ipv6",
    *(f"{ip}/conf/{which}" for ip in ("ipv4", "ipv6") for which in ("all", "default")),
)
_TABLES = ("ip_tables_names", "ip6_tables_names", "arp_tables_names")
_NETLINK_NETFILTER, _GET_GENERATION, _NEW_GENERATION = 12, 10 << 8 | 16, 10 << 8 | 15


def read(interfaces: Iterable[str]) -> Settings:
    """Return the settings of the current network namespace and of `interfaces` in it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        found = dict(entry for name in interfaces for entry in _of_interface(control, name))
    return {**found, **dict(_sysctls()), **dict(_packet_filter())}


def _of_interface(control: socket.socket, interface: str) -> Iterator[tuple[Setting, str]]:
    active = active_features(control, interface)
    if active is not None:
        yield ("offloads", interface), active.hex()
    with contextlib.suppress(OSError):
        answer = _ethtool(control, interface, struct.pack("9I", _GET_CHANNELS, *[0] * 8))
        yield ("channels", interface), " ".join(map(str, struct.unpack("9I", answer)[5:]))


def active_features(control: socket.socket, interface: str) -> bytes | None:
    """Return a bit for each feature of an interface that is on; None: the interface is gone."""
    try:
        answer = _ethtool(control, interface, struct.pack("II", _GET_FEATURES, _BLOCKS) + bytes(16 * _BLOCKS))
    except OSError:
        return None
    blocks = struct.unpack_from("I", answer, 4)[0]
    return b"".join(answer[8 + 16 * k + 8 : 8 + 16 * k + 12] for k in range(min(blocks, _BLOCKS)))


def feature_names(interface: str) -> list[str]:
    """Return the name of each feature's bit, for an interface of the current network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
        count = 32 * _BLOCKS
        answer = _ethtool(
            control, interface, struct.pack("III", _GET_STRINGS, _FEATURE_NAMES, 0) + bytes(count * _NAME_BYTES)
        )
    count = struct.unpack_from("I", answer, 8)[0]
    names = (answer[12 + k * _NAME_BYTES : 12 + (k + 1) * _NAME_BYTES] for k in range(count))
    return [name.split(b"\0", 1)[0].decode(errors="replace") for name in names]


def in_words(names: list[str], before: str, after: str) -> str:
    """Return in which features the second of two settings of offloads differs: ``-tx-tcp-segmentation +rx-gro``."""
    old, new = (int.from_bytes(bytes.fromhex(value), "little") for value in (before, after))
    changed = (bit for bit in range(32 * _BLOCKS) if (old ^ new) >> bit & 1)
    named = ((bit, names[bit] if bit < len(names) else f"feature {bit}") for bit in changed)
    return " ".join(f"{'+' if new >> bit & 1 else '-'}{name}" for bit, name in named)


def _ethtool(control: socket.socket, interface: str, request: bytes) -> bytes:
    value = ctypes.create_string_buffer(request, len(request))
    fcntl.ioctl(control, _SIOCETHTOOL, struct.pack("16sP", interface.encode(), ctypes.addressof(value)))
    return value.raw


def _sysctls() -> Iterator[tuple[Setting, str]]:
    """Yield each sysctl that can be read; a kernel without IPv6 has none of its keys."""
    for folder in _SYSCTL_FOLDERS:
        try:
            directory = os.open(f"/proc/sys/net/{folder}", os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        except OSError:
            continue
        for name in os.listdir(directory):
            value = _content(directory, name)
            if value is not None:
                yield ("sysctl", f"net/{folder}/{name}"), value
        os.close(directory)


def _content(directory: int, name: str) -> str | None:
    try:
        file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:  # write-only
        return None
    try:
        return os.read(file, 4096).decode(errors="replace").strip()
    except OSError:  # a folder, or a secret that nobody has set
        return None
    finally:
        os.close(file)


def _packet_filter() -> Iterator[tuple[Setting, str]]:
    for name in _TABLES:
        with contextlib.suppress(OSError):
            yield (
                ("packet filter", name),
                " ".join(Path(f"/proc/thread-self/net/{name}").read_text(encoding="ascii").split()),
            )
    with contextlib.suppress(OSError):
        yield ("packet filter", "nftables"), f"generation {_nftables_generation()}"


def _nftables_generation() -> int:
    """Return how often nftables was changed in this namespace (OSError: this kernel has none)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as netlink:
        netlink.bind((0, 0))
        netlink.send(struct.pack("IHHIIBBH", 20, _GET_GENERATION, 1, 1, 0, socket.AF_UNSPEC, 0, 0))
        answer = netlink.recv(4096)
    if struct.unpack_from("H", answer, 4)[0] != _NEW_GENERATION:
        raise OSError("this kernel has no nftables")
    return int(struct.unpack_from("!I", answer, 24)[0])
