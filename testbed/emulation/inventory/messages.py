"""Interprets messages of the kernel's network configuration: what a message is about, and what it says, in words.

Two steps, because most messages are only compared.  `identity` and `essence` extract bytes (some microseconds); `words`
decodes them with pyroute2 (a millisecond) if they differ.  Values that change without a configuration change
(statistics, ages, timers) are left out of both.  A neighbour counts only if it is permanent: the kernel learns and
forgets the others as packets pass.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from testbed.emulation.inventory.rtnetlink import (
    ACTION,
    ADDRESS,
    FILTER,
    LINK,
    NEIGHBOUR,
    NETCONF,
    NEXTHOP,
    QDISC,
    ROUTE,
    RULE,
    Raw,
)

Words = Mapping[str, str]
Identity = tuple[Any, ...]

_PASSING = {FILTER, ACTION}  # announced, and not asked for at the start, when there are only our own

KINDS = {
    LINK: "link", ADDRESS: "address", ROUTE: "route", NEIGHBOUR: "neighbour", RULE: "routing rule", QDISC: "qdisc",
    FILTER: "filter", ACTION: "action", NETCONF: "interface setting", NEXTHOP: "next hop",
}  # fmt: skip
_NLMSG, _IFINFO = 16, 16
_FIXED_BYTES = {
    LINK: 16, ADDRESS: 8, ROUTE: 12, NEIGHBOUR: 12, RULE: 12, QDISC: 20, FILTER: 20, ACTION: 4, NETCONF: 1,
    NEXTHOP: 8,
}  # fmt: skip
_AF_BRIDGE, _AF_INET6 = 7, 10
_INET6_RESTLESS = (3, 5, 6)  # statistics and cache information within IFLA_AF_SPEC
_NUD_PERMANENT = 0x80
_INDEX_AT = {LINK: 4, ADDRESS: 4, NEIGHBOUR: 4, QDISC: 4, FILTER: 4}  # of the interface, in the fixed part
_IFLA_STATS, _IFLA_STATS64, _IFLA_AF_SPEC, _IFLA_IFNAME, _IFLA_EVENT = 7, 23, 26, 3, 44
_EVENT_FEATURES = 2
_IFLA_LINK, _IFLA_OPERSTATE, _IFF_UP, _OPERSTATE_UP = 5, 16, 1, b"\x06"
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO = 1, 2, 6
_NDA_DST, _NDA_CACHEINFO, _NDA_PROBES = 1, 3, 4
_RTA_DST, _RTA_OIF, _RTA_PRIORITY, _RTA_CACHEINFO, _RTA_TABLE = 1, 4, 6, 12, 15
_TCA_STATS, _TCA_XSTATS, _TCA_STATS2 = 3, 4, 7
_NETCONFA_IFINDEX, _NHA_ID = 1, 1
_NETCONF_NAMES = {
    2: "forwarding", 3: "rp_filter", 4: "mc_forwarding", 5: "proxy_neigh", 6: "ignore_routes_with_linkdown",
    8: "bc_forwarding",
}  # fmt: skip
EVERY_INTERFACE = {-1: "all", -2: "default"}
_RESTLESS = {
    LINK: {_IFLA_STATS, _IFLA_STATS64, _IFLA_EVENT},
    ADDRESS: {_IFA_CACHEINFO},
    NEIGHBOUR: {_NDA_CACHEINFO, _NDA_PROBES},
    ROUTE: {_RTA_CACHEINFO},
    QDISC: {_TCA_STATS, _TCA_XSTATS, _TCA_STATS2},
}
_RESTLESS_WORDS = re.compile(
    r"stats|cacheinfo|timer|fdb_n_|\bchange$|\bevent$|probes|\bheader\b|af_spec\.af_inet6\.token"
    # What a bridge learns from multicast reports.
    r"|mcast_n_groups|mcast_eht_hosts_cnt|mcast_querier_state"
)
_TC_ROOT = 0xFFFFFFFF
_TELLING = {
    LINK: ("state", "mtu"), NEIGHBOUR: ("lladdr", "state"), ROUTE: ("gateway", "type", "proto"),
    QDISC: ("kind", "handle", "options.tbf_parms.rate", "options.tbf_parms.limit", "options.limit"),
    FILTER: ("kind", "pref"), ADDRESS: ("prefixlen",),
}  # fmt: skip
_PREFIXES = re.compile(r"^(ifla|ifa|rta|nda|tca|fra|netconfa|nha)_(br_|brport_|inet6?_|info_)?")


def _attributes(message: Raw) -> Iterator[tuple[int, bytes]]:
    return _nested(message.data[_NLMSG + ((_FIXED_BYTES[message.family] + 3) & ~3) :])


def _nested(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of each attribute."""
    start = 0
    while start + 4 <= len(data):
        length, kind = struct.unpack_from("HH", data, start)
        if length < 4:
            return
        yield kind & 0x3FFF, data[start + 4 : start + length]
        start += (length + 3) & ~3


