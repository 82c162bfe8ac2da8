"""The balancer outside the emulation: Open vSwitch, the controller and its standby, and the roster, in one pod.

    clients ─▶ pod ─ DNAT ─▶ gw0 ═ gw1 ─ switch ─ n0, n1, … (tunnels to nodes), back (tunnel from the backend)
                                          │ OpenFlow
    notifications, reports of monitors ─▶ balancer ═ standby       reports of nodes ─▶ main process: roster, scaler

The switch's process forwards; neither controller has to live for that.  Switch and controllers are in one pod because
flows are pinned in the switch: a second pod with a switch of its own would not know them.  When the balancer dies the
standby takes over.  When the pod dies its successor begins with an empty switch: flows are placed anew.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from testbed.controllers import framework
from testbed.controllers.config import BalancerConfig, Station, Vip
from testbed.controllers.liveness import MeshAccess
from testbed.deployment import tunnels
from testbed.deployment.clock import ClusterClock
from testbed.deployment.cluster import Cluster, described
from testbed.deployment.discovery import Directory
from testbed.deployment.external_scaler import ExternalScaler
from testbed.deployment.pod import LATE_NS, Pod, bound
from testbed.deployment.reporter import REPORT_PORT
from testbed.deployment.roster import Roster
from testbed.deployment.web import Gauges, served
from testbed.emulation.network.open_vswitch import RUNDIR, OpenVSwitch
from testbed.emulation.processes import controller_process
from testbed.emulation.processes.announcer import ANNOUNCED_NS, Announcer
from testbed.emulation.processes.controller_process import CONTROLLER_PORT, CONTROLLERS, STANDBY_PORT
from testbed.emulation.processes.mesh import MESH_PORT
from testbed.emulation.processes.process_set import NOTIFY_PORT
from testbed.emulation.processes.trial_process import LISTENING, Stopped
from testbed.errors import MachineError, ToolError
from testbed.openmetrics.live import LiveMetrics
from testbed.policies.membership import BALANCER
from testbed.policies.readiness import longest_pause_ns
from testbed.records.events import StageOfLife
from testbed.scenario.network import VIP_MAC
from testbed.system import commands
from testbed.units import NS_PER_MS, NS_PER_S
from testbed.wire.mesh_messages import ORCHESTRATOR
from testbed.wire.node_report import decode_report, encode_answer
from testbed.wire.sealing import MAX_DATAGRAM_BYTES, Channel, Opener, Sealer

_BRIDGE, _DPID = "s1", 1
_TURN_NS = 20 * NS_PER_MS


class RosterLine:
    """The roster at its sockets: reports in, answers and announcements out."""

    def __init__(self, cluster: Cluster, roster: Roster, members: Directory, now_ns: Callable[[], int]) -> None:
        """Listen; announce to the members, the balancer of this pod among them."""
        ring = cluster.ring(ORCHESTRATOR)
        self._roster, self._now_ns = roster, now_ns
        self._opener, self._sealer = Opener(ring, Channel.REPORT, now_ns()), Sealer(ring, Channel.ANSWER, now_ns)
        self._line = bound(REPORT_PORT)
        self._announcer = Announcer(members, ring, now_ns)
        self._announced_ns = 0

    def fileno(self) -> int:
        """Return what can be read when a node has reported."""
        return self._line.fileno()

    def turn(self) -> None:
        """Take in what was reported, and announce what has changed, or if it is time."""
        before = self._roster.stages
        while True:
            try:
                datagram, sender = self._line.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:
                break
            self._hear(datagram, sender)
        now_ns = self._now_ns()
        self._roster.wake(now_ns)
        if self._roster.stages != before or now_ns >= self._announced_ns + ANNOUNCED_NS:
            self._announced_ns = now_ns
            self._announcer.announce(self._roster.stages)

    def _hear(self, datagram: bytes, sender: tuple[str, int]) -> None:
        opened = self._opener.open(datagram)
        if opened is None:
            return
        try:
            report = decode_report(opened.body)
        except ValueError:
            self._opener.ignore("malformed")
            return
        answer = self._roster.hear(opened.sender, report, self._now_ns())
        for _, sealed in self._sealer.seal(encode_answer(answer), (opened.sender,)):
            try:
                self._line.sendto(sealed, sender)
            except OSError:
                return  # it has gone since


def run(cluster: Cluster, address: str, scaler: str, logs: Path) -> None:
    """Balance until SIGTERM.

    Args:
        cluster: whose nodes.
        address: where metrics and probes are answered.
        scaler: where KEDA's external scaler is answered; empty for none.
        logs: directory of the switch's logs.
    """
    clock = ClusterClock()
    labels = {"run": cluster.spec.name, "scenario": cluster.spec.name, "policy": cluster.spec.buffer.policy}
    pod = Pod(LiveMetrics(labels, described(cluster.spec), 0, clock.now_ns()), clock)
    switch = _switch(cluster, logs)
    framework.preload(cluster.spec.controller.framework)
    _controllers(cluster, switch, pod, clock)
    hosts = {node: (cluster.host_of(node), MESH_PORT) for node in cluster.nodes}
    members = Directory({**hosts, BALANCER: ("127.0.0.1", NOTIFY_PORT)})
    members.on_change(_updating_tunnels(cluster))
    backend = Directory({"backend": (cluster.spec.backend_host, 0)})
    backend.on_change(lambda _name, ip: tunnels.connect(tunnels.BACKEND_PORT, tunnels.BACKEND_VNI, ip))
    for directory in (members, backend):
        directory.start()
    spec = cluster.spec
    idle_ns = -(-spec.balancer.affinity_idle_ns // NS_PER_S) * NS_PER_S  # the switch counts whole seconds
    roster = Roster(cluster.nodes, spec.autoscaler, idle_ns, spec.rate, pod.note)
    service = _Service(pod, roster, switch)
    keda = ExternalScaler(lambda: roster.wanted, scaler) if scaler else None
    with served(address, pod.metrics, service.gauges(labels), service.unhealthy, service.unready):
        service.until(Stopped(), RosterLine(cluster, roster, members, clock.now_ns))
    if keda is not None:
        keda.close()
    pod.stop()


def _switch(cluster: Cluster, logs: Path) -> OpenVSwitch:
    """Start the switch, with a port for the clients, for each node and for the backend."""
    _refuse_without_tap_devices()
    shutil.rmtree(RUNDIR, ignore_errors=True)  # of an earlier container of the same pod
    spec = cluster.spec
    tunnels.make_gateway(spec.vip, VIP_MAC, spec.ports)
    ports = {node: tunnels.vni_of(number) for number, node in enumerate(cluster.nodes)}
    tunnels.remove(*ports, tunnels.BACKEND_PORT)
    for port, vni in {**ports, tunnels.BACKEND_PORT: tunnels.BACKEND_VNI}.items():
        tunnels.make(port, vni)
    switch = OpenVSwitch(logs, spec.balancer.affinity_idle_ns // 2)
    bridge = ["--", "set", "bridge", _BRIDGE, "datapath_type=netdev", "fail_mode=secure", "protocols=OpenFlow13"]
    options = [f"other_config:datapath-id={_DPID:016x}", "other_config:disable-in-band=true"]
    all_ports = (tunnels.GATEWAY_PORT, *ports, tunnels.BACKEND_PORT)
    added = [word for port in all_ports for word in ("--", "add-port", _BRIDGE, port)]
    commands.run("making the switch", ["ovs-vsctl", "add-br", _BRIDGE, *bridge, *options, *added])
    return switch


def _refuse_without_tap_devices() -> None:
    """Check that the switch can make the local port of its bridge, without which it has no ports at all.

    Raises:
        MachineError: the container has no access to /dev/net/tun.
    """
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        remedy = "mount the device of the machine, as deploy/kubernetes/base/balancer.yaml does"
        raise MachineError("opening /dev/net/tun for the switch", error.strerror or str(error), remedy) from error


def balancer_config(cluster: Cluster, port_of: dict[str, int], clock: ClusterClock) -> BalancerConfig:
    """Return what the controllers are given; `port_of` says the number of each port of the switch."""
    spec = cluster.spec
    gateway = Station("clients", port_of[tunnels.GATEWAY_PORT], tunnels.GATEWAY_MAC, tunnels.GATEWAY_IP, gateway=True)
    return BalancerConfig(
        dpid=_DPID,
        listen_port=CONTROLLER_PORT,
        vip=Vip(spec.vip, VIP_MAC, "", spec.ports),
        clients=(gateway,),
        nodes=tuple(
            Station(node, port_of[node], tunnels.mac_of(number), tunnels.ip_of(number))
            for number, node in enumerate(cluster.nodes)
        ),
        rates_bps=(spec.rate,) * len(cluster.nodes),
        pause_ns=longest_pause_ns(spec.buffer.sample_interval_ns),
        absent=cluster.nodes,
        mesh=MeshAccess(cluster.nodes, cluster.mesh, cluster.nodes),
        spec=spec.balancer,
        framework=spec.controller.framework,
        seed=cluster.run_id,
        now_ns=clock.now_ns,
        since_ns=clock.now_ns(),
        ring=cluster.ring(BALANCER),
    )


def _controllers(cluster: Cluster, switch: OpenVSwitch, pod: Pod, clock: ClusterClock) -> None:
    """Fork the controllers, and connect the switch to them when they listen."""
    names = [tunnels.GATEWAY_PORT, *cluster.nodes]
    config = balancer_config(cluster, switch.port_numbers(names), clock)
    standby = cluster.spec.controller.standby
    at = "0.0.0.0", NOTIFY_PORT  # noqa: S104  # a pod has the addresses that its platform gives it
    members = controller_process.fork(config, at, pod.fork, pod.pulse, standby=standby)
    for member in members:
        member.take(LISTENING)
    switch.connect_controllers([_BRIDGE], (CONTROLLER_PORT, STANDBY_PORT)[: len(members)])
    for member in members:
        member.take()


def _updating_tunnels(cluster: Cluster) -> Callable[[str, str], None]:
    """Return what lets the tunnels follow the addresses of nodes."""
    numbers = {node: number for number, node in enumerate(cluster.nodes)}

    def changed(name: str, ip: str) -> None:
        if name in numbers:
            tunnels.connect(name, tunnels.vni_of(numbers[name]), ip)

    return changed


class _Service:
    """The loop of the main process, and what it answers."""

    def __init__(self, pod: Pod, roster: Roster, switch: OpenVSwitch) -> None:
        self._pod, self._roster, self._switch = pod, roster, switch

    def until(self, stopped: Stopped, line: RosterLine) -> None:
        """Serve until stopped, or until the switch or all controllers have died."""
        while not stopped:
            self._pod.turn([line.fileno()], _TURN_NS)
            line.turn()
            if fate := self._switch.fate():
                raise ToolError("running the switch", fate, "the platform starts the pod again")
            if not self._active():
                self._pod.refuse_loss()

    def _active(self) -> list[str]:
        """Return the controllers that live."""
        return [member.name for member in self._pod.members if member.name in CONTROLLERS and not member.ended()]

    def unhealthy(self) -> str:
        """Return why the pod has to be restarted."""
        late_ns = self._pod.late_ns()
        return f"a loop has not come round for {late_ns // NS_PER_MS} ms" if late_ns > LATE_NS else ""

    def unready(self) -> str:
        """Return why clients cannot be served."""
        if not self._pod.kinds.get("BalancerReady"):
            return "the flows of the switch are not in force"
        return "" if self._roster.at(StageOfLife.SERVING, StageOfLife.DRAINING) else "no node serves"

    def gauges(self, labels: dict[str, str]) -> Gauges:
        """Return the pod's own values."""
        rows = (
            ("testbed_balancer_ready", "1 while clients can be served", lambda: float(not self.unready())),
            ("testbed_balancer_controllers", "controllers that live: 2 with a standby", self._controllers),
            ("testbed_balancer_loop_silence_seconds", "longest time that a loop has not come round", self._silence_s),
            ("testbed_nodes_serving", "nodes that serve", lambda: float(len(self._roster.at(StageOfLife.SERVING)))),
            ("testbed_nodes_wanted", "nodes that the autoscaler wants", lambda: float(self._roster.wanted)),
            ("testbed_load_bits_per_second", "load that arrived in the autoscaler's last period", self._load),
            ("testbed_load_expected_bits_per_second", "load that the autoscaler expects", self._expected),
        )
        return Gauges(labels, rows)

    def _controllers(self) -> float:
        return float(len(self._active()))

    def _silence_s(self) -> float:
        return self._pod.late_ns() / NS_PER_S

    def _load(self) -> float:
        return float(self._roster.decided.load_bps) if self._roster.decided is not None else 0.0

    def _expected(self) -> float:
        return float(self._roster.decided.expected_bps) if self._roster.decided is not None else 0.0
