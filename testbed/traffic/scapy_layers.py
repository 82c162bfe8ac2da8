"""The layers of Scapy that frames are built from, loaded without the routes of the machine.

When Scapy is imported, it reads all routes and addresses of the machine, to select the interface and the source address
of packets that do not state them.  Ours state both.  Without the routes the import takes a third less time.  Code that
needs them calls ``scapy.config.conf.route.resync()`` and ``conf.route6.resync()``.

Source: scapy/route.py, scapy/route6.py (``conf.route_autoload``, ``conf.route6_autoload``).
"""

# ruff: noqa: E402 - Scapy reads its settings when its layers are imported
from __future__ import annotations

from scapy.config import conf

conf.route_autoload = conf.route6_autoload = False

from scapy.fields import IntField, LongField, XIntField
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

__all__ = ["IP", "UDP", "Ether", "IPv6", "IntField", "LongField", "Packet", "Raw", "XIntField"]
