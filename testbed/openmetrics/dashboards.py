"""The Grafana dashboards, as code: ``make reference`` writes them to ``deploy/grafana/dashboards``.

A dashboard is a list of panels and a panel a list of queries in PromQL; all else of the JSON that Grafana reads follows
from that.  Variables stand in the queries as Grafana has them: ``$run`` and ``$node`` are chosen at the top of a
page, ``$__rate_interval`` is at least four scrapes long.

python -m testbed.openmetrics.dashboards FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.files import writing

SCHEMA_VERSION = 39  # of Grafana 11; later ones migrate it as they load it
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT, _COLUMNS = 12, 8, 2
_RUN, _NODE = 'run=~"$run"', 'run=~"$run",node=~"$node"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: a graph over time, or a table of the last values.

    Attributes:
        title: what it shows; a sentence about it is in `doc`.
        unit: of its values, as Grafana names units.
        queries: PromQL by legend.
        table: whether it is a table.
    """

    title: str
    doc: str
    unit: str
    queries: Mapping[str, str]
    table: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One page of Grafana.

    Attributes:
        name: of its file and its address.
        title, doc: for readers.
        panels: in the order of reading, two a row.
    """

    name: str
    title: str
    doc: str
    panels: tuple[Panel, ...]


def _rate(metric: str, where: str) -> str:
    return f"rate({metric}_total{{{where}}}[$__rate_interval])"


def _quantile(ratio: float, metric: str) -> str:
    buckets = f"sum by (node, le) (rate({metric}_bucket{{{_NODE}}}[$__rate_interval]))"
    return f"histogram_quantile({ratio}, {buckets})"


_ARRIVALS = Panel(
    "Arrivals by node",
    "Data that reaches the buffer of each node, dropped packets included.",
    "bps",
    {"{{node}}": f"8 * {_rate('testbed_node_arrived_bytes', _NODE)}"},
)
_BACKLOGS = Panel(
    "Backlog by node",
    "Bytes that wait in the buffer of each node.",
    "bytes",
    {"{{node}}": f"testbed_node_backlog_bytes{{{_NODE}}}"},
)
_SLOTS = Panel(
    "Slots moved",
    "Slots of the balancer's table that were assigned to another node.",
    "short",
    {"slots": f"testbed_balancer_slots_moved_total{{{_RUN}}}"},
)

DASHBOARDS = (
    Dashboard(
        "cluster",
        "Testbed: cluster",
        "One trial: load, backlog, memory and loss of all nodes.",
        (
            _ARRIVALS,
            _BACKLOGS,
            Panel(
                "Reserved memory",
                "Sum of the buffer limits of all nodes.",
                "bytes",
                {"reserved": f"sum(testbed_node_limit_bytes{{{_RUN}}})"},
            ),
            Panel(
                "Loss",
                "Share of the arriving packets that the buffers drop.",
                "percentunit",
                {
                    "loss": f"sum({_rate('testbed_node_dropped_packets', _RUN)})"
                    f" / sum({_rate('testbed_node_arrived_packets', _RUN)})"
                },
            ),
            Panel(
                "Imbalance",
                "Arrival rate of the busiest node divided by the mean over all nodes.",
                "short",
                {
                    "busiest / mean": f"max({_rate('testbed_node_arrived_bytes', _RUN)})"
                    f" / avg({_rate('testbed_node_arrived_bytes', _RUN)})"
                },
            ),
            Panel(
                "Notifications",
                "Notifications of each node that reach the balancer.",
                "cps",
                {"{{node}}": _rate("testbed_balancer_notifications", _NODE)},
            ),
            _SLOTS,
            Panel(
                "Verdict",
                "Checks of the verdict of a finished run that was exported.",
                "short",
                {"{{check}}": f"last_over_time(testbed_verdict_check{{{_RUN}}}[$__range])"},
                table=True,
            ),
        ),
    ),
    Dashboard(
        "node",
        "Testbed: node",
        "One node: its buffer, the forecast of its agent, and the timing of the agent.",
        (
            Panel(
                "Buffer",
                "Backlog, forecast of its peak, and the limit above which packets are dropped.",
                "bytes",
                {
                    "backlog {{node}}": f"testbed_node_backlog_bytes{{{_NODE}}}",
                    "limit {{node}}": f"testbed_node_limit_bytes{{{_NODE}}}",
                    "forecast {{node}}": f"testbed_node_predicted_backlog_bytes{{{_NODE}}}",
                },
            ),
            Panel(
                "Fill",
                "Share of the buffer that is in use.",
                "percentunit",
                {"{{node}}": f"testbed_node_backlog_bytes{{{_NODE}}} / testbed_node_limit_bytes{{{_NODE}}}"},
            ),
            _ARRIVALS,
            Panel(
                "Drops",
                "Packets that the buffer drops.",
                "pps",
                {"{{node}}": _rate("testbed_node_dropped_packets", _NODE)},
            ),
            Panel(
                "New flows",
                "Flows first seen at the node.",
                "cps",
                {"{{node}}": _rate("testbed_node_new_flows", _NODE)},
            ),
            Panel(
                "Limit changes",
                "How often the buffer was resized.",
                "short",
                {"{{node}}": f"testbed_node_limit_changes_total{{{_NODE}}}"},
            ),
            Panel(
                "Control loop",
                "99th percentiles of the duration and of the lateness of the agent's loop.",
                "s",
                {
                    "loop {{node}}": _quantile(0.99, "testbed_agent_loop_seconds"),
                    "lateness {{node}}": _quantile(0.99, "testbed_agent_lateness_seconds"),
                },
            ),
            Panel(
                "One-way delay",
                "Percentiles over a finished run that was exported.",
                "s",
                {
                    f"p{ratio:g} {{{{node}}}}": f"histogram_quantile({ratio / 100}, sum by (node, le) "
                    f"(last_over_time(testbed_node_delay_seconds_bucket{{{_NODE}}}[$__range])))"
                    for ratio in (50, 99)
                },
                table=True,
            ),
        ),
    ),
    Dashboard(
        "failover",
        "Testbed: failover",
        "Faults as commanded and as observed, their detection, and the actions of the balancer.",
        (
            Panel(
                "Faults",
                "Faults that the scenario commanded, observed in effect, and observed to be over.",
                "short",
                {
                    f"{stage} {{{{fault}}}}": f"testbed_faults_{stage}_total{{{_RUN}}}"
                    for stage in ("commanded", "observed")
                },
            ),
            Panel(
                "Suspicions",
                "How often monitors suspected a node, and mesh members declared it dead.",
                "short",
                {
                    "suspected {{node}}": f"testbed_mesh_suspicions_total{{{_NODE}}}",
                    "dead {{node}}": f"testbed_mesh_deaths_total{{{_NODE}}}",
                },
            ),
            Panel(
                "Nodes out of forwarding",
                "How often the balancer removed a node from forwarding.",
                "short",
                {"{{node}}": f"testbed_balancer_nodes_removed_total{{{_NODE}}}"},
            ),
            _SLOTS,
            _ARRIVALS,
            Panel(
                "Records by kind",
                "Number of records that the trial wrote, by kind.",
                "short",
                {"{{kind}}": f"testbed_records_total{{{_RUN}}}"},
            ),
        ),
    ),
    Dashboard(
        "forecast",
        "Testbed: forecast",
        "What the nodes forecast, compared with what arrived.",
        (
            Panel(
                "Forecast and backlog",
                "Largest forecast of the backlog, and the backlog.",
                "bytes",
                {
                    "forecast {{node}}": f"testbed_node_predicted_backlog_bytes{{{_NODE}}}",
                    "backlog {{node}}": f"testbed_node_backlog_bytes{{{_NODE}}}",
                },
            ),
            Panel(
                "Burst severity",
                "Severity of the burst precursor in the last sample.",
                "percentunit",
                {"{{node}}": f"testbed_node_burst_severity_ratio{{{_NODE}}}"},
            ),
            Panel(
                "Error of the forecast",
                "Error of the forecast made 100 ms ago; and, for comparison, "
                "of the backlog at that time used as a forecast.",
                "bytes",
                {
                    "forecast {{node}}": f"abs(testbed_node_predicted_backlog_bytes{{{_NODE}}} offset 100ms"
                    f" - testbed_node_backlog_bytes{{{_NODE}}})",
                    "last value {{node}}": f"abs(testbed_node_backlog_bytes{{{_NODE}}} offset 100ms"
                    f" - testbed_node_backlog_bytes{{{_NODE}}})",
                },
            ),
            Panel(
                "Headroom",
                "Bytes that the limit leaves free.",
                "bytes",
                {"{{node}}": f"testbed_node_limit_bytes{{{_NODE}}} - testbed_node_backlog_bytes{{{_NODE}}}"},
            ),
        ),
    ),
)


def document(dashboard: Dashboard) -> dict[str, Any]:
    """Return the dashboard as Grafana reads it."""
    return {
        "uid": f"testbed-{dashboard.name}",
        "title": dashboard.title,
        "description": dashboard.doc,
        "tags": ["testbed"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "1s",
        "time": {"from": "now-1m", "to": "now"},
        "templating": {"list": list(_variables())},
        "annotations": {"list": [_faults()]},
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    for name, query in (
        ("run", "label_values(testbed_node_limit_bytes, run)"),
        ("node", 'label_values(testbed_node_limit_bytes{run=~"$run"}, node)'),
    ):
        yield {
            **{"name": name, "label": name.capitalize(), "type": "query", "datasource": _DATASOURCE},
            **{"query": {"query": query, "refId": name}, "refresh": 2, "sort": 3},
            **{"multi": name == "node", "includeAll": name == "node", "allValue": ".*" if name == "node" else None},
        }


def _faults() -> dict[str, Any]:
    return {
        **{"name": "faults", "datasource": _DATASOURCE, "enable": True, "iconColor": "red"},
        **{"expr": f"changes(testbed_faults_observed_total{{{_RUN}}}[$__interval]) > 0", "titleFormat": "{{fault}}"},
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "table" if panel.table else "timeseries",
        "title": panel.title,
        "description": panel.doc,
        "datasource": _DATASOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {},
        "targets": [_target(place, panel, *query) for place, query in enumerate(panel.queries.items())],
    }


def _target(place: int, panel: Panel, legend: str, expression: str) -> dict[str, Any]:
    shape = {"instant": True, "format": "table"} if panel.table else {"instant": False, "format": "time_series"}
    return {"refId": chr(ord("A") + place), "expr": expression, "legendFormat": legend, **shape}


def text(dashboard: Dashboard) -> str:
    """Return the content of its file."""
    return json.dumps(document(dashboard), indent=2) + "\n"


def write(folder: Path) -> None:
    """Write all dashboards to a folder."""
    for dashboard in DASHBOARDS:
        writing.replace(folder / f"{dashboard.name}.json", text(dashboard), durable=False)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
