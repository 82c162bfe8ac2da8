"""Exit codes and output hold whatever the streams, the locale, the terminal and the folder are, and whatever fails."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from testbed import cli
from testbed.errors import (
    EXIT_BAD_INPUT,
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_MACHINE_LACKS,
    EXIT_OK,
    EXIT_TOOL_FAILED,
    InputError,
    Interrupted,
    TestbedError,
    ToolError,
)
from testbed.report import page
from testbed.results.recorded_run import RecordedRun
from testbed.scenario.loading import load
from testbed.system import interrupts, streams
from testbed.trials import run
from tests.command import call, shell, write_tiny


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny(tmp_path)


# ----------------------------------------------------------------------------------------------------------- streams


def test_the_version_is_printed_without_a_verb() -> None:
    done = call("--version")
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_OK, "0.1.0\n", "")


def test_a_reader_that_leaves_changes_no_exit_code(tiny: Path) -> None:
    first = "testbed simulate tiny.yaml --out a | head -1; echo ${PIPESTATUS[0]}"
    found = "set -o pipefail; testbed simulate tiny.yaml --out b | grep -q VALID; echo $?"
    nobody = "{ testbed validate tiny.yaml missing.yaml; echo $? >&2; } | true"
    for line, code in ((first, "0"), (found, "0"), (nobody, "2")):
        done = shell(line, tiny.parent)
        assert (done.stdout + done.stderr).split()[-1] == code, (line, done)
        assert "Traceback" not in done.stderr


def test_a_full_disk_below_standard_output_is_said(tiny: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = call("validate", tiny, stdout=full)
    assert done.returncode == EXIT_TOOL_FAILED
    assert done.stderr.splitlines()[-1] == (  # a busy machine says before that it is still checking
        "testbed: writing standard output: no space left on device; free disk space, or write to another location"
    )


def test_a_full_disk_below_standard_error_changes_nothing(tiny: Path) -> None:
    assert shell("testbed simulate missing.yaml 2>/dev/full", tiny.parent).returncode == EXIT_BAD_INPUT
    assert shell("testbed simulate tiny.yaml --out a 2>/dev/full", tiny.parent).returncode == EXIT_OK


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_no_harm(tiny: Path, closed: str) -> None:
    done = shell(f"testbed simulate tiny.yaml --out run {closed}", tiny.parent)
    assert done.returncode == EXIT_OK, done.stderr
    assert json.loads((tiny.parent / "run/manifest.json").read_text())["status"] == "completed"
    assert not any("VALID" in path.read_text(errors="replace") for path in (tiny.parent / "run").glob("*.jsonl"))


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_taken_before_anything_else_gets_their_numbers(tmp_path: Path, closed: str) -> None:
    code = (
        "import os; from testbed.system import streams; streams.secure(); "
        "found = [os.readlink(f'/proc/self/fd/{number}') for number in range(3)]; "
        "inherited = [os.get_inheritable(number) for number in range(3)]; "
        "import sys; print('x', file=sys.stderr); print('x'); sys.stdin.read(); "
        "open('found', 'w').write(repr((found, inherited, os.open('found', os.O_RDONLY))))"
    )
    line = f'"{sys.executable}" -c "{code}" {closed}'
    done = shell(line, tmp_path)
    assert done.returncode == 0, done.stderr
    found, inherited, following = eval((tmp_path / "found").read_text())
    for number, redirection in enumerate(("<&-", ">&-", "2>&-")):
        if redirection in closed.split():
            assert found[number] == "/dev/null"
    assert inherited == [True] * 3
    assert following > 2


@pytest.mark.requires("root", "bpf", "ovs", "mininet")
def test_an_emulated_run_does_without_streams(tiny: Path) -> None:
    shell("testbed run tiny.yaml --out run --no-live <&- >&- 2>&-", tiny.parent)
    assert json.loads((tiny.parent / "run/manifest.json").read_text())["status"] == "completed"


@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1", "utf-16"])
def test_any_encoding_holds_what_is_printed(tiny: Path, encoding: str) -> None:
    done = call("simulate", tiny, "--out", tiny.parent / "run", env={"PYTHONIOENCODING": encoding})
    assert done.returncode == EXIT_OK, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    "locale", [{}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_names_that_are_no_text_are_shown_with_escapes(tiny: Path, locale: dict[str, str]) -> None:
    odd = os.fsencode(tiny.parent / "odd") + b"\xff:[b].yaml"
    shutil.copyfile(tiny, odd)
    out = os.fsencode(tiny.parent / "run") + b"\xfe:[b]"
    done = call("simulate", odd, "--out", out, env=locale)
    assert (done.returncode, done.stderr) == (EXIT_OK, "")
    assert "run\\xfe:[b] (report.html" in done.stdout
    for verb in ("report", "replay"):
        assert call(verb, out, env=locale).returncode == EXIT_OK
    missing = call("validate", odd[:-1], env=locale)
    assert missing.returncode == EXIT_BAD_INPUT
    assert "odd\\xff:[b].yam: there is no such file" in missing.stderr


def test_what_a_stream_cannot_encode_is_spelled_in_ascii() -> None:
    streams.secure()
    text = "0.1 MB·s, 1.3 × the mean → 5 µs … \udcff\ue000é"
    assert text.encode("ascii", streams.REPLACED) == b"0.1 MB.s, 1.3 x the mean -> 5 us ... \\xff\\ue000\\xe9"


# ------------------------------------------------------------------------------------------- terminal, folder, home


@pytest.mark.parametrize(
    "env",
    [
        {"COLUMNS": "0", "LINES": "-1"},
        {"COLUMNS": "9" * 30, "LINES": "x", "TERMINAL_WIDTH": "wide"},
        {"COLUMNS": "1", "TERM": "dumb", "NO_COLOR": "1"},
    ],
)
def test_help_is_printed_whatever_the_terminal_says_of_itself(env: dict[str, str]) -> None:
    done = call("run", "--help", env=env)
    assert done.returncode == EXIT_OK
    assert "--repeat" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_folder_that_is_gone_and_no_home_do_no_harm(tiny: Path) -> None:
    line = "mkdir gone; cd gone; rmdir ../gone; unset HOME; testbed {}; echo $?"
    for words, code in ((f"validate {tiny}", "0"), (f"simulate {tiny} --out {tiny.parent}/run", "0"), ("ps", "0")):
        done = shell(line.format(words), tiny.parent)
        assert done.stdout.split()[-1] == code, done
    done = shell(line.format(f"simulate {tiny}"), tiny.parent)
    assert done.stdout.split()[-1] == str(EXIT_BAD_INPUT)
    assert "choose a writable directory" in done.stderr


# ------------------------------------------------------------------------------------------------------ last handler


def planted(folder: Path, name: str, source: str) -> dict[str, str]:
    """Return an environment in which a package is what `source` says."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(source, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("number", interrupts.STOP_SIGNALS)
