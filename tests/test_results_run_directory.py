"""The run directory: complete at the end, readable at any moment before, honest about what it is."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from testbed.errors import InputError, ToolError
from testbed.records.samples import SCHEMA
from testbed.results.recorded_run import is_alive, process_identity
from testbed.results.run_directory import CHECKPOINT_PERIOD_NS, CHECKPOINT_SHARE, EVENT_AGE_NS, RunDirectory
from tests import synthetic_run
from tests.sample_rows import columns

ROOT = Path(__file__).resolve().parent.parent


def sample(t_ns: int = 10, node: str = "n1", **more: int) -> dict[str, object]:
    zeros = dict.fromkeys(("arrived_bytes", "arrived_pkts", "dropped_bytes", "dropped_pkts", "backlog_bytes"), 0)
    return {"t_ns": t_ns, "node": node, **zeros, "limit_bytes": 500_000, **more}


class Clock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def test_a_directory_that_exists_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(InputError, match="exists already"):
        RunDirectory.create(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make"):
        RunDirectory.create(tmp_path / "file" / "run", {})


def test_from_its_first_moment_it_is_readable_and_says_running(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "run", {"facts": synthetic_run.facts().to_record()})
    run = RunDirectory.open(tmp_path / "run")
    assert run.status == "running"
    assert run.samples().num_rows == 0
    assert list(run.events()) == []
    assert run.document("summary.json") is None
    assert run.facts == synthetic_run.facts()


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    made = synthetic_run.make(synthetic_run.facts(seconds=2))
    synthetic_run.write(made, tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    assert run.status == "completed"
    assert run.manifest["ended_utc"].startswith("2030")
    assert run.samples().equals(made.samples)
    assert list(run.events()) == made.records()
    assert run.plan_hash == f"sha256:{1:064x}"
    evidence = run.evidence()
    assert evidence is not None
    assert evidence.to_record() == made.evidence.to_record()
    leftovers = [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
    assert leftovers == []


def test_rows_come_back_in_the_order_of_time(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    run.append_columns(columns([sample(20), sample(10, "n2")]))
    run.append_columns({name: [value] for name, value in sample(5, "n3").items()})
    run.finish("completed")
    table = RunDirectory.open(tmp_path / "run").samples()
    assert table.column("node").to_pylist() == ["n3", "n2", "n1"]
    assert table.schema.equals(SCHEMA)
    assert table.column("predicted_bytes").null_count == 3


def test_equal_rows_give_equal_bytes_however_they_arrived(tmp_path: Path) -> None:
    rows = [sample(t, weight=t) for t in range(1000)]
    one, two = (RunDirectory.create(tmp_path / name, {}) for name in ("one", "two"))
    one.append_columns(columns(rows))
    for row in rows:
        two.append_columns(columns([row]))
        two.checkpoint()
    one.finish("completed")
    two.finish("completed")
    assert (tmp_path / "one/samples.parquet").read_bytes() == (tmp_path / "two/samples.parquet").read_bytes()


def test_an_unknown_or_missing_column_is_refused(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    with pytest.raises(KeyError, match="color"):
        run.append_columns(columns([sample(1, color=3)]))
    row = sample()
    del row["limit_bytes"]
    with pytest.raises(KeyError, match="limit_bytes"):
        run.append_columns({name: [value] for name, value in row.items()})


def test_events_are_in_the_file_half_a_second_later(tmp_path: Path) -> None:
    clock = Clock()
    run = RunDirectory.create(tmp_path / "run", {}, clock_ns=clock)
    run.append_event(1, {"kind": "SetBufferLimit", "limit_bytes": [3]})
    assert list(RunDirectory.open(tmp_path / "run").events()) == []
    clock.now_ns = EVENT_AGE_NS
    run.checkpoint()
    (event,) = RunDirectory.open(tmp_path / "run").events()
    assert event == {"t_ns": 1, "kind": "SetBufferLimit", "limit_bytes": [3]}


def test_checkpoints_wait_a_second_and_twenty_times_their_cost(tmp_path: Path) -> None:
    clock = Clock()
    run = RunDirectory.create(tmp_path / "run", {}, clock_ns=clock)
    run.append_columns(columns([sample()]))
    assert not run.checkpoint()
    clock.now_ns = CHECKPOINT_PERIOD_NS
    write, cost_ns = run._samples.write, CHECKPOINT_PERIOD_NS // 4

    def slow_write() -> None:
        write()
        clock.now_ns += cost_ns

    run._samples.write = slow_write  # type: ignore[method-assign]
    assert run.checkpoint()
    assert RunDirectory.open(tmp_path / "run").samples().num_rows == 1
    run.append_columns(columns([sample(20)]))
    done_ns = clock.now_ns
    clock.now_ns = done_ns + CHECKPOINT_SHARE * cost_ns - 1
    assert not run.checkpoint()
    clock.now_ns += 1
    assert run.checkpoint()
    assert RunDirectory.open(tmp_path / "run").samples().num_rows == 2


def test_finishing_again_corrects_the_status_and_keeps_the_data(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    run.append_columns(columns([sample()]))
    run.append_event(1, {"kind": "A"})
    run.finish("completed")
    run.append_event(2, {"kind": "B"})
    run.finish("failed")
    read = RunDirectory.open(tmp_path / "run")
    assert (read.status, read.samples().num_rows, [event["kind"] for event in read.events()]) == (
        "failed",
        1,
        ["A", "B"],
    )


def test_a_killed_writer_leaves_a_readable_directory_that_says_killed(tmp_path: Path) -> None:
    program = f"""
        import sys, time
        sys.path.insert(0, {str(ROOT)!r})
        from pathlib import Path
        from testbed.results.run_directory import RunDirectory
        from tests.sample_rows import columns
        from tests.test_results_run_directory import sample
        now = [0]
        run = RunDirectory.create(Path({str(tmp_path / "run")!r}), {{}}, clock_ns=lambda: now[0])
        for k in range(10_000_000):
            now[0] += 10_000_000
            run.append_columns(columns([sample(now[0])]))
            run.append_event(now[0], {{"kind": "E", "text": "x" * 300}})
            run.checkpoint()
            if k == 1000:
                print("going", flush=True)
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    with writer.stdout:
        assert writer.stdout.readline() == "going\n"
        assert RunDirectory.open(tmp_path / "run").status == "running"
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    run = RunDirectory.open(tmp_path / "run")
    assert run.status == "killed"
    events, rows = list(run.events()), run.samples().num_rows
    assert rows >= 900
    assert len(events) >= rows - 100
    assert [event["t_ns"] for event in events] == [10_000_000 * (k + 1) for k in range(len(events))]


