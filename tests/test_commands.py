"""Commands have a time limit and die with who started them, wherever that is asked for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from testbed.errors import CommandError
from testbed.system import commands
from tests.command import ROOT, environment

PATIENCE_S = 20.0
# What starts processes by itself, and why.
STARTERS = {
    "testbed/system/commands.py": "the one place",
    "testbed/system/probes.py": "says why a machine cannot be used instead of raising; with a limit",
    "testbed/trials/child.py": "a trial of a sweep takes as long as it takes, and dies with the sweep",
    "testbed/bench/running_trial.py": "a trial that is touched while it runs; it dies with the bench",
    "testbed/results/provenance.py": "asks many programs side by side, each with a limit",
    "testbed/emulation/inventory/switch_stock.py": "asks the switch for four things side by side, each with a limit",
}
STARTING = re.compile(
    r"\b(subprocess\.(run|Popen|call|check_\w+|getoutput)\(|os\.(system|popen|spawn\w*|posix_spawnp?)\()"
)


def test_only_what_is_listed_starts_processes_by_itself() -> None:
    folders = [ROOT / name for name in ("testbed", "controllers", "topologies")]
    files = {path.resolve() for folder in folders for path in folder.rglob("*.py")}
    starters = {str(path.relative_to(ROOT)) for path in files if STARTING.search(path.read_text(encoding="utf-8"))}
    assert starters == set(STARTERS)


def test_a_command_that_does_not_end_is_an_error_with_its_limit() -> None:
    with pytest.raises(CommandError, match=r"waiting.*no end within 0.2 s"):
        commands.run("waiting", ["sleep", "60"], timeout_s=0.2)


def test_a_command_may_write_what_is_no_text() -> None:
    assert commands.run("printing", ["printf", r"\377"]) == "�"


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _waited_for(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def test_a_tethered_process_dies_with_who_is_killed(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from testbed.system import commands
process = commands.tethered(["sleep", "60"])
Path({str(tmp_path / "pid")!r}).write_text(f"{{process.pid}}\\n")
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], env=environment())
    written = tmp_path / "pid"
    _waited_for(lambda: written.exists() and written.read_text().endswith("\n"), "the process did not start")
    parent.kill()
    parent.wait()
    _waited_for(lambda: _gone(int(written.read_text())), "the process outlived its parent")


@pytest.mark.requires("ovs")
def test_doctors_database_server_dies_with_doctor(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from testbed.system import probes
folder = Path({str(tmp_path)!r})
command = probes.command
def stop_here(*argv, **rest):
    if argv[0] != "ovs-vsctl":
        return command(*argv, **rest)
    (folder / "there").touch()
    return command("sleep", "9")
probes.command = stop_here
probes.open_vswitch(folder)
"""
    doctor = subprocess.Popen([sys.executable, "-c", program], env=environment())
    _waited_for((tmp_path / "there").exists, "the server did not start")
    server = int((tmp_path / "pid").read_text())
    os.kill(doctor.pid, signal.SIGKILL)
    doctor.wait()
    _waited_for(lambda: _gone(server), "the database server outlived doctor")
