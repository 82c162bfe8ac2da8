"""A private Open vSwitch: its own database server and switch daemon, which live as long as the sandbox.

The daemon polls the ports of the userspace datapath (``netdev``): AF_XDP sockets in a thread that only forwards
(`poll_thread`), packet sockets in its main thread (`switch_ports`).  The default receive buffer of a packet socket
holds about 90 frames, 3 ms of a burst, and a full one drops frames that no port counter shows.  All these ports send
through one more socket.  When as many frames as this socket can hold wait in the rings of all links together, the
daemon drops further frames, and counts nothing.  Therefore we duplicate the daemon's packet sockets (pidfd_getfd),
enlarge their buffers, and read the kernel's own drop counts from them at the end of the run (`switch_counts`).
"""

from __future__ import annotations

import os
import re
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from testbed.emulation.network import poll_thread
from testbed.emulation.processes.trial_process import fate_of
from testbed.errors import TestbedError, ToolError
from testbed.system import commands, kernel
from testbed.units import NS_PER_MS

RUNDIR = Path("/run/openvswitch")
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
BUFFER_BYTES = 32 * 10**6
START_TIMEOUT_S = 10.0
METERED_PPS = 10**7

# The switch represents a machine of its own: its threads have fixed priorities while traffic flows.  The main thread
# handles OpenFlow, and forwards between packet sockets.  With the priority of ordinary processes, bursts of new flows
# are lost, and a change of the slots takes 100 ms instead of 2.  Agents have a higher priority.
_REAL_TIME_PRIORITY = 7
_OFCTL = ("ovs-ofctl", "-O", "OpenFlow13")
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_ETHERTYPE_OF_NOBODY = "88b5"  # for experiments, IEEE 802


