"""The manifests in deploy/kubernetes, really started by podman: ``sudo make kube-play``.

The pods are those of the base, one `podman kube play` each, in a network of their own.  What podman 4.3 does not know
is replaced: a StatefulSet by a pod for each number, a Service by the fixed address of its pod; `emptyDir`, ConfigMap
and Secret by folders of this machine.  Probes need systemd there; this script asks them itself.  A client pod sends to
the address of the balancer's pod, as a Service does.  The default seccomp profile of podman 4.3 allows bpf(2) with
CAP_SYS_ADMIN alone; here CAP_BPF suffices.

Everything is in namespaces of this script (processes, mounts, network), with container storage of its own, and ends
with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from testbed.system import kernel
from tests.pods import CLUSTER, Traffic

BASE = Path(__file__).parents[1] / "deploy" / "kubernetes" / "base"
ADDRESS = {"balancer": "10.89.0.2", "backend": "10.89.0.3", "client": "10.89.0.4"}
NODES = ("n0", "n1", "n2")
_STORE, _SECCOMP = "/var/lib/containers/storage", "/usr/share/containers/seccomp.json"
_CONF = """
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
"""
_WAIT_S = 60.0
_ANNOTATION = "seccomp.security.alpha.kubernetes.io/pod"  # podman 4.3 does not know the field for it yet


class Played:
    """The pods that podman runs."""

    def __init__(self, image: str, folder: Path) -> None:
        self._image, self._folder = image, folder
        hosts = [f"10.89.0.{10 + number}" for number in range(len(NODES))]
        self._address = {**ADDRESS, **dict(zip(NODES, hosts, strict=True))}
        cluster = {
            **CLUSTER,
            "node_hosts": hosts,
            "balancer_host": ADDRESS["balancer"],
            "backend_host": ADDRESS["backend"],
            "secret": "/etc/testbed-secret/key",
        }
        for name, content in (("cluster", yaml.safe_dump(cluster).encode()), ("secret", os.urandom(32))):
            (folder / name).mkdir()
            (folder / name / ("cluster.yaml" if name == "cluster" else "key")).write_bytes(content)
        (folder / "networks").mkdir()
        self._podman("network", "create", "--disable-dns", "--subnet", "10.89.0.0/24", "pods")

    def play(self, name: str) -> None:
        """Start a pod."""
        path = self._folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(self._pod(name)), encoding="utf-8")
        self._podman(
            "kube",
            "play",
            "--network",
            "pods",
            "--ip",
            self._address[name],
            f"--seccomp-profile-root={self._folder}",
            str(path),
        )

    def pid(self, name: str, container: str) -> int:
        """Return the main process of a container."""
        return int(self._podman("inspect", "--format", "{{.State.Pid}}", f"{name}-{container}"))

    def status(self, name: str, container: str) -> str:
        """Return the state and exit code of a container."""
        return self._podman(
            "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", f"{name}-{container}"
        ).strip()

    def link(self, name: str) -> str:
        """Return the end of a node's link at the bridge."""
        with kernel.network_of(self.pid(name, "node")):
            told = subprocess.run(["ip", "-json", "link", "show", "eth0"], capture_output=True, text=True, check=True)
        return socket.if_indextoname(json.loads(told.stdout)[0]["link_index"])

    def kill(self, name: str, link: str) -> subprocess.Popen[bytes]:
        """Kill a pod as a machine that fails does: its network is cut off, and its processes end."""
        argv = [*self._command, "pod", "rm", "--force", "--time", "0", name]
        return subprocess.Popen(["sh", "-c", f"ip link set {link} down; exec {shlex.join(argv)} >/dev/null"])

    def drain(self, name: str) -> subprocess.Popen[bytes]:
        """Ask the pod of a node to end, as the platform does: SIGTERM, and time."""
        return subprocess.Popen([*self._command, "stop", "--time", "60", f"{name}-node"], stdout=subprocess.DEVNULL)

    def log(self, name: str, container: str) -> str:
        """Return what a container wrote."""
        done = subprocess.run(
            [*self._command, "logs", f"{name}-{container}"], capture_output=True, text=True, check=False
        )
        return (done.stdout + done.stderr)[-3000:]

    def asked(self, name: str, path: str) -> tuple[int, str]:
        """Return status and text of what a pod answers; 0 when it does not."""
        try:
            with urllib.request.urlopen(f"http://{self._address[name]}:9464{path}", timeout=2) as got:
                return got.status, got.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self, *names: str) -> None:
        """Wait until pods are ready."""
        deadline = time.monotonic() + _WAIT_S
        while unready := [name for name in names if self.asked(name, "/readyz")[0] != 200]:
            if time.monotonic() > deadline:
                logs = {name: self.log(name, "node" if name in NODES else name) for name in unready}
                raise SystemExit(json.dumps(logs, indent=1))
            time.sleep(0.1)

    def _podman(self, *argv: str) -> str:
        done = subprocess.run([*self._command, *argv], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"podman {' '.join(argv)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _volume(self, pod: str, volume: dict[str, Any]) -> dict[str, Any]:
        """Return a volume: what the manifest takes from the machine, files that all share, or a folder of the pod."""
        name = volume["name"]
        if "hostPath" in volume:
            return volume
        path = self._folder / name if name in ("cluster", "secret") else self._folder / "pods" / pod / name
        path.mkdir(parents=True, exist_ok=True)
        return {"name": name, "hostPath": {"path": str(path), "type": "Directory"}}

    @property
    def _command(self) -> list[str]:
        root = [
            f"--root={self._folder}/root",
            f"--runroot={self._folder}/run",
            f"--network-config-dir={self._folder}/networks",
        ]
        return ["podman", *root, "--storage-opt", f"additionalimagestore={_STORE}", "--cgroup-manager", "cgroupfs"]

    def _pod(self, name: str) -> dict[str, Any]:
        owner = "buffer" if name in NODES else name
        spec = _client(self._image) if name == "client" else _template(owner)
        for container in spec["containers"]:
            container["image"] = self._image
            for key in ("startupProbe", "livenessProbe", "readinessProbe", "resources", "ports"):
                container.pop(key, None)
            if name in NODES:
                container["env"] = [{"name": "TESTBED_NODE", "value": name}]
        spec["volumes"] = [self._volume(name, volume) for volume in spec.get("volumes", ())]
        spec = {key: spec[key] for key in ("containers", "volumes")}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "annotations": {_ANNOTATION: "localhost/seccomp.json"}},
            "spec": {**spec, "restartPolicy": "Never"},
        }


