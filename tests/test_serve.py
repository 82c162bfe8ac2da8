"""`serve`: windows without an end, bounded, each with a verdict; whatever dies, the next one begins."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from testbed.emulation.sandbox import INIT
from testbed.errors import InputError, MachineError
from testbed.scenario.loading import load
from testbed.scenario.serving import ServeSpec
from testbed.system import places
from testbed.system.service import ServiceManager
from testbed.trials import service
from testbed.trials import windows as windows_of
from testbed.trials.process import Ended, TrialCall
from testbed.trials.service import ServeOptions, _rates, _Service
from testbed.trials.windows import Windows
from tests import synthetic_run
from tests.command import environment, write_tiny
from tests.test_emulated_run import descendants

SOAK = places.scenarios() / "soak.yaml"


class Processes:
    """Answers the calls of a service; the last answer stops it."""

    def __init__(self, *answers: Ended) -> None:
        self._answers = list(answers)
        self.calls: list[TrialCall] = []

    def stopped(self) -> bool:
        return not self._answers

    def __call__(self, call: TrialCall) -> Ended:
        self.calls.append(call)
        call.out.mkdir()
        return self._answers.pop(0)


@pytest.fixture
def windows(tmp_path: Path) -> Iterator[Windows]:
    made = Windows(tmp_path / "served")
    yield made
    made.close()


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(path))
        end.setblocking(False)
        yield end


def served(windows: Windows, scenario: Path, *answers: Ended, settings: tuple[str, ...] = ()) -> Any:
    processes, lines = Processes(*answers), []
    options = ServeOptions(lambda: load(scenario, settings), "", lines.append, lambda _text: None)
    manager = ServiceManager({})
    try:
        _Service(windows, options, manager).run(processes)  # type: ignore[arg-type]
    finally:
        manager.close()
    return processes, lines


def test_factors_follow_the_day() -> None:
    spec = ServeSpec(day=(0.5, 1.0, 2.0))
    assert [spec.factor(hour * 3600.0) for hour in (0, 7.99, 8, 16, 23.99, 24, 32.5)] == [0.5, 0.5, 1, 2, 2, 0.5, 1]


def test_rates_and_peaks_have_the_factor(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("time_s,bytes\n0,100000\n0.1,100000\n")
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        "version: 1\nname: x\nduration: 1s\ntopology: {family: single, node_rate: 10Mbit}\nbuffer: {policy: holt}\n"
        "traffic:\n  - {name: a, from: c1, shape: poisson, rate: 1Mbit}\n"
        "  - {name: b, from: c1, shape: on-off, on: {constant: 1ms}, off: {constant: 1ms}, peak: 3Mbit}\n"
        "  - {name: c, from: c1, trace: x.csv, rate_scale: 2, bin: 100ms}\n"
    )
    settings = list(_rates(load(scenario), 1.5))
    changed = load(scenario, settings).scenario.traffic
    assert (changed[0].rate_bps, changed[1].peak_bps, changed[2].rate_scale) == (1_500_000, 4_500_000, 3.0)  # type: ignore[union-attr]


def test_windows_are_numbered_seeded_and_only_the_newest_are_kept(windows: Windows) -> None:
    processes, lines = served(windows, SOAK, *[Ended(130, "stopped")] * 4, settings=("serve.keep=2",))
    seeds = [call.arguments[call.arguments.index("--seed") + 1] for call in processes.calls]
    assert seeds == ["1", "2", "3", "4"]
    assert all("duration=3600s" in call.arguments or "duration=1h" in call.arguments for call in processes.calls)
    assert sorted(path.name for path in (windows.path / "windows").iterdir()) == ["000003", "000004"]
    assert [line["window"] for line in lines] == [1, 2, 3, 4]
    assert windows.last() == 4


def test_a_window_that_fails_is_booked_with_its_cause_and_followed(
    windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_FIRST_PAUSE_S", 0.0)
    _, lines = served(windows, SOAK, Ended(4, "sender c1 was ended by SIGKILL"), Ended(130))
    assert lines[0]["failure"] == "sender c1 was ended by SIGKILL"
    assert "failure" not in lines[1]
    assert lines[1]["cut_short"] == "the service was stopped"


def test_what_no_window_can_mend_ends_the_service_and_so_do_many_failures(
    windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_FIRST_PAUSE_S", 0.0)
    with pytest.raises(MachineError, match="no Open vSwitch"):
        served(windows, SOAK, Ended(3, "no Open vSwitch"), Ended(3))
    with pytest.raises(service.ToolError, match="8 windows in a row failed"):
        served(windows, SOAK, *[Ended(4, "x")] * 9)


def test_a_directory_of_something_else_or_of_another_process_is_refused(windows: Windows, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="another process is using"):
        Windows(windows.path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").touch()
    with pytest.raises(InputError, match="other files"):
        Windows(tmp_path / "other")


def test_verdicts_are_bounded(windows: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_of, "MAX_VERDICT_BYTES", 100)
    for number in range(50):
        windows.note({"window": number})
    files = sorted(windows.path.glob("verdicts*"))
    assert len(files) == 2
    assert all(path.stat().st_size <= 100 for path in files)
    assert json.loads(files[1].read_text().splitlines()[-1])["window"] == 49


def test_the_scenario_in_force_is_a_copy_and_a_wrong_one_does_not_replace_it(windows: Windows, tmp_path: Path) -> None:
    scenario = write_tiny(tmp_path)
    notes: list[str] = []
    manager = ServiceManager({})
    one = _Service(windows, ServeOptions(lambda: load(scenario), "", lambda _: None, notes.append), manager)
    copy = windows.path / "scenario/scenario.yaml"
    before = copy.read_text()
    scenario.write_text("version: 1\nname: Broken!\n")
    one.hang_up()
    one.tick()
    manager.close()
    assert copy.read_text() == before
    assert any("the current scenario is kept" in note for note in notes)


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    with listening(tmp_path / "notify") as end:
        manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for say in (manager.ready, manager.alive, manager.reloading, manager.stopping, lambda: manager.status("x")):
            say()
        manager.close()
        told = [end.recv(100).decode().partition("\n")[0] for _ in range(5)]
    assert told == ["READY=1", "WATCHDOG=1", "RELOADING=1", "STOPPING=1", "STATUS=x"]
    gone = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    gone.ready()  # nobody listens any more: that fails nothing
    gone.close()


@pytest.mark.requires("systemd-analyze")
def test_the_unit_is_valid(tmp_path: Path) -> None:
    unit = Path(__file__).parent.parent / "deploy/systemd/testbed-serve@.service"
    copy = tmp_path / "testbed-serve@soak.service"
    copy.write_text(unit.read_text().replace("/opt/testbed/bin/python", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def verdict_lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "verdicts.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until(happened: Any, process: subprocess.Popen[str]) -> Any:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if found := happened():
            return found
        time.sleep(0.05)
    process.kill()
    pytest.fail(f"it did not happen: {process.communicate(timeout=30)}")


def first_process(pid: int) -> int | None:
    """Return PID 1 of the sandbox below a process, once traffic flows in it."""
    names = {}
    for child in descendants(pid):
        try:
            names[Path(f"/proc/{child}/comm").read_text().strip()] = child
        except OSError:
            continue
    return names.get(INIT) if "agents" in names else None


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_a_window_that_was_stopped_before_its_first_packet_has_no_loss() -> None:
    """A figure that does not apply is absent from the summary, and then from the line of the verdicts."""
    made = synthetic_run.make(synthetic_run.facts())
    summary = {
        "verdict": "DEGRADED", "verdict_reasons": ["stopped before its end"],
        "traffic": {"sent_packets": 0, "unaccounted_packets": 0}, "buffer": {"policy": "lstm", "resizes": 0},
    }  # fmt: skip
    line = service.verdict_of(summary, made.evidence, took_s=25.0)
    assert "loss_ratio" not in line
    assert (line["verdict"], line["idle_s"]) == ("DEGRADED", 25.0 - line["traffic_s"])
    lossy = {**summary, "buffer": {"loss_ratio": 0.5}}
    assert service.verdict_of(lossy, made.evidence, took_s=25.0)["loss_ratio"] == 0.5


def test_the_death_of_a_sandbox_ends_a_window_and_sigterm_the_service(tmp_path: Path) -> None:
    out = tmp_path / "served"
    argv = [sys.executable, "-m", "testbed", "serve", str(SOAK), "--window", "5s", "--out", str(out), "--json"]
    with listening(tmp_path / "notify") as manager:
        told = environment(NOTIFY_SOCKET=str(tmp_path / "notify"))
        process = subprocess.Popen(argv, env=told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        os.kill(until(lambda: first_process(process.pid), process), signal.SIGKILL)
        until(lambda: len(verdict_lines(out)) == 1, process)
        until(lambda: (out / "windows/000002/samples.parquet").exists() and first_process(process.pid), process)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        said = manager.recv(200)
    first, second = verdict_lines(out)
    assert "the first process of its sandbox was ended by SIGKILL" in first["failure"]
    assert second["cut_short"] == "the service was stopped"
    assert said == b"READY=1"
