"""Kernel features that a run needs: the results of `testbed.system.kernel_probes` in words, each failure with a remedy.

Only fixed priorities are optional: without them a run reacts more slowly and is DEGRADED (`fidelity.machine`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

from testbed import units
from testbed.doctor import resources, software
from testbed.doctor.finding import Finding
from testbed.scenario.model import Scenario
from testbed.scenario.tables import described
from testbed.system import probes

_OTHER_KERNEL = "boot the distribution's stock kernel"
_UNTRIED = "not tested, because this needs namespaces"
_CAP_SYS_NICE = 23


class _Need(NamedTuple):
    words: str
    remedy: str


def _container(option: str) -> str:
    return f"start the container with {option}"


_NEEDS = {
    "bpf": _Need("BPF maps and XDP programs", f"{_OTHER_KERNEL}, or {_container('--cap-add BPF --cap-add NET_ADMIN')}"),
    "namespaces": _Need(
        "PID, mount, network, UTS and IPC namespaces", f"{_OTHER_KERNEL}, or {_container('--cap-add SYS_ADMIN')}"
    ),
    "mounts": _Need(
        "mounts of proc, sysfs and tmpfs in a separate mount namespace",
        _container("--cap-add SYS_ADMIN --security-opt apparmor=unconfined"),
    ),
    "raw_sockets": _Need(
        "raw packet sockets (CAP_NET_RAW)", f"give the process CAP_NET_RAW: {_container('--cap-add NET_RAW')}"
    ),
    "borrowed_sockets": _Need(
        "descriptors of the switch (pidfd_getfd)", f"sysctl kernel.yama.ptrace_scope=1, or {_OTHER_KERNEL}"
    ),
    "terminals": _Need("pseudo-terminals", "mount devpts on /dev/pts"),
    "processes": _Need("processes", "raise pids.max of the control group, or the limit of processes (`ulimit -u`)"),
    "veth": _Need("virtual Ethernet pairs", f"{_OTHER_KERNEL}, or {_container('--cap-add NET_ADMIN')}"),
    "native_xdp": _Need("native XDP on veth", _OTHER_KERNEL),
    "tbf": _Need("token bucket (TBF) for link rates", _OTHER_KERNEL),
    "tap": _Need(
        "a tap interface, which the switch needs", f"sudo modprobe tun; {_container('--device /dev/net/tun')}"
    ),
}


def probing(scenario: Scenario | None) -> AbstractContextManager[probes.Started | None]:
    """Start testing the kernel features; None if that fails: `findings` tests again and says why."""
    try:
        return probes.probing_kernel(resources.processes(scenario))
    except OSError:
        return nullcontext()


def findings(scenario: Scenario | None, probe: probes.Started | None = None) -> Iterator[Finding]:
    """Yield the kernel features as found by `probing`; only root can test them."""
    refusals = probes.features_found(probe) if probe else probes.kernel_features(resources.processes(scenario))
    if refusals.get("probing"):
        remedy = "run doctor as root; if that does not help, please report this"
        yield Finding("kernel", "missing", f"its features could not be tested: {refusals['probing']}", remedy)
        return
    yield from (_feature(name, need, refusals.get(name, _UNTRIED)) for name, need in _NEEDS.items())
    yield _real_time(refusals.get("real_time", _UNTRIED))
    yield _netem(refusals.get("netem", _UNTRIED), scenario)
    yield software.openvswitch(refusals.get("openvswitch", _UNTRIED))


def _feature(name: str, need: _Need, refusal: str) -> Finding:
    if not refusal:
        return Finding(name, "ok", f"{need.words} work")
    return Finding(name, "missing", f"{need.words}: {refusal}", need.remedy)


def _real_time(refusal: str) -> Finding:
    words = "fixed priorities (SCHED_FIFO)"
    if not refusal:
        return Finding("real_time", "ok", f"{words} work")
    if "did not get" in refusal:  # allowed, and then never run: a trial would hang
        return Finding("real_time", "missing", f"{words}: {refusal}", "sudo sysctl kernel.sched_rt_runtime_us=950000")
    detail = f"{words}: {refusal}; runs are DEGRADED, because other work on the machine may delay them"
    return Finding("real_time", "limited", detail, _for_real_time())


def _for_real_time() -> str:
    if not _has_capability(_CAP_SYS_NICE):
        return f"give the process CAP_SYS_NICE: {_container('--cap-add SYS_NICE')}"
    group = _group_without_share()
    if group is not None:
        return f"give its control group a real-time share: echo 500000 > {group}/cpu.rt_runtime_us (and to those above)"
    return "run it as root outside of a container, in a control group with a real-time share"


def _has_capability(number: int) -> bool:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(mask, 16) >> number & 1)


def _group_without_share() -> Path | None:
    """Return the folder of our control group (version 1) where it has no share of real time."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            for mount in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"):
                share = Path(mount + path, "cpu.rt_runtime_us")
                if share.is_file() and share.read_text(encoding="ascii").strip() == "0":
                    return share.parent
    return None


def _netem(refusal: str, scenario: Scenario | None) -> Finding:
    if not refusal:
        return Finding("netem", "ok", "link delay (netem) works")
    delayed = [] if scenario is None else [link for link in described(scenario.topology).links if link.delay_ns]
    if not delayed:
        return Finding(
            "netem", "limited", f"scenarios with a link delay can only be simulated: {refusal}", _OTHER_KERNEL
        )
    first = delayed[0]
    what = f"the delay of {first.name} ({units.duration_text(first.delay_ns)})"
    what += f" and {len(delayed) - 1} more links" if len(delayed) > 1 else ""
    remedy = f"remove the delay (topology.link_delay, topology.links, the family), simulate, or {_OTHER_KERNEL}"
    return Finding("netem", "missing", f"{what} needs the netem qdisc: {refusal}", remedy)