def _template(owner: str) -> dict[str, Any]:
    for path in sorted(BASE.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if document.get("kind") in ("StatefulSet", "Deployment") and document["metadata"]["name"] == owner:
                return dict(document["spec"]["template"]["spec"])
    raise KeyError(owner)


def _client(image: str) -> dict[str, Any]:
    return {"containers": [{"name": "client", "image": image, "command": ["sleep", "600"]}]}


def _course(image: str, folder: Path) -> dict[str, Any]:
    played, seen = Played(image, folder), dict[str, Any]()
    began = time.monotonic()
    for name in ("balancer", "backend", "client", *NODES):
        played.play(name)
        if name == "balancer":  # at once: a pod inherits this from the machine that Kubernetes runs on
            with kernel.network_of(played.pid("balancer", "balancer")):
                Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    played.wait_ready("balancer", *NODES)
    seen["ready_s"] = round(time.monotonic() - began, 1)
    traffic = Traffic(played.pid("client", "client"), to=ADDRESS["balancer"])
    begin_ns = time.monotonic_ns()
    traffic.run(5.0)
    seen["steady"] = _counts(traffic, 0, begin_ns)
    seen["arrived_pkts"] = {name: _value(played, name, "testbed_node_arrived_packets_total") for name in NODES}
    first = len(traffic.sent_ns)
    killing, link = list[subprocess.Popen[bytes]](), played.link("n1")
    killed_ns = traffic.run(5.0, lambda: killing.append(played.kill("n1", link)))
    killing[0].wait(timeout=30)
    seen["killed"] = _counts(traffic, first, killed_ns)
    played.play("n1")
    played.wait_ready("n1")
    seen["wanted"] = _value(played, "balancer", "testbed_nodes_wanted")
    first, ending = len(traffic.sent_ns), list[subprocess.Popen[bytes]]()
    traffic.run(6.0, lambda: ending.append(played.drain("n2")))
    ending[0].wait(timeout=30)
    seen["drained"] = {**_counts(traffic, first), "status": played.status("n2", "node")}
    seen["serving"] = _value(played, "balancer", "testbed_nodes_serving")
    return seen


def _counts(traffic: Traffic, first: int, since_ns: int = 0) -> dict[str, Any]:
    """Return what was sent and not answered, and of that the first and last time after `since_ns`."""
    times_ms = [(traffic.sent_ns[key] - since_ns) / 1e6 for key in traffic.unanswered(first)]
    counts = {"sent": len(traffic.sent_ns) - first, "unanswered": len(times_ms)}
    return {**counts, "from_ms": round(min(times_ms), 1), "to_ms": round(max(times_ms), 1)} if times_ms else counts


def _value(played: Played, name: str, metric: str) -> float:
    _, text = played.asked(name, "/metrics")
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(metric + "{")), -1.0)


def _profile() -> str:
    """Return podman's default seccomp profile, with bpf(2) for who has CAP_BPF."""
    profile = json.loads(Path(_SECCOMP).read_text(encoding="utf-8"))
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name != "bpf"]
    allowed = {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {"caps": ["CAP_BPF"]}}
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]] + [allowed]
    return json.dumps(profile)


@contextlib.contextmanager
def _private() -> Iterator[Path]:
    """Be in a mount namespace in which podman works: without the second hierarchy of control groups."""
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    subprocess.run(["umount", "-l", "/sys/fs/cgroup/unified"], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    folder = Path(tempfile.mkdtemp(prefix="kube-play-"))
    (folder / "seccomp.json").write_text(_profile(), encoding="utf-8")
    (folder / "containers.conf").write_text(_CONF, encoding="utf-8")
    os.environ["CONTAINERS_CONF"] = str(folder / "containers.conf")
    try:
        yield folder
    finally:
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
        for path in sorted((path for path in mounts if path.startswith(f"{folder}/")), reverse=True):
            subprocess.run(["umount", "-l", path], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Play the pods in namespaces of our own."""
    if "--inside" not in sys.argv:
        apart = ["unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
        sys.exit(
            subprocess.run(
                [*apart, sys.executable, "-m", "tests.kube_play", "--inside", *sys.argv[1:]], check=False
            ).returncode
        )
    with _private() as folder:
        sys.stdout.write(json.dumps(_course(sys.argv[-1], folder), indent=1) + "\n")


if __name__ == "__main__":
    main()
