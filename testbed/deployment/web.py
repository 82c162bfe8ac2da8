"""What a pod answers over HTTP: `/metrics` for Prometheus, `/healthz` and `/readyz` for the probes of its platform.

*Healthy* is a pod whose loops come round: the one that was silent longest has been so for less than a second.  The
platform restarts it otherwise.  *Ready* is said by the role: a node is ready when it serves and hears the mesh, a
balancer when its flows are in force and a node serves.  Both answers say why not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from testbed.openmetrics.live import LiveMetrics
from testbed.openmetrics.server import Address, Application, MetricsServer

Refusal = Callable[[], str]
"""Returns why not; empty for yes."""
Gauge = tuple[str, str, Callable[[], float]]
"""Name, meaning, and what returns the value."""


class Gauges:
    """Values of the pod itself, beside those that its processes report; a collector for `prometheus_client`."""

    def __init__(self, labels: Mapping[str, str], rows: Iterable[Gauge]) -> None:
        """Take the rows; a value is asked for at each scrape."""
        self._labels, self._rows = dict(labels), tuple(rows)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric family with the values of now."""
        for name, doc, value in self._rows:
            family = GaugeMetricFamily(name, doc, labels=list(self._labels))
            family.add_metric(list(self._labels.values()), value())
            yield family


def served(address: str, metrics: LiveMetrics, gauges: Gauges, unhealthy: Refusal, unready: Refusal) -> MetricsServer:
    """Answer at an address until the server that is returned is closed; after the last fork.

    Raises:
        InputError, ToolError: it is no address, or cannot be had.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    registry.register(gauges)
    server = MetricsServer(Address.parse(address))
    server.answer(answering(make_wsgi_app(registry), {"/healthz": unhealthy, "/readyz": unready}))
    return server


def answering(metrics: Application, probes: Mapping[str, Refusal]) -> Application:
    """Return the application (WSGI) that answers probes by path, and everything else as `metrics` does."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        refusal = probes.get(environ.get("PATH_INFO", ""))
        if refusal is None:
            return metrics(environ, start_response)
        why = refusal()
        start_response("503 Service Unavailable" if why else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{why or 'ok'}\n".encode()]

    return answer
