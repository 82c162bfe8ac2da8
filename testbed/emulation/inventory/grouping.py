"""Combines single differences into the changes that a verdict names: differences of one thing, the cause first.

One action causes many differences: a link that goes down also loses addresses, routes and neighbours.  The cause came
first.  If the kernel reports several at the same time, the one with the lower rank in this file is the cause.
"""

from __future__ import annotations

from collections.abc import Iterable

from testbed.emulation.inventory.difference import ABSENT, Difference
from testbed.records.changes import Change

_RANKS = (
    ("configuration", "flow", "process", "buffer", "filter", "qdisc"),
    ("link",),
    ("offloads", "interface setting", "neighbour", "address", "packet filter"),
    ("route", "routing rule", "next hop", "channels", "sysctl"),
)
_FOLLOWING = ("carrier", "af_spec", "max_mtu", "operstate", "flags")  # attributes of a link that follow from others
_LATE_NS = 1 << 62
_MOST_VALUES = 6


def changes_of(found: Iterable[Difference]) -> tuple[Change, ...]:
    """Return the changes that differences make up, in the order in which to name them."""
    grouped: dict[tuple[str, str, str, str], list[Difference]] = {}
    for difference in found:
        grouped.setdefault(_thing(difference), []).append(difference)
    return tuple(_change(group) for group in sorted(grouped.values(), key=lambda group: _order(group[0])))


def _thing(found: Difference) -> tuple[str, str, str, str]:
    return found.namespace, found.kind, found.thing, found.what


def _order(found: Difference) -> tuple[int, int, tuple[str, ...]]:
    rank = next((k for k, kinds in enumerate(_RANKS) if found.kind in kinds), len(_RANKS))
    rank += len(_RANKS) if found.what.startswith(_FOLLOWING) else 0
    return _LATE_NS if found.t_ns is None else found.t_ns, rank, _thing(found)


def _history(group: list[Difference]) -> list[str]:
    """Return the values of a thing one after the other; what is replaced is not absent in between."""
    values, t_ns = [group[0].before], None
    for found in group:
        if found.before == values[-1] == ABSENT and found.t_ns == t_ns and len(values) > 1:
            values.pop()
        values += [value for value in (found.before, found.after) if value != values[-1]]
        t_ns = found.t_ns
    return values


def _change(group: list[Difference]) -> Change:
    first = group[0]
    values = _history(group)
    if len(values) > _MOST_VALUES:
        values = [*values[: _MOST_VALUES - 2], "…", values[-1]]
    times = [found.t_ns for found in group if found.t_ns is not None]
    return Change(
        namespace=first.namespace,
        kind=first.kind,
        thing=f"{first.thing} {first.what}".strip(),
        values=tuple(values),
        times=len(group),
        first_ns=min(times, default=None),
        last_ns=max(times, default=None),
    )
