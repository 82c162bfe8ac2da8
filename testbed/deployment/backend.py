"""The backend's side of the tunnels: a container beside the service that answers at the VIP."""

from __future__ import annotations

import signal
import threading

from testbed.deployment import tunnels
from testbed.deployment.cluster import Cluster
from testbed.deployment.discovery import Directory
from testbed.policies.membership import BALANCER


def run(cluster: Cluster) -> None:
    """Keep the tunnels until SIGTERM."""
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    tunnels.make_backend(cluster.spec.vip, range(len(cluster.nodes)))
    directory = Directory({BALANCER: (cluster.spec.balancer_host, 0)})
    directory.on_change(lambda _name, ip: tunnels.connect(tunnels.INGRESS, tunnels.BACKEND_VNI, ip))
    directory.start()
    over.wait()
    directory.close()
