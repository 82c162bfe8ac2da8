"""Simulated trials on all processors: what is seen is what one at a time would show, and nothing outlives a stop."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from testbed.capacity import memory
from testbed.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TOOL_FAILED, InputError, MachineError, ToolError
from testbed.report.sweep_progress import SweepProgress
from testbed.results.outcome import COUNTING
from testbed.scenario import loading
from testbed.scenario.overrides import Setting
from testbed.system import allowance
from testbed.trials import agree, claims, process, repeating, sweep
from testbed.trials.process import Ended, TrialCall, TrialProcesses, jobs_for
from testbed.trials.run import RunOptions
from tests.command import call, write_tiny

GB = 10**9
SWEEP = """\
# Which one?
version: 1
name: some
scenario: tiny.yaml
set: {buffer.policy: [static-mean, reactive, static-max]}
mean_from: reactive
seeds: 1
"""
FIRST, SECOND, LAST = (f"policy={policy},seed=1" for policy in ("reactive", "static-max", "static-mean"))
DATA = ("scenario.yaml", "summary.json", "events.jsonl", "samples.parquet", "plan.parquet", "fidelity.json")

PRELUDE = """\
import os, pathlib, signal, sys, time
here, words = pathlib.Path(sys.argv[1]), sys.argv[2:]
def began(): (here / f"began-{words[1]}").write_text(str(os.getpid()))
def until(path):
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)
"""
REAL = "\nsys.argv[1:] = words\nfrom testbed.cli import main\nmain()"


@pytest.fixture
def made_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that makes trials run a piece of Python, with a folder and the words of the trial."""

    def replace(code: str) -> None:
        monkeypatch.setattr(process, "TESTBED", (sys.executable, "-c", PRELUDE + code, str(tmp_path)))

    return replace


def calls_in(folder: Path, count: int) -> list[TrialCall]:
    loaded = loading.load(write_tiny(folder))
    return [TrialCall(f"{k}", ("run", str(k)), folder / f"out{k}", loaded) for k in range(count)]


def upcoming(calls: list[TrialCall]) -> Callable[[], TrialCall | None]:
    left = deque(calls)
    return lambda: left.popleft() if left else None


def begun(folder: Path) -> dict[str, int]:
    return {path.name: int(path.read_text() or 0) for path in folder.glob("began-*")}


def alive(folder: Path) -> list[str]:
    return [name for name, pid in begun(folder).items() if Path(f"/proc/{pid}").exists()]


# -------------------------------------------------------------------------------------------------------- processes


def test_later_trials_begin_before_their_turn_and_are_handed_over_in_order(made_of, tmp_path: Path) -> None:
    made_of("began()\nif words[1] == '0':\n    until(here / 'began-1')\n    sys.exit(len(list(here.glob('began-*'))))")
    first, *others = calls_in(tmp_path, 3)
    with TrialProcesses(lambda: None, 2) as run, run.looking_ahead(upcoming(others)):
        assert run(first).exit_code >= 2, "it waits for the second"
        assert [run(one) for one in others] == [Ended(0), Ended(0)]
    assert len(begun(tmp_path)) == 3


@pytest.mark.parametrize(("jobs", "free_bytes"), [(1, 10**15), (3, 0)], ids=["one job", "no memory"])
def test_nothing_begins_before_its_turn_without(
    made_of, tmp_path: Path, monkeypatch, jobs: int, free_bytes: int
) -> None:
    monkeypatch.setattr(allowance, "free_bytes", lambda: free_bytes)
    made_of("began()\nsys.exit(len(list(here.glob('began-*'))))")
    first, *others = calls_in(tmp_path, 3)
    with TrialProcesses(lambda: None, jobs) as run, run.looking_ahead(upcoming(others)):
        assert [run(one).exit_code for one in (first, *others)] == [1, 2, 3]


def test_a_stop_ends_all_also_those_that_do_not_listen(made_of, tmp_path: Path) -> None:
    made_of("words[1] == '1' and signal.signal(signal.SIGINT, signal.SIG_IGN)\nbegan()\ntime.sleep(60)")
    first, *others = calls_in(tmp_path, 3)

    def stop() -> None:
        if len([pid for pid in begun(tmp_path).values() if pid]) == 2 and not run.stopped():
            signal.raise_signal(signal.SIGINT)

    with TrialProcesses(stop, 2) as run, run.looking_ahead(upcoming(others)):
        assert run(first).exit_code == EXIT_INTERRUPTED
        assert alive(tmp_path) == []
        assert run(others[0]) == Ended(EXIT_INTERRUPTED)
    assert sorted(begun(tmp_path)) == ["began-0", "began-1"]