def interface_index(message: Raw) -> int | None:
    """Return the index of the interface that a message is about, None when it is about none."""
    if message.family in _INDEX_AT:
        return int(struct.unpack_from("i", message.data, _NLMSG + _INDEX_AT[message.family])[0])
    wanted = {ROUTE: _RTA_OIF, NETCONF: _NETCONFA_IFINDEX}.get(message.family)
    found = next((value for kind, value in _attributes(message) if kind == wanted), None)
    return int(struct.unpack("i", found)[0]) if found is not None else None


def identity(message: Raw) -> Identity | None:
    """Return what tells the thing of this message from all others of its namespace; None: it does not count."""
    family, data = message.family, message.data
    if family not in KINDS or (family == LINK and data[_NLMSG] == _AF_BRIDGE):
        return None
    attributes = dict(_attributes(message))
    index = interface_index(message)
    if family == LINK:
        return family, index
    if family == NEIGHBOUR:
        return family, index, data[_NLMSG], attributes.get(_NDA_DST)
    if family == ADDRESS:
        return family, index, data[_NLMSG], data[_NLMSG + 1], attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS)
    if family == ROUTE:
        named = (attributes.get(key) for key in (_RTA_DST, _RTA_TABLE, _RTA_PRIORITY))
        return family, index, data[_NLMSG : _NLMSG + 4], data[_NLMSG + 7], *named
    if family == QDISC:
        return family, index, struct.unpack_from("I", data, _NLMSG + 12)[0]
    if family == NETCONF:
        return family, index, data[_NLMSG]
    if family == NEXTHOP:
        return family, attributes.get(_NHA_ID)
    return family, essence(message)


def counts(message: Raw) -> bool:
    """Return whether a thing in the state the message gives is one that a run relies on."""
    if message.family == NEIGHBOUR:
        return bool(struct.unpack_from("H", message.data, _NLMSG + 8)[0] & _NUD_PERMANENT)
    return True


def passes(message: Raw) -> bool:
    """Return whether things of this kind are heard of, and not kept in the stock."""
    return message.family in _PASSING


def tells_of_offloads(message: Raw) -> bool:
    """Return whether the message says that features of an interface were switched."""
    event = dict(_attributes(message)).get(_IFLA_EVENT) if message.family == LINK else None
    return event is not None and struct.unpack("I", event)[0] == _EVENT_FEATURES


def settles(message: Raw) -> bool:
    """Return whether a link of a pair (veth) that is up is still to be declared so: the kernel takes up to a second."""
    if message.family != LINK or not struct.unpack_from("I", message.data, _NLMSG + 8)[0] & _IFF_UP:
        return False
    attributes = dict(_attributes(message))
    return _IFLA_LINK in attributes and attributes.get(_IFLA_OPERSTATE, b"")[:1] != _OPERSTATE_UP


def link_name(message: Raw) -> str:
    """Return the name of the link that a message is about."""
    return dict(_attributes(message)).get(_IFLA_IFNAME, b"").rstrip(b"\0").decode()


