"""Disables checksum and segmentation offloads, so that every frame arrives as the sender created it.

If transmit checksums are left to a "device", which a veth does not have, the userspace datapath of Open vSwitch
forwards packets with wrong checksums, and TCP cannot even connect.  With receive merging, the queue would see frames
that nobody sent.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

from testbed.errors import ToolError

_SIOCETHTOOL = 0x8946
# ETHTOOL_SRXCSUM is left alone: veth takes what it is given.
_SET_COMMANDS = {"tx checksums": 0x17, "scatter-gather": 0x19, "TSO": 0x1F, "GSO": 0x24, "GRO": 0x2C}


def switch_off(interfaces: list[str]) -> None:
    """Switch every offload of the interfaces (of the current network namespace) off.

    Raises:
        ToolError: names the interface and the offload that could not be switched.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for interface in interfaces:
            for offload, command in _SET_COMMANDS.items():
                _set(control, interface, offload, command)


def switch_gro_off(interface: str) -> None:
    """Switch receive merging off once more: attaching an XDP program to a veth may switch it on.

    Raises:
        ToolError: it could not be switched.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        _set(control, interface, "GRO", _SET_COMMANDS["GRO"])


def _set(control: socket.socket, interface: str, offload: str, command: int) -> None:
    value = ctypes.create_string_buffer(struct.pack("II", command, 0))
    request = struct.pack("16sP", interface.encode(), ctypes.addressof(value))
    try:
        fcntl.ioctl(control, _SIOCETHTOOL, request)
    except OSError as error:
        raise ToolError(f"switching {offload} of {interface} off", str(error)) from error
