"""`tree`: switches as a tree; clients and balancer at the root, nodes at the leaves.

c1 ─┐      ┌─ s2 ─┬─ s4 ── n1, n2 …
c2 ─┴─ s1 ─┤      └─ s5 ── n3 …        `depth` levels below the root, `fanout` switches below each but the last
           └─ s3 ─┬─ s6
                  └─ s7               n1…nN are also connected to m1, the mesh network
"""

from __future__ import annotations

from typing import cast

from pydantic import BaseModel, ConfigDict, Field

from testbed.scenario.network import Network
from testbed.scenario.tables import FamilyTraits, options_of
from testbed.scenario.topology import TopologySpec
from testbed.topologies import fabric

MOST_SWITCHES = 64


class TreeOptions(BaseModel):
    """How large the tree is."""

    model_config = ConfigDict(extra="forbid", strict=True)
    depth: int = Field(1, ge=1, le=6, description="levels of switches below the root")
    fanout: int = Field(2, ge=1, le=32, description="child switches of each switch, except on the last level")


def describe(spec: TopologySpec) -> Network:
    """Return the tree, its switches numbered level by level."""
    options = _options(spec)
    trunks, level, count = list[tuple[str, str]](), ["s1"], 1
    for _ in range(options.depth):
        below = [f"s{count + i + 1}" for i in range(len(level) * options.fanout)]
        trunks += [(level[index // options.fanout], name) for index, name in enumerate(below)]
        level, count = below, count + len(below)
    return fabric.describe(spec, [f"s{i}" for i in range(1, count + 1)], trunks, ["s1"], level)


def _options(spec: TopologySpec) -> TreeOptions:
    return cast("TreeOptions", options_of(ROWS[0], spec.options))


def _refusal(spec: TopologySpec) -> str:
    options = _options(spec)
    count = sum(options.fanout**level for level in range(options.depth + 1))
    if count > MOST_SWITCHES:
        size = f"of depth {options.depth} and fanout {options.fanout}"
        return f"a tree {size} has {count} switches; {MOST_SWITCHES} at most"
    return ""


ROWS = (
    FamilyTraits(
        name="tree",
        doc="a tree of switches (`options`: `depth`, `fanout`); balancer and clients at the root, nodes at the leaves",
        describe=describe,
        keys=("node_rates",),
        options=TreeOptions,
        refusal=_refusal,
    ),
)