def essence(message: Raw) -> bytes:
    """Return the bytes that stay as they are while nobody changes anything (nested attributes excepted)."""
    restless = _RESTLESS.get(message.family, set())
    end = _NLMSG + _FIXED_BYTES[message.family]
    end -= 4 if message.family in (LINK, ROUTE) else 0  # ifi_change; flags of a route that follow from its link
    fixed = message.data[_NLMSG:end]
    kept = sorted((kind, value) for kind, value in _attributes(message) if kind not in restless)
    if message.family == LINK:
        kept = [(kind, _settled(kind, value)) for kind, value in kept]
    return fixed + b"".join(struct.pack("HI", kind, len(value)) + value for kind, value in kept)


def _settled(kind: int, value: bytes) -> bytes:
    """Return the value of a link's attribute without what ages in it: IPv6 keeps counters and times there."""
    if kind != _IFLA_AF_SPEC:
        return value
    families = [(key, _without(inner, _INET6_RESTLESS) if key == _AF_INET6 else inner) for key, inner in _nested(value)]
    return repr(families).encode()


def _without(value: bytes, unwanted: Collection[int]) -> bytes:
    return repr([(key, inner) for key, inner in _nested(value) if key not in unwanted]).encode()


def merged(before: Raw, after: Raw) -> Raw:
    """Return `after` with what it leaves unsaid: of the settings of an interface only the changed ones are kept."""
    if after.family != NETCONF:
        return after
    start = _NLMSG + 4
    every = {**dict(_attributes(before)), **dict(_attributes(after))}
    packed = (
        struct.pack("HH", 4 + len(value), kind) + value.ljust(-(-len(value) // 4) * 4, b"\0")
        for kind, value in every.items()
    )
    return Raw(after.family, after.gone, after.data[:start] + b"".join(packed))


def words(message: Raw) -> dict[str, str]:
    """Return the attributes of a message by name, nested ones with dots, such as ``{"mtu": "1500"}``."""
    if message.family == NETCONF:
        named = ((_NETCONF_NAMES.get(kind), value) for kind, value in _attributes(message))
        return {name: str(struct.unpack("i", value)[0]) for name, value in named if name}
    decoded = next(iter(MarshalRtnl().parse(message.data)))
    flat = {_plain(name): str(value) for name, value in _flatten("", decoded)}
    return {name: value for name, value in flat.items() if not _RESTLESS_WORDS.search(name)}


def name_of(message: Raw, said: Words) -> str:
    """Return what to call the thing of a message beside its interface."""
    if message.family in (ROUTE, RULE):
        return f"{said.get('dst', 'default')}/{said.get('dst_len', '0')} in table {said.get('table', '?')}"
    if message.family == QDISC:
        handle = int(said.get("parent", "0"))
        return "root" if handle == _TC_ROOT else f"{handle >> 16:x}:{handle & 0xFFFF:x}"
    if message.family == NETCONF:
        return "IPv6" if message.data[_NLMSG] == _AF_INET6 else "IPv4"
    names = {NEIGHBOUR: "dst", ADDRESS: "address", FILTER: "kind", ACTION: "kind", NEXTHOP: "id"}
    return said.get(names.get(message.family, ""), "")


def summary(message: Raw, said: Words) -> str:
    """Return the thing of a message in a few words."""
    telling = _TELLING.get(message.family, ())
    return ", ".join(f"{name.rsplit('.', 1)[-1]} {said[name]}" for name in telling if name in said) or "present"


def _flatten(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == "attrs":
                for key, inner in value:
                    yield from _flatten(f"{path}.{key}" if path else key, inner)
            elif name != "header":
                yield from _flatten(f"{path}.{name}" if path else str(name), value)
    elif isinstance(node, (list, tuple)) and any(isinstance(item, Mapping) for item in node):
        for number, item in enumerate(node):
            yield from _flatten(f"{path}.{number}", item)
    else:
        yield path, node


def _plain(path: str) -> str:
    return ".".join(_PREFIXES.sub("", part.lower()) for part in path.split("."))