def test_a_request_to_stop_within_an_import_ends_it_at_once_even_where_it_is_swallowed(
    tmp_path: Path, number: signal.Signals
) -> None:
    source = f"import os\ntry:\n    os.kill(os.getpid(), {number:d})\nexcept BaseException:\n    pass\n"
    before = signal.signal(number, lambda *_: None)  # it may be ignored here, as in a job that a shell put behind
    done = call("ps", env=planted(tmp_path, "typer", source))
    signal.signal(number, before)
    assert (done.returncode, done.stderr) == (EXIT_INTERRUPTED, "testbed: stopped\n")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise ModuleNotFoundError('no', name='typer.core')", "lacks typer"),
        ("raise ImportError('libz.so: cannot open shared object file', name='typer')", "cannot load typer: libz.so"),
        ("raise ImportError('x')", "cannot load a package: x"),
    ],
)
def test_a_package_that_cannot_be_imported_is_a_lack_of_the_machine(tmp_path: Path, source: str, said: str) -> None:
    done = call("ps", env=planted(tmp_path, "typer", source))
    assert done.returncode == EXIT_MACHINE_LACKS
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            OSError(28, "No space left on device", "/x/y"),
            EXIT_TOOL_FAILED,
            "no space left on device: /x/y; free disk space",
        ),
        (OSError(24, "Too many open files"), EXIT_MACHINE_LACKS, "too many open files; raise the limit"),
        (PermissionError(1, "Operation not permitted"), EXIT_MACHINE_LACKS, "doctor"),
        (MemoryError(), EXIT_MACHINE_LACKS, "not enough memory"),
        (EOFError("ran out of input"), EXIT_BUG, "our own bug: EOFError: ran out of input"),
        (OSError(9, "Bad file descriptor"), EXIT_BUG, "our own bug: OSError"),
        (BrokenPipeError(32, "Broken pipe"), EXIT_BUG, "our own bug: BrokenPipeError"),
        (SystemExit(1), EXIT_BUG, "our own bug: SystemExit: 1"),
        (ImportError("x", name="testbed.nowhere"), EXIT_BUG, "our own bug: ImportError: x"),
        (KeyError("many\nlines\nof\nit\nand\nmore"), EXIT_BUG, "our own bug: KeyError: 'many"),
        (KeyboardInterrupt(), EXIT_INTERRUPTED, "stopped"),
        (InputError("reading x", "no such file"), EXIT_BAD_INPUT, "reading x: no such file"),
        (ToolError("a", "b\nc"), EXIT_TOOL_FAILED, "a: b\nc"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_whatever_a_verb_raises_gets_the_exit_code_it_deserves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("testbed.results.running.running", fail)
    monkeypatch.setattr(sys, "argv", ["testbed", "ps"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    message = capsys.readouterr().err
    assert ended.value.code == code
    assert message.startswith("testbed: ")
    assert said in message
    assert len(message.splitlines()) <= 5
    assert ("our own bug" in message) == (code == EXIT_BUG)


def test_wrong_usage_is_bad_input() -> None:
    for words in (("nosuchverb",), ("run",), ("run", "x.yaml", "--seed", "x"), ("--nosuch",)):
        assert call(*words).returncode == EXIT_BAD_INPUT


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("a bug"), "failed"),
        (MemoryError(), "failed"),
        (ToolError("a", "b"), "failed"),
        (SystemExit(3), "failed"),
        (KeyboardInterrupt(), "interrupted"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_whatever_ends_a_run_its_directory_does_not_stay_running(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("testbed.simulation.engine.simulate", fail)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(type(error)):
        run.run(load(tiny), run.RunOptions("simulation", tiny.parent / "run"))
    assert signal.getsignal(signal.SIGINT) is before
    assert json.loads((tiny.parent / "run/manifest.json").read_text())["status"] == status


@pytest.mark.parametrize(
    ("error", "raised", "status"),
    [(KeyboardInterrupt(), Interrupted, "completed"), (ToolError("write", "no space"), ToolError, "failed")],
)
def test_what_meets_the_page_takes_nothing_from_results_that_are_complete(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, raised: type[TestbedError], status: str
) -> None:
    def meet(*_: object) -> None:
        raise error

    monkeypatch.setattr(page, "write_page", meet)
    out = tiny.parent / "run"
    with pytest.raises(raised):
        run.run(load(tiny), run.RunOptions(engine="simulation", out=out, live=False, quiet=True))
    recorded = RecordedRun.open(out)
    assert (recorded.status, (recorded.document("summary.json") or {})["status"]) == (status, "completed")
    assert "TrialFailed" not in [record["kind"] for record in recorded.events()]