class OpenVSwitch:
    """The two daemons.  Nothing is stopped: they end with the sandbox."""

    def __init__(self, logs: Path, idle_ns: int) -> None:
        """Start the daemons and wait until the switch answers.

        Args:
            logs: where the daemons write.
            idle_ns: how long a flow that is silent stays in the switch's cache.

        Raises:
            MachineError: a program is not installed.
            ToolError: a daemon did not come up; names its log.
        """
        RUNDIR.mkdir(parents=True, exist_ok=True)
        self.environment = {"OVS_RUNDIR": str(RUNDIR), "OVS_DBDIR": str(RUNDIR), "OVS_LOGDIR": str(RUNDIR)}
        self.environment["OVS_CTL_TIMEOUT"] = f"{commands.DEFAULT_TIMEOUT_S:.0f}"  # else ovs-vsctl waits for ever
        os.environ.update(self.environment)  # Mininet calls ovs-vsctl for itself
        self._sockets: list[socket.socket] = []
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        try:
            self._start_both(logs, idle_ns)
        except TestbedError as error:
            if fate := self.fate():  # whatever failed, it is for want of the daemon
                raise ToolError("starting the switch", fate, f"read {logs}/ovs*.log") from error
            raise

    def _start_both(self, logs: Path, idle_ns: int) -> None:
        database = RUNDIR / "conf.db"
        commands.run("making the switch database", ["ovsdb-tool", "create", str(database), str(SCHEMA)])
        remote = f"--remote=punix:{RUNDIR}/db.sock"
        self._start(["ovsdb-server", str(database), remote, "--pidfile", "--no-chdir"], logs, RUNDIR / "db.sock")
        # The socket is there a moment before it is listened at: --retry.
        commands.run("initialising the switch database", ["ovs-vsctl", "--retry", "--no-wait", "init"])
        self._set_options(idle_ns)
        argv = ["ovs-vswitchd", f"unix:{RUNDIR}/db.sock", "--pidfile", "--no-chdir"]
        self._start(argv, logs, RUNDIR / "ovs-vswitchd.pid")

    def _start(self, argv: list[str], logs: Path, made: Path) -> None:
        """Start a daemon and wait until it has made a file."""
        log = logs / f"{argv[0]}.log"
        process = commands.start(f"starting {argv[0]}", argv, env=self.environment, log=log)
        self._daemons[argv[0]] = process
        _wait_for(made, process, log)

    def _set_options(self, idle_ns: int) -> None:
        # One handler and one revalidator: the defaults grow with the machine's cores and only add switching between
        # threads on small ones.  The full hash match cache spares lookups for our few hundred flows.
        options = ["other_config:n-handler-threads=1", "other_config:n-revalidator-threads=1"]
        options += poll_thread.options()
        options += ["other_config:emc-insert-inv-prob=1", f"other_config:max-idle={idle_ns // NS_PER_MS}"]
        commands.run("configuring the switch", ["ovs-vsctl", "--no-wait", "set", "Open_vSwitch", ".", *options])

    @property
    def switch_pid(self) -> int:
        """Return the process that forwards."""
        return self._daemons["ovs-vswitchd"].pid

    @property
    def pids(self) -> dict[str, int]:
        """Return both daemons by name."""
        return {name: process.pid for name, process in self._daemons.items()}

    def fate(self) -> str | None:
        """Return how a daemon has ended, None while both live."""
        for name, process in self._daemons.items():
            if process.poll() is not None:
                return fate_of(name, process.returncode)
        return None

    @contextmanager
    def needed(self) -> Iterator[None]:
        """Fail as soon as a daemon ends, for the length of the block: who waits for it waits for ever."""
        ours = os.getpid()

        def look(*_: object) -> None:
            if os.getpid() == ours and (fate := self.fate()):
                raise ToolError("starting the trial", fate, "read logs/ in the run directory")

        before = signal.signal(signal.SIGCHLD, look)
        try:
            yield
        finally:
            signal.signal(signal.SIGCHLD, before)

    def connect_controllers(self, bridges: Sequence[str], ports: Sequence[int]) -> None:
        """Let bridges connect to controllers on 127.0.0.1, which should be listening: a refusal costs a second."""
        targets = [f"tcp:127.0.0.1:{port}" for port in ports]
        argv = [word for bridge in bridges for word in ("--", "set-controller", bridge, *targets)]
        commands.run("connecting the controllers", ["ovs-vsctl", *argv])

    def add_groups(self, bridge: str, groups: Sequence[str]) -> None:
        """Give a bridge that no controller steers its groups, as ``ovs-ofctl`` writes them."""
        if groups:
            text = "\n".join(groups)
            commands.run(f"installing the groups of {bridge}", [*_OFCTL, "add-groups", bridge, "-"], stdin=text)

    def add_flows(self, bridge: str, flows: Sequence[str]) -> None:
        """Give a bridge that no controller steers its flows, as ``ovs-ofctl`` writes them."""
        text = "\n".join(flows)
        commands.run(f"installing the flows of {bridge}", [*_OFCTL, "add-flows", bridge, "-"], stdin=text)

    def port_numbers(self, interfaces: list[str]) -> dict[str, int]:
        """Return the OpenFlow port number of each interface."""
        argv = ["ovs-vsctl"]
        for index, interface in enumerate(interfaces):
            argv += (
                ["--", "get", "Interface", interface, "ofport"] if index else ["get", "Interface", interface, "ofport"]
            )
        told = commands.run("asking for port numbers", argv).splitlines()
        numbers = {name: int(line) for name, line in zip(interfaces, told, strict=False) if line.strip().isdigit()}
        absent = [name for name in interfaces if numbers.get(name, 0) < 1]
        if absent:
            raise ToolError(
                "asking for port numbers", f"the switch has no port {absent[0]}: {self._error_of(absent[0])}"
            )
        return numbers

    def _error_of(self, interface: str) -> str:
        """Return what the switch says of an interface that it could not make a port of."""
        said = commands.run("asking for the error of a port", ["ovs-vsctl", "get", "Interface", interface, "error"])
        return said.strip().strip('"') if said.strip() != "[]" else "no reason given; read logs/ovs-vswitchd.log"

    def version(self) -> str:
        """Return what the switch says of its version."""
        return commands.run("asking for the switch's version", ["ovs-vswitchd", "--version"])

    def interface_types(self) -> list[str]:
        """Return the types of interfaces that this Open vSwitch offers, as soon as the daemon has written them."""
        written = ["wait-until", "Open_vSwitch", ".", "iface_types!=[]"]
        types = ["get", "Open_vSwitch", ".", "iface_types"]
        told = commands.run("asking for types of ports", ["ovs-vsctl", *written, "--", *types])
        return re.findall(r"[\w-]+", told)

    def carried_out(self) -> None:
        """Wait until the switch has carried out what was written into its database without waiting for it."""
        commands.run(
            "making the ports of the switch", ["ovs-vsctl", "set", "Open_vSwitch", ".", "external_ids:ports=made"]
        )

    def give_priority(self) -> None:
        """Give the threads of the switch their fixed priorities; call it when the ports have been made.

        Not before: while a port is made, the main thread spins until the poll thread has taken note of it.  If both had
        the same fixed priority and the same core, that would never happen.
        """
        for tid in map(int, os.listdir(f"/proc/{self.switch_pid}/task")):
            if poll_thread.is_poll_thread(self.switch_pid, tid):
                poll_thread.give_priority(tid)
            else:
                kernel.run_in_real_time(_REAL_TIME_PRIORITY, tid, with_threads=True)

    def set_types(self, interfaces: Collection[str], kind: str) -> None:
        """Recreate ports with another type."""
        argv = [word for name in interfaces for word in ("--", "set", "Interface", name, f"type={kind}")]
        commands.run("changing the type of ports", ["ovs-vsctl", *argv])

    def widen_buffers(self, bridge: str, port: str) -> int:
        """Give every packet socket of the switch room for a burst and keep it to read its drops; return their count.

        The socket for sending is made when there is something to send: a frame of no meaning goes out of `port` first,
        which is one of packet sockets.
        """
        nobody, padding = "02" + "0" * 10, "00" * 46
        frame = nobody + nobody + _ETHERTYPE_OF_NOBODY + padding
        commands.run("making the switch send", [*_OFCTL, "packet-out", bridge, f"packet={frame},actions={port}"])
        return self._widen_sockets()

    def _widen_sockets(self) -> int:
        for entry in Path(f"/proc/{self.switch_pid}/fd").iterdir():
            try:
                if not os.readlink(entry).startswith("socket:"):
                    continue
            except FileNotFoundError:
                continue
            candidate = _packet_socket(kernel.borrow_fd(self.switch_pid, int(entry.name)))
            if candidate is not None:
                for force in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
                    candidate.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
                self._sockets.append(candidate)
        return len(self._sockets)

    def count_packet_ins(self, bridge: str) -> None:
        """Make the switch count what it hands to controllers, before the queue that may drop it.

        A flow's own count will not do: what matched a cached flow whose way has changed since is added to the new way.
        The meter every packet to a controller passes is exact; its rate is one that nothing here comes near.  A change
        of the set of controllers clears meters away: call it after `connect_controllers`.
        """
        meter = f"meter=controller,pktps,stats,bands=type=drop,rate={METERED_PPS}"
        commands.run("metering the controller's packets", [*_OFCTL, "add-meter", bridge, meter])

    def packet_ins(self, bridge: str) -> int:
        """Return what it has counted."""
        stats = commands.run("asking for packet-ins", [*_OFCTL, "meter-stats", bridge, "meter=controller"])
        return int(re.findall(r"packet_in_count:(\d+)", stats)[0])

    def matched_pkts(self, bridge: str, cookie: int, *, settled: bool = True) -> int:
        """Return the packets that matched flows of `cookie` on `bridge`, as the switch has counted them up to now.

        Not `settled`: without what it has still to add up, for which it may take half a second.
        """
        if settled:
            commands.run(
                "waiting for the switch's counts", ["ovs-appctl", "revalidator/wait"]
            )  # it adds them up lazily
        argv = [*_OFCTL, "dump-flows", bridge, f"cookie={cookie:#x}/-1"]
        dump = commands.run("asking for flow counts", argv)
        return sum(int(count) for count in re.findall(r"n_packets=(\d+)", dump))

    def settle_counts(self) -> None:
        """Have all packets up to now counted at their flows, at once: the switch forgets the flows in its cache for it.

        To wait until it adds them up by itself takes up to half a second; call this where no traffic needs the cache.
        """
        self.ask("revalidator/purge")

    def ask(self, command: str) -> str:
        """Return what the daemon answers to a command of ``ovs-appctl``."""
        return commands.run(f"asking the switch for {command}", ["ovs-appctl", command])

    def dropped_pkts(self) -> int:
        """Return the frames that found the switch's packet sockets full since the last call."""
        dropped = 0
        for packet_socket in self._sockets:
            _, lost = struct.unpack("II", packet_socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
            dropped += lost
        return dropped


def _packet_socket(descriptor: int) -> socket.socket | None:
    """Return a borrowed descriptor as the packet socket it is; close any other socket, and return None."""
    try:
        borrowed = socket.socket(fileno=descriptor)
    except OSError:  # AF_XDP has no name that a socket could be asked for
        os.close(descriptor)
        return None
    if borrowed.family == socket.AF_PACKET:
        return borrowed
    borrowed.close()
    return None


def _wait_for(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ToolError(f"starting {process.args[0]!s}", "it did not come up", f"read {log}")  # type: ignore[index]
        time.sleep(0.005)
