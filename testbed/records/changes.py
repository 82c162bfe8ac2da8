"""Changes of what a run relies on that its scenario did not order, as an engine hands them over."""

from __future__ import annotations

from dataclasses import dataclass

from testbed.units import NS_PER_S

ON_THE_WAY = frozenset(
    {
        *("link", "qdisc", "filter", "action", "address", "route", "routing rule", "next hop", "neighbour"),
        *("interface setting", "offloads", "channels", "packet filter", "flow", "group", "port", "buffer"),
    }
)
"""Kinds of things that packets meet: after a change of one of them the run is not the one the scenario describes."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing, or one of its attributes, that changed.

    Attributes:
        namespace: whose network it is in: a host's name, ``switch``, or empty for what is in none.
        kind: of the thing: ``link``, ``qdisc``, ``process``…
        thing: which one and which of its attributes, in words that follow the kind.
        values: what it was first, and what it became in turn; a long history is cut in the middle.
        times: how often it changed.
        first_ns, last_ns: when, on the run's clock; None: at some time between start and end.
    """

    namespace: str
    kind: str
    thing: str
    values: tuple[str, ...]
    times: int = 1
    first_ns: int | None = None
    last_ns: int | None = None

    @property
    def on_the_way(self) -> bool:
        """Return whether packets meet the thing."""
        return self.kind in ON_THE_WAY

    def __str__(self) -> str:
        place = f" in {self.namespace}" if self.namespace else ""
        return f"{self.kind} {self.thing}{place}: {' → '.join(self.values)}{self._when}"

    @property
    def _when(self) -> str:
        if self.first_ns is None or self.last_ns is None:
            return " (found at the end)"
        first, last = f"{self.first_ns / NS_PER_S:.3f}", f"{self.last_ns / NS_PER_S:.3f}"
        return f" at {first} s" if first == last else f" from {first} s to {last} s"
