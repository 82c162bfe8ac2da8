"""The metrics of a trial at an address, or nowhere: what a run reports to in either case."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from testbed.records.facts import RunFacts
from testbed.units import NS_PER_S

if TYPE_CHECKING:
    from testbed.openmetrics.live import LiveMetrics
    from testbed.openmetrics.server import MetricsServer


class ServedMetrics:
    """Takes the address at once, so that one in use ends the command before anything else begins.

    A context manager: the address is free after it.

    Args:
        address: as of `server.Address.parse`; empty: metrics are served nowhere, and reports are dropped.

    Raises:
        InputError: it is no address.
        ToolError: it cannot be had.
    """

    def __init__(self, address: str) -> None:
        self._server: MetricsServer | None = None
        self._metrics: LiveMetrics | None = None
        if address:
            from testbed.openmetrics.server import Address, MetricsServer

            self._server = MetricsServer(Address.parse(address))

    @property
    def where(self) -> str:
        """Return the address to scrape, empty when there is none."""
        return "" if self._server is None else str(self._server.address)

    def begin(self, facts: RunFacts, run: str) -> None:
        """Process what is to be run, and the name of its directory."""
        if self._server is None:
            return
        from testbed.openmetrics.families import run_labels
        from testbed.openmetrics.live import LiveMetrics

        info = {"engine": facts.engine, "balancer": facts.balancer_policy, "seed": str(facts.seed)}
        self._metrics = LiveMetrics(run_labels(run, facts), info, facts.duration_ns)

    def append_columns(self, columns: Mapping[str, object]) -> None:
        """Process rows of samples; scrapes are answered from the first ones on."""
        if self._server is None or self._metrics is None:
            return
        self._metrics.append_columns(columns)
        if not self._server.started:  # the trial has made its processes: none is made by fork any more
            self._server.start(self._metrics)

    def append_event(self, record: Mapping[str, Any]) -> None:
        """Process a record of an event."""
        if self._metrics is not None:
            self._metrics.append_event(record)

    def cost(self) -> dict[str, Any]:
        """Return what the manifest says of the scrapes; nothing where there was no address."""
        if self._metrics is None:
            return {}
        return {"metrics": {"scrapes": self._metrics.scrapes, "cpu_s": round(self._metrics.spent_ns / NS_PER_S, 6)}}

    def __enter__(self) -> ServedMetrics:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
