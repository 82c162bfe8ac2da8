"""`node`, `balancer`, `backend`: members of a cluster outside the emulation, each the main process of a container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from testbed.commands.app import app

ClusterPath = Annotated[Path, typer.Argument(metavar="CLUSTER", help="file that describes the cluster")]
Metrics = Annotated[
    str,
    typer.Option(
        "--metrics", metavar="ADDRESS", envvar="TESTBED_METRICS", help="where metrics and probes are answered"
    ),
]
_EVERYWHERE = "0.0.0.0:9464"  # a pod has the addresses that its platform gives it


@app.command(epilog="Example: `python -m testbed node deploy/kubernetes/base/cluster.yaml --name n0`")
def node(
    cluster: ClusterPath,
    name: Annotated[
        str, typer.Option("--name", metavar="NODE", help="which node, such as n0; default: by the name of the pod")
    ] = "",
    metrics: Metrics = _EVERYWHERE,
) -> None:
    """Be a buffer node outside the emulation, in a container (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON).

    SIGTERM drains it: it ends when its flows have moved and its queue is empty.
    """
    from testbed.deployment import node as role
    from testbed.deployment.cluster import load, node_of

    loaded = load(cluster)
    role.run(loaded, node_of(loaded, name, os.environ), metrics)


@app.command(epilog="Example: `python -m testbed balancer deploy/kubernetes/base/cluster.yaml --scaler 0.0.0.0:9465`")
def balancer(
    cluster: ClusterPath,
    metrics: Metrics = _EVERYWHERE,
    scaler: Annotated[
        str,
        typer.Option("--scaler", metavar="ADDRESS", envvar="TESTBED_SCALER", help="answer KEDA's external scaler here"),
    ] = "",
    logs: Annotated[Path, typer.Option("--logs", metavar="DIR", help="logs of the switch")] = Path("/var/log/testbed"),
) -> None:
    """Be the balancer outside the emulation, in a container (CAP_NET_ADMIN, CAP_NET_RAW).

    It runs the switch, the controller and its standby, and the autoscaler.
    """
    from testbed.deployment import balancer as role
    from testbed.deployment.cluster import load

    logs.mkdir(parents=True, exist_ok=True)
    role.run(load(cluster), metrics, scaler, logs)


@app.command(epilog="Example: `python -m testbed backend deploy/kubernetes/base/cluster.yaml`")
def backend(cluster: ClusterPath) -> None:
    """Lead the tunnels of the nodes to a service in the same pod, which answers at the VIP (CAP_NET_ADMIN)."""
    from testbed.deployment import backend as role
    from testbed.deployment.cluster import load

    role.run(load(cluster))
