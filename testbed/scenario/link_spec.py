"""What a scenario says of single links: `topology.links`, by their names, with ``*`` for any part of a name.

    links:
      "leaf*-spine*": {rate: 200Mbit, queue: 0.25MB}
      leaf2-spine1: {delay: 2ms}

An entry applies to every link it names, in the order of the file, and changes only what it says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from pydantic import Field, model_validator

from testbed import units
from testbed.scenario.base import Duration, Rate, Size, Spec
from testbed.scenario.network import Link, Network

MAX_LINK_DELAY_NS = 10 * units.NS_PER_S
MAX_RATE_BPS = 100 * 10**9
DEFAULT_QUEUE_BYTES = 500_000
LARGEST_FRAME_BYTES = 3500  # the largest frame that fits into one page with the headroom of XDP; the MTU of all links


_RATE = "simulation only: capacity of a link between switches, in each direction"
_QUEUE = f"simulation only: queue size of the link, in each direction; default {units.size_text(DEFAULT_QUEUE_BYTES)}"


class LinkSpec(Spec):
    """One entry of `topology.links`."""

    rate_bps: Rate | None = Field(None, alias="rate", gt=0, le=MAX_RATE_BPS, description=_RATE)
    queue_bytes: Size | None = Field(None, alias="queue", ge=LARGEST_FRAME_BYTES, le=10**9, description=_QUEUE)
    delay_ns: Duration | None = Field(None, alias="delay", le=MAX_LINK_DELAY_NS, description="one-way delay")

    @model_validator(mode="after")
    def _says_something(self) -> LinkSpec:
        if self.rate_bps is None and self.queue_bytes is not None:
            raise ValueError("queue without a rate: a link without a rate has no queue; add a rate")
        if self.rate_bps is None and self.delay_ns is None:
            raise ValueError("neither rate nor delay is given")
        return self


def named(network: Network, pattern: str) -> Iterator[Link]:
    """Yield the links that carry planned packets to nodes and whose name, either way round, fits."""
    ends = {*network.data_switches}
    for link in network.links:
        if {link.a, link.b} & ends and any(fnmatchcase(n, pattern) for n in (link.name, f"{link.b}-{link.a}")):
            yield link


def with_links(network: Network, links: Mapping[str, LinkSpec]) -> Network:
    """Return the network with what a scenario says of its links."""
    if not links:
        return network
    changed = {link.name: link for link in network.links}
    for pattern, spec in links.items():
        for link in named(network, pattern):
            changed[link.name] = _changed(changed[link.name], spec)
    return replace(network, links=tuple(changed.values()))


def _changed(link: Link, spec: LinkSpec) -> Link:
    rate_bps = link.rate_bps if spec.rate_bps is None else spec.rate_bps
    queue_bytes = link.queue_bytes if spec.queue_bytes is None else spec.queue_bytes
    delay_ns = link.delay_ns if spec.delay_ns is None else spec.delay_ns
    return replace(link, rate_bps=rate_bps, queue_bytes=queue_bytes or DEFAULT_QUEUE_BYTES, delay_ns=delay_ns)