def test_after_an_error_of_the_caller_none_runs_any_more(made_of, tmp_path: Path) -> None:
    made_of("began()\nuntil(here / 'began-1')\nwords[1] == '1' and time.sleep(60)")
    first, second = calls_in(tmp_path, 2)

    def fail() -> None:
        with run.looking_ahead(upcoming([second])):
            assert run(first) == Ended(0)
            raise ValueError("wrong")

    with TrialProcesses(lambda: None, 2) as run:
        with pytest.raises(ValueError, match="wrong"):
            fail()
        assert alive(tmp_path) == []


def test_a_killed_process_says_by_which_signal(made_of, tmp_path: Path) -> None:
    made_of("os.kill(os.getpid(), signal.SIGKILL)")
    with TrialProcesses(lambda: None, 2) as run:
        assert run(calls_in(tmp_path, 1)[0]) == Ended(-9, "its process was ended by signal 9 (Killed)")


def test_a_trial_begins_where_what_the_others_will_take_leaves_enough(monkeypatch) -> None:
    monkeypatch.setattr(allowance, "free_bytes", lambda: 3 * GB)
    ours = memory.resident_bytes(os.getpid())
    assert 10**7 < ours < 3 * GB
    assert memory.fits(3 * GB, []) is True
    assert memory.fits(3 * GB + 1, []) is False
    assert memory.fits(2 * GB, [(os.getpid(), ours // 2)]) is True, "it holds all that it takes"
    assert memory.fits(2 * GB, [(os.getpid(), 9 * GB)]) is False
    assert memory.resident_bytes(2**22) == 0


def test_large_trials_take_more(tmp_path: Path) -> None:
    def most_bytes(**settings: Any) -> int:
        changed = [Setting("", key.replace("__", "."), value) for key, value in settings.items()]
        return memory.MemoryNeeds().most_bytes(loading.load(write_tiny(tmp_path), changed))

    small = most_bytes()
    packets = most_bytes(traffic__load__rate="10Mbit") - small
    assert packets == pytest.approx(memory.PACKET_BYTES * 9e6 * 0.2 / 8 / 500, rel=0.01)
    assert most_bytes(buffer__sample_interval="5ms") - small == memory.SAMPLE_BYTES * 20


# ------------------------------------------------------------------------------------------------------- the number


def test_how_many_run_at_a_time(monkeypatch) -> None:
    monkeypatch.setattr(allowance, "cores", lambda: 5)
    assert [jobs_for("simulation", jobs) for jobs in (None, 1, 9)] == [5, 1, 9]
    assert [jobs_for("emulation", jobs) for jobs in (None, 1)] == [1, 1]
    with pytest.raises(InputError, match="--jobs 2: trials of the emulation run one at a time: they would compete"):
        jobs_for("emulation", 2)
    with pytest.raises(InputError, match="expected 1 or more"):
        jobs_for("simulation", 0)


def test_several_emulated_trials_at_a_time_are_refused(tmp_path: Path) -> None:
    for refused in (sweep.sweep, lambda path, **jobs: claims.claims([path], **jobs)):
        with pytest.raises(InputError, match="run one at a time"):
            refused(tmp_path / "none.yaml", engine="emulation", jobs=2)
    done = call("run", write_tiny(tmp_path), "--repeat", "2", "--jobs", "2")
    assert (done.returncode, done.stderr.partition(": trials of the emulation")[0]) == (2, "testbed: --jobs 2")


def test_of_both_engines_jobs_are_those_of_the_simulation(tmp_path: Path, monkeypatch) -> None:
    given = []
    monkeypatch.setattr(sweep, "sweep", lambda *_, jobs, **__: given.append(jobs))
    for engine in agree.COMPARED:
        agree._swept(tmp_path, tmp_path, engine, 3, True, ())
    assert given == [None, 3]


def groups(folder: Path, files: dict[str, str], groups: str, mounts: str) -> Path:
    """Write control groups and what ``/proc`` says of a process in them, and return its folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text + "\n")
    (folder / "proc").mkdir()
    (folder / "proc/cgroup").write_text(groups)
    (folder / "proc/mountinfo").write_text(mounts.replace("@", str(folder)))
    return folder / "proc"


V2 = ("0::/job/step\n", "30 20 0:26 / @/sys rw - cgroup2 cgroup2 rw\n")
V1 = (
    "5:memory:/job\n4:cpu,cpuacct:/job\n0::/\n",
    "31 20 0:27 / @/cpu rw - cgroup cgroup rw,cpu,cpuacct\n32 20 0:28 / @/memory rw - cgroup cgroup rw,memory\n",
)


@pytest.mark.parametrize(
    ("files", "where", "cores"),
    [
        ({"sys/job/step/cpu.max": "200000 100000"}, V2, 2),
        ({"sys/job/step/cpu.max": "max 100000", "sys/job/cpu.max": "150000 100000"}, V2, 2),
        ({"sys/job/step/cpu.max": "50000 100000"}, V2, 1),
        ({"sys/job/step/cpu.max": "max 100000"}, V2, 8),
        ({"sys/job/step/cpu.max": "9900000 100000"}, V2, 8),
        ({"sys/job/step/cpu.max": "nonsense"}, V2, 8),
        ({"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"}, V1, 3),
        ({"cpu/job/cpu.cfs_quota_us": "-1", "cpu/job/cpu.cfs_period_us": "100000"}, V1, 8),
        ({}, ("", ""), 8),
    ],
)
def test_cores_are_those_of_the_mask_within_every_quota(tmp_path: Path, monkeypatch, files, where, cores) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert allowance.cores(groups(tmp_path, files, *where)) == cores
    assert allowance.cores(tmp_path / "nowhere") == 8


def test_memory_is_what_every_group_leaves(tmp_path: Path) -> None:
    second = {"memory.max": "5000", "memory.current": "4000", "memory.stat": "anon 9\ninactive_file 500\n"}
    there = groups(tmp_path / "2", {f"sys/job/{name}": text for name, text in second.items()}, *V2)
    assert allowance.free_bytes(there) == 1500
    first = {"memory.limit_in_bytes": "900", "memory.usage_in_bytes": "1000", "memory.stat": "inactive_file 7"}
    assert allowance.free_bytes(groups(tmp_path / "1", {f"memory/job/{k}": v for k, v in first.items()}, *V1)) == 0
    free = allowance.free_bytes(groups(tmp_path / "0", {"sys/job/memory.max": "max"}, *V2))
    assert free > 10**6, "that of the machine"


# --------------------------------------------------------------------------------------------------------- a sweep


def swept(folder: Path, name: str, jobs: int, *, quiet: bool = True) -> sweep.SweepResult:
    write_tiny(folder)
    (folder / "some.yaml").write_text(SWEEP)
    return sweep.sweep(folder / "some.yaml", folder / name, "simulation", jobs=jobs, quiet=quiet)


def listed(path: Path) -> dict[str, Any]:
    return json.loads((path / "sweep.json").read_text())


def runs_of(path: Path) -> dict[str, list[tuple[str, str]]]:
    return {one["name"]: [(run["path"], run["outcome"]) for run in one["runs"]] for one in listed(path)["trials"]}


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if "seed=1" in line and " so far)" not in line]


def test_two_at_a_time_give_what_one_gives(made_of, tmp_path: Path, capsys) -> None:
    one = swept(tmp_path, "one", 1, quiet=False)
    lines = lines_of(capsys)
    made_of(f"({FIRST!r} in words[-3]) and until(here / 'two' / {SECOND!r} / 'summary.json')" + REAL)
    two = swept(tmp_path, "two", 2, quiet=False)  # the first ends last
    assert (two.exit_code, two.unsettled) == (one.exit_code, one.unsettled) == (EXIT_OK, 0)
    assert lines_of(capsys) == lines
    assert [line.split()[1].rstrip(":") for line in lines] == [FIRST, SECOND, LAST]
    assert two.table.to_record() == one.table.to_record()
    changing = {"started_utc", "ended_utc", "process"}
    assert [{k: v for k, v in listed(x.path).items() if k not in changing} for x in (one, two)] == [
        {k: v for k, v in listed(one.path).items() if k not in changing}
    ] * 2
    for name in (FIRST, SECOND, LAST):
        for file in DATA:
            assert (two.path / name / file).read_bytes() == (one.path / name / file).read_bytes(), (name, file)


def test_a_sweep_is_stopped_and_goes_on_with_nothing_lost_and_nothing_twice(tmp_path: Path, monkeypatch) -> None:
    ran = SweepProgress.ran

    def stop(progress: SweepProgress, *details: Any) -> None:
        ran(progress, *details)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(SweepProgress, "ran", stop)
    stopped = swept(tmp_path, "out", 2)
    assert stopped.exit_code == EXIT_INTERRUPTED
    assert stopped.unsettled >= 1
    assert listed(stopped.path)["status"] == "interrupted"
    before = runs_of(stopped.path)
    assert [outcome for _, outcome in before[FIRST]] == ["VALID"]
    assert "running" not in {outcome for runs in before.values() for _, outcome in runs}
    made = {path: path.stat().st_mtime_ns for path in stopped.path.glob("*/summary.json")}
    monkeypatch.setattr(SweepProgress, "ran", ran)
    done = swept(tmp_path, "out", 2)
    assert (done.exit_code, done.unsettled) == (EXIT_OK, 0)
    after = runs_of(done.path)
    assert [sum(outcome in COUNTING for _, outcome in runs) for runs in after.values()] == [1, 1, 1]
    assert all(after[name][: len(runs)] == runs for name, runs in before.items())
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_trial_that_is_killed_is_named_and_the_others_are_kept(made_of, tmp_path: Path, capsys) -> None:
    made_of(f"({SECOND!r} in words[-3]) and os.kill(os.getpid(), signal.SIGKILL)" + REAL)
    result = swept(tmp_path, "out", 2, quiet=False)
    assert (result.exit_code, result.unsettled) == (EXIT_TOOL_FAILED, 1)
    lines = lines_of(capsys)
    assert lines[1] == f"killed      {SECOND}: its process was ended by signal 9 (Killed)"
    assert {name: [outcome for _, outcome in runs] for name, runs in runs_of(result.path).items()} == {
        FIRST: ["VALID"], SECOND: [], LAST: ["VALID"],
    }  # fmt: skip


def test_how_many_are_done_is_said() -> None:
    now_s, out = [0.0], io.StringIO()
    with SweepProgress(Console(file=out, width=80), 6, clock_s=lambda: now_s[0]) as progress:
        progress.skipped()
        progress.running("a")
        now_s[0] = 2.0
        progress.tick(ahead=2, beside=1)
        assert progress.left_text == "", "nothing was handed over yet"
        progress.settled()
        progress.tick(ahead=1, beside=1)
        assert progress.left_text == "3 s left"  # two in 2 s, three to go
    assert out.getvalue().rstrip() == "running a and 1 more (2 s so far); 3 of 6 trials are done"


# -------------------------------------------------------------------------------------------------------- `--repeat`


def test_trials_of_one_scenario_are_the_same_side_by_side(tmp_path: Path) -> None:
    words = ("run", write_tiny(tmp_path), "--engine", "simulation", "--repeat", "2", "--no-live", "--seed", "7")
    one, two = (call(*words, "--json", "--jobs", jobs, "--out", tmp_path / jobs) for jobs in ("1", "2"))
    assert (two.returncode, two.stdout) == (one.returncode, one.stdout)
    assert [summary["seed"] for summary in json.loads(two.stdout)] == [7, 7]
    shown = [[line for line in done.stderr.splitlines() if " so far)" not in line] for done in (one, two)]
    assert [line.replace(str(tmp_path / "2"), str(tmp_path / "1")) for line in shown[1]] == shown[0]
    assert sum("VALID" in line for line in shown[0]) == 2
    command = json.loads((tmp_path / "2/2/manifest.json").read_text())["command"]
    assert command[:3] == ["run", "--seed", "7"]
    assert str(tmp_path / "2/2") in command


def test_the_error_of_a_trial_keeps_its_class_and_its_words(made_of, tmp_path: Path) -> None:
    made_of("print('testbed: mend it: it lacks a wheel; buy one', file=sys.stderr)\nsys.exit(3)")
    loaded, options = loading.load(write_tiny(tmp_path)), RunOptions("simulation", tmp_path / "out", quiet=True)
    with pytest.raises(MachineError, match=r"^mend it: it lacks a wheel; buy one$"):
        list(repeating.repeated(loaded, options, 3, 2, ("run",)))


def test_killed_trials_are_named_after_the_others_were_made(made_of, tmp_path: Path, capsys) -> None:
    made_of("words[-3].endswith('2') or os.kill(os.getpid(), signal.SIGKILL)" + REAL)
    words = ("run", str(write_tiny(tmp_path)), "--engine", "simulation")
    loaded, options = loading.load(words[1]), RunOptions("simulation", tmp_path / "out", quiet=True)
    results = []

    def take() -> None:
        for result in repeating.repeated(loaded, options, 3, 2, words):
            results.append(result.path.name)  # noqa: PERF401 - those that came before the error count

    with pytest.raises(ToolError, match=r"trial 1 of 3, .*out/1: its process was ended by signal 9"):
        take()
    assert "trial 3 of 3" in capsys.readouterr().err
    assert results == ["2"]