def test_a_process_is_told_from_another_with_its_id() -> None:
    mine = process_identity()
    assert is_alive(mine)
    assert not is_alive({**mine, "start_ticks": mine["start_ticks"] - 1})
    assert not is_alive({**mine, "boot": "another"})
    assert not is_alive({})


def test_a_last_line_cut_off_is_left_out_and_a_broken_one_refused(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    run.append_event(1, {"kind": "A"})
    run.finish("completed")
    path = tmp_path / "run" / "events.jsonl"
    path.write_text(path.read_text() + '{"t_ns":2,"ki')
    assert [event["t_ns"] for event in RunDirectory.open(tmp_path / "run").events()] == [1]
    path.write_text('{"t_ns":\n' + path.read_text())
    with pytest.raises(InputError, match="line 1"):
        list(RunDirectory.open(tmp_path / "run").events())


@pytest.mark.parametrize(
    ("content", "happened"),
    [
        (None, "no such directory"),
        ({}, r"has no manifest\.json"),
        ({"manifest.json": "{"}, "cannot be read"),
        ({"manifest.json": "[]"}, "written by schema None"),
        ({"manifest.json": '{"schema": 99, "status": "completed"}'}, "written by schema 99, this version reads 1"),
    ],
)
def test_a_foreign_directory_is_refused(tmp_path: Path, content: dict[str, str] | None, happened: str) -> None:
    path = tmp_path / "run"
    if content is not None:
        path.mkdir()
        for name, text in content.items():
            (path / name).write_text(text)
    with pytest.raises(InputError, match=happened):
        RunDirectory.open(path)


def test_half_a_run_is_refused_part_by_part(tmp_path: Path) -> None:
    path = tmp_path / "run"
    RunDirectory.create(path, {}).finish("completed")
    run = RunDirectory.open(path)
    with pytest.raises(InputError, match="lacks facts"):
        _ = run.facts
    (path / "evidence.json").write_text("{}")
    with pytest.raises(InputError, match="incomplete"):
        run.evidence()
    (path / "summary.json").write_text("[1]")
    with pytest.raises(InputError, match="no JSON object"):
        run.document("summary.json")
    pq.write_table(SCHEMA.empty_table().drop_columns(["limit_bytes"]), path / "samples.parquet")
    with pytest.raises(InputError, match="lacks the columns limit_bytes"):
        run.samples()
    (path / "samples.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match="not a readable Parquet"):
        run.samples()
    (path / "samples.parquet").unlink()
    with pytest.raises(InputError, match="no such file"):
        run.samples()


def limited_to(file_bytes: int) -> tuple[int, int]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    return before


def test_a_disk_that_takes_no_more_is_an_error_and_keeps_what_it_had(tmp_path: Path) -> None:
    clock = Clock()
    run = RunDirectory.create(tmp_path / "run", {}, clock_ns=clock)
    run.append_columns(columns([sample()]))
    run.append_event(1, {"kind": "E"})
    clock.now_ns = CHECKPOINT_PERIOD_NS
    assert run.checkpoint()
    before = limited_to(8192)
    try:
        run.append_columns(columns([sample(t, weight=hash(str(t)) % 10**9) for t in range(20_000)]))
        for t_ns in range(2, 500):
            run.append_event(t_ns, {"kind": "E", "text": "x" * 100})
        clock.now_ns = 3 * CHECKPOINT_PERIOD_NS
        with pytest.raises(ToolError, match=r"File too large.*remains readable"):
            run.checkpoint()
        with pytest.raises(ToolError, match=r"samples\.parquet"):
            run.finish("completed")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    read = RunDirectory.open(tmp_path / "run")
    assert read.status == "failed"
    assert read.samples().num_rows == 1
    assert (tmp_path / "run" / "events.jsonl").read_bytes().endswith(b"}\n")
    assert 10 < len(list(read.events())) < 100


@pytest.mark.requires("root")
@pytest.mark.parametrize("met", ["while they come", "at the end"])
def test_a_full_disk_says_so(tmp_path: Path, met: str) -> None:
    program = """
        import sys
        from contextlib import suppress
        from pathlib import Path
        from testbed.errors import ToolError
        from testbed.results.run_directory import RunDirectory
        from tests.sample_rows import columns
        from tests.test_results_run_directory import sample
        run = RunDirectory.create(Path(sys.argv[1]) / "run", {})
        rows = [sample(t, weight=hash(str(t)) % 10**9) for t in range(60_000)]
        try:
            run.append_columns(columns(rows if sys.argv[2] == "while they come" else rows[:30_000]))
            run.finish("completed")
        except ToolError as error:
            with suppress(ToolError):
                run.finish("failed")
            print(error, RunDirectory.open(run.path).status, RunDirectory.open(run.path).samples().num_rows)
    """
    inside = f'mount -t tmpfs -o size=128k none {tmp_path} && "$0" -c "$1" {tmp_path} "$2"'
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", inside, sys.executable, textwrap.dedent(program), met],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "No space left on device" in ended.stdout
    assert "free disk space" in ended.stdout
    assert ended.stdout.endswith("failed 0\n")


def test_numbers_that_json_does_not_know_are_refused(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", {})
    with pytest.raises(ValueError, match="JSON"):
        run.append_event(1, {"kind": "E", "value": float("nan")})
    assert json.loads((tmp_path / "run/manifest.json").read_text())["status"] == "running"
