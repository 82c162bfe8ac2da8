"""Plays a machine with an Open vSwitch, a bridge and a ping of its own, runs the testbed, and says what changed.

Run in fresh network, mount and PID namespaces, which stand for the machine: ``stand_in_machine.py SCENARIO OUT``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

RUNDIR = Path("/run/openvswitch")
ENVIRONMENT = {**os.environ, "OVS_RUNDIR": str(RUNDIR), "OVS_DBDIR": str(RUNDIR), "OVS_LOGDIR": str(RUNDIR)}
SYSCTLS = "^(net.core|net.ipv4.neigh|kernel.pty.max|fs.file-max)"


def said(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout


def start_switch() -> subprocess.Popen[bytes]:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    RUNDIR.mkdir()
    said("ovsdb-tool", "create", f"{RUNDIR}/conf.db", "/usr/share/openvswitch/vswitch.ovsschema")
    argv = ["ovsdb-server", f"{RUNDIR}/conf.db", f"--remote=punix:{RUNDIR}/db.sock"]
    server = subprocess.Popen(argv, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not (RUNDIR / "db.sock").exists():
        time.sleep(0.01)
    said("ovs-vsctl", "--no-wait", "add-br", "ours")
    return server


def state() -> tuple[str, ...]:
    return (said("ovs-vsctl", "show"), said("ip", "-j", "addr"), said("sysctl", "-a", "--pattern", SYSCTLS))


def main(scenario: str, out: str) -> None:
    server = start_switch()
    said("ip", "link", "set", "lo", "up")
    said("ip", "link", "add", "bridge0", "type", "bridge")
    ping = subprocess.Popen(["ping", "-i", "0.2", "-q", "127.0.0.1"], stdout=subprocess.DEVNULL)
    before = state()
    argv = [sys.executable, "-m", "testbed", "run", scenario, "--quiet", "--out", out]
    code = subprocess.run(argv, check=False).returncode
    after, pinging = state(), ping.poll() is None
    for process in (ping, server):
        process.kill()
        process.wait()
    sys.stdout.write(json.dumps({"code": code, "same": before == after, "pinging": pinging}))


if __name__ == "__main__":
    main(*sys.argv[1:])
