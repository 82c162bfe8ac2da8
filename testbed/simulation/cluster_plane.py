"""What a cluster needs of the plane: its own buffers and its own switch, by rows of its own.

A network in one place has one cluster, whose plane is the `PacketPlane` itself.  Each of several sites is a cluster,
too, and has a `SiteWindow` on the plane that all share: the same parts, with rows that begin at 0.
"""

from __future__ import annotations

from typing import Protocol

from testbed.records.events import Ints, TrafficSampled
from testbed.simulation.deflection import Deflection
from testbed.simulation.packet_plane import PacketPlane
from testbed.simulation.switch import Switch


class ClusterPlane(Protocol):
    """The part of the plane that belongs to a cluster; see `PacketPlane`."""

    switch: Switch
    deflection: Deflection | None
    behind_switch_ns: int

    def advance(self, until_ns: int) -> None:
        """Let everything happen up to and including `until_ns`."""

    def read(self, rows: slice, interval_ns: int) -> tuple[TrafficSampled, Ints]:
        """Return what nodes saw since they were read last."""
        ...

    def looks(self) -> dict[str, tuple[int, int, int]]:
        """Return packets, bytes and backlog of each node."""
        ...

    def set_limit(self, rows: slice | Ints, limit_bytes: Ints) -> None:
        """Set the limits of buffers."""

    def deflected(self, rows: slice) -> tuple[Ints, Ints]:
        """Return the bytes and packets handed to siblings."""
        ...

    def restart(self, row: int) -> None:
        """Let a node that did not run take packets in again."""

    def has_crashed(self, row: int) -> bool:
        """Return whether a node has crashed and was not restarted since."""
        ...


class SiteWindow:
    """The plane as the cluster of one site sees it.

    Args:
        plane: of all sites.
        switch: of the site.
        rows: its nodes among all.
    """

    deflection: Deflection | None = None

    def __init__(self, plane: PacketPlane, switch: Switch, rows: slice) -> None:
        self._plane, self._rows, self.switch = plane, rows, switch
        self.behind_switch_ns = plane.behind_switch_ns

    def advance(self, until_ns: int) -> None:
        """See `PacketPlane.advance`."""
        self._plane.advance(until_ns)

    def read(self, rows: slice, interval_ns: int) -> tuple[TrafficSampled, Ints]:
        """See `PacketPlane.read`."""
        return self._plane.read(self._shifted(rows), interval_ns)

    def looks(self) -> dict[str, tuple[int, int, int]]:
        """See `PacketPlane.looks`."""
        return self._plane.looks(self._rows)

    def set_limit(self, rows: slice | Ints, limit_bytes: Ints) -> None:
        """See `PacketPlane.set_limit`."""
        shifted = self._shifted(rows) if isinstance(rows, slice) else rows + self._rows.start
        self._plane.set_limit(shifted, limit_bytes)

    def deflected(self, rows: slice) -> tuple[Ints, Ints]:
        """See `PacketPlane.deflected`."""
        return self._plane.deflected(self._shifted(rows))

    def restart(self, row: int) -> None:
        """See `PacketPlane.restart`."""
        self._plane.restart(row + self._rows.start)

    def _shifted(self, rows: slice) -> slice:
        begin, end, _ = rows.indices(self._rows.stop - self._rows.start)
        return slice(begin + self._rows.start, end + self._rows.start)

    def has_crashed(self, row: int) -> bool:
        """See `PacketPlane.has_crashed`."""
        return self._plane.has_crashed(self._rows.start + row)
